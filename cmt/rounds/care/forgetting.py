"""Forgetting documents: which ones, the announcement, and the list of those that are forgotten.

`cmt.rounds.erasure` does what was announced, also after a kill.
"""

import textwrap
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from cmt.bank.rounds import check_uninterrupted
from cmt.common.storage import write_checked_json
from cmt.errors import BankError, UnknownDocumentError
from cmt.project import Project
from cmt.rounds import _purging
from cmt.rounds.erasure import ForgetReport, Journal, banks_of, finish
from cmt.stream.forgotten import Forgotten
from cmt.text.display import without_publisher
from cmt.text.words import words

_BEGINNING = 60  # characters of a text that a list shows


@dataclass(frozen=True)
class ForgottenDocument:
    """A document that is forgotten."""

    doc_id: str
    sources: tuple[str, ...]
    """The sources whose near-copies of it are refused; empty: every source."""
    dates: tuple[datetime, ...]
    """The dates of its versions; empty if it was forgotten by another project, or never in the
    stream.
    """


@dataclass(frozen=True)
class Candidate:
    """A document that would be forgotten."""

    doc_id: str
    published_at: datetime
    title: str | None
    source: str | None
    begins: str  # the first words of its text


def forget(
    project: Project,
    doc_ids: Collection[str],
    *,
    purge: bool = False,
    everywhere: bool = False,
    undo: bool = False,
) -> ForgetReport:
    """Forget documents for good; call it inside `recovery.updating`, after `recovery.recover`.

    `everywhere`: refuse near-copies of every source. `undo`, with `purge`: the documents are
    forgotten and may come back once their texts are purged. A document whose round is pending has
    no rows yet and will get none. Raises UnknownDocumentError if neither a bank nor the stream has
    one of the documents, with `undo` if one is not forgotten, and with `purge` StreamError if a
    slice is damaged; nothing was changed then.
    """
    if not doc_ids:
        return ForgetReport((), 0)
    # 1. Finish an earlier forgetting, whose journal this one would replace.
    finish(project)
    # 2. Check that the documents exist.
    if undo and (unknown := sorted(set(doc_ids).difference(project.history.forgotten()))):
        raise UnknownDocumentError(
            f"document {unknown[0]!r} is not forgotten: `cmt forget --list` lists them; "
            "nothing was changed"
        )
    banks = banks_of(project)
    doc_ids_at_hand = {
        *project.store.all_documents()["doc_id"].to_pylist(),
        *project.history.forgotten(),
    }
    doc_ids_at_hand |= {doc_id for bank in banks for doc_id in bank.present(doc_ids)}
    if unknown := [doc_id for doc_id in doc_ids if doc_id not in doc_ids_at_hand]:
        raise UnknownDocumentError(
            f"document {unknown[0]!r} is neither in bank {project.params.bank.uri} nor in "
            f"{project.params.stream.path}: nothing was forgotten"
        )
    # 3. Their other names go with them; then announce it.
    doc_ids = set(doc_ids) if undo else {*doc_ids, *project.store.copies(doc_ids)}
    slices: dict[str, list[str]] = {}
    if purge:
        check_uninterrupted(project.history.all_rounds(), "a purge")
        for slice_ in project.store.slices_containing(doc_ids):
            project.store.check(slice_)  # a damaged slice would get a digest that says it is sound
            slices[slice_.slice_id] = [
                slice_.digest,
                project.store.purged_digest(slice_, doc_ids),
            ]
    with _purging.writing(project):
        journal = Journal(sorted(doc_ids), purge, slices, everywhere, undo)
        write_checked_json(project.history.forgetting_journal, asdict(journal))
    # 4. Do it.
    report = finish(project)
    assert report is not None  # noqa: S101 - the journal was just written
    return report


def forgotten_documents(project: Project) -> list[ForgottenDocument]:
    """The forgotten documents, by doc_id. Raises StreamError or DamageError if a list of them is
    damaged.
    """
    forgotten = Forgotten.read(project.store.path)
    dates: dict[str, set[datetime]] = {}
    for version in forgotten.names:
        dates.setdefault(version.doc_id, set()).add(version.published_at)
    return [
        ForgottenDocument(
            name, tuple(sorted(forgotten.sources.get(name, ()))), tuple(sorted(dates.get(name, ())))
        )
        for name in project.history.forgotten()
    ]


def candidates(
    project: Project, *, source: str | None, matching: str | None
) -> dict[str, Candidate]:
    """The documents of the stream whose source is `source`, by date, then those of the bank that
    have every word of `matching`, superseded ones included, best first; by doc_id.

    Raises BankError if there is no bank to match, or if it keeps no texts.
    """
    found: dict[str, Candidate] = {}
    if source is not None:
        rows = (
            project.store.all_documents()
            .select(["doc_id", "published_at", "title", "source", "text"])
            .to_pylist()
        )
        found |= {row["doc_id"]: _candidate(row) for row in rows if row["source"] == source}
    if matching is not None:
        if not project.params.bank.keep_text:
            raise BankError(
                f"bank {project.params.bank.uri} keeps no texts to match: name the documents, "
                "or use --source"
            )
        bank = project.active.stored()
        doc_ids = bank.with_all_words(matching)
        rows = bank.documents(set(doc_ids)).to_pylist()
        matches = {row["doc_id"]: _candidate(row) for row in rows}
        by_text = {row["doc_id"] for row in rows if _is_own(matching, row)}
        found |= {doc_id: matches[doc_id] for doc_id in doc_ids if doc_id in by_text}
    return found


def _candidate(row: Mapping[str, Any]) -> Candidate:
    """The document of a row of the stream or of the bank."""
    columns = ("doc_id", "published_at", "title", "source")
    own = without_publisher(row).removeprefix(row["title"] or "")
    begins = textwrap.shorten(own, _BEGINNING, placeholder=" …")
    return Candidate(**{name: row[name] for name in columns}, begins=begins)


def _is_own(query: str, memory: Mapping[str, Any]) -> bool:
    """Whether the words of `query` in a memory are not only those of its publisher's name; words
    may be inflected.
    """
    texts = query, memory["source"] or "", without_publisher(memory)
    query_words, source_words, text_words = (words(text.lower()) for text in texts)

    def among(word: str, words: list[str]) -> bool:
        return any(
            other.startswith(word[:4]) or (len(other) > 2 and word.startswith(other[:4]))
            for other in words
        )

    return all(among(word, text_words) for word in query_words if among(word, source_words))
