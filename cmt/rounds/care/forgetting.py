"""Forgetting documents: announced, removed from all banks, and with `purge` from everything that
the project wrote.

A journal in the state folder is written first and removed last. Every step can be repeated, so
after a kill or a full disk the next command that changes the bank finishes the work
(`recovery.updating`); until then searches leave the announced documents out
(`ActiveBank.bank`), and `cmt verify` reports it.
"""

import logging
import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from cmt.bank.bank import Bank, open_banks
from cmt.bank.ledger import Ledger
from cmt.bank.rounds import check_uninterrupted
from cmt.bank.schema import schema_value
from cmt.common.storage import flush_to_disk, read_checked_json, write_checked_json
from cmt.errors import BankError, DamageError, RoundError, UnknownDocumentError
from cmt.project import Project
from cmt.rounds.care import purging
from cmt.stream.forgotten import Forgotten, Similar
from cmt.text.display import heading, without_publisher

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Journal:
    """A forgetting at work."""

    doc_ids: list[str]
    purge: bool
    slices: dict[str, list[str]] = field(default_factory=dict)
    """With `purge`: slice_id → digest of the slice before and after."""
    everywhere: bool = False
    """Whether near-copies are refused of every source, not only of the documents' own."""
    undo: bool = False
    """Whether the documents may come back after the purge."""


@dataclass(frozen=True)
class ForgetReport:
    """What was forgotten."""

    doc_ids: tuple[str, ...]
    rows: int
    """Rows that were deleted, in the banks of all compressors."""
    changes: int = 0
    """Inferred changes that named one of the documents."""
    similar: tuple[Similar, ...] = ()
    """Documents with nearly the same text that stay in the stream."""
    purged: dict[str, int] = field(default_factory=dict)
    """Kind of removed thing → number; kinds without any are left out."""
    unreached: tuple[str, ...] = ()
    """Where a purged text may still be."""


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
            f"document {unknown[0]!r} is not forgotten: `cmt forget --list` lists them; nothing was changed"
        )
    banks = _banks(project)
    known = {*project.store.all_documents()["doc_id"].to_pylist(), *project.history.forgotten()}
    known |= {doc_id for bank in banks for doc_id in bank.present(doc_ids)}
    if unknown := [doc_id for doc_id in doc_ids if doc_id not in known]:
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
    with purging.writing(project):
        journal = Journal(sorted(doc_ids), purge, slices, everywhere, undo)
        write_checked_json(project.history.forgetting_journal, asdict(journal))
    # 4. Do it.
    report = finish(project)
    assert report is not None  # noqa: S101 - the journal was just written
    return report


def finish(project: Project) -> ForgetReport | None:
    """Finish the forgetting in the journal; None without a journal. Raises CmtError if a file or
    bank fails.
    """
    journal = read_journal(project)
    if journal is None:
        return None
    if journal.purge:
        check_uninterrupted(project.history.all_rounds(), "a purge")
    with purging.writing(project):
        # 1. Record it in the stream for future banks, and in the ledger for other projects that
        #    share this bank. The inferred changes go first, because they show values of the
        #    documents.
        shared = Ledger.exists(project.params.bank.uri)
        changes = project.ledger.forget_changes(journal.doc_ids) if shared else 0
        similar = project.store.forget(
            _texts(project, journal.doc_ids), everywhere=journal.everywhere
        )
        if shared:
            project.ledger.forget(*journal.doc_ids)
        # 2. Delete the rows.
        rows = 0
        for bank in _banks(project):
            unbanked = project.history.unbanked(schema_value(bank.schema, "compressor"))
            rows += bank.remove(journal.doc_ids, unbanked=unbanked)
        # 3. Delete the texts; the slices last, because copies of their texts are recognised by
        #    comparison with them.
        purged = {}
        if journal.purge:
            purged = purging.purge(project, _banks(project), journal.doc_ids, journal.slices)
        if journal.undo:
            _remember(project, journal.doc_ids)
        # 4. Done.
        project.history.forgetting_journal.unlink()
        flush_to_disk(project.state)
    log.info("%d documents are forgotten: %d rows removed", len(journal.doc_ids), rows)
    unreached = tuple(purging.unreached(project, journal.slices)) if journal.purge else ()
    return ForgetReport(tuple(journal.doc_ids), rows, changes, tuple(similar), purged, unreached)


def forgotten_documents(project: Project) -> list[ForgottenDocument]:
    """The forgotten documents, by doc_id. Raises StreamError or DamageError if a list of them is
    damaged.
    """
    known = Forgotten.read(project.store.path)
    dates: dict[str, set[datetime]] = {}
    for version in known.names:
        dates.setdefault(version.doc_id, set()).add(version.published_at)
    return [
        ForgottenDocument(
            name, tuple(sorted(known.sources.get(name, ()))), tuple(sorted(dates.get(name, ())))
        )
        for name in project.history.forgotten()
    ]


def _remember(project: Project, doc_ids: Collection[str]) -> None:
    """Take the forgetting of purged documents back; the last rounds record the banks as they are
    without them.
    """
    # 1. The banks: what the names of the documents hid is visible again.
    names = [version for version in project.store.forgotten_versions() if version.doc_id in doc_ids]
    affected = {*doc_ids, *(version.supersedes for version in names if version.supersedes)}
    for bank in _banks(project):
        compressor = schema_value(bank.schema, "compressor")
        unbanked = [
            version
            for version in project.history.unbanked(compressor)
            if version.doc_id not in doc_ids
        ]
        bank.update_visibility(affected, unbanked=unbanked)
        project.history.record_bank(bank, compressor)
    # 2. The lists.
    if Ledger.exists(project.params.bank.uri):
        project.ledger.remember(doc_ids)
    project.store.remember(doc_ids)


def read_journal(project: Project) -> Journal | None:
    """The forgetting at work; None if there is none. Raises RoundError if the journal is
    damaged.
    """
    path = project.history.forgetting_journal
    try:
        journal: Journal = read_checked_json(path, Journal)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise RoundError(
            f"{path} cannot be read ({error}): remove it, run `cmt verify`, and repeat the `cmt forget` that was "
            "interrupted"
        ) from None
    return journal


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
            .select(["doc_id", "published_at", "title", "source"])
            .to_pylist()
        )
        found |= {row["doc_id"]: Candidate(**row) for row in rows if row["source"] == source}
    if matching is not None:
        if not project.params.bank.keep_text:
            raise BankError(
                f"bank {project.params.bank.uri} keeps no texts to match: name the documents, or use --source"
            )
        bank = project.active.stored()
        doc_ids = bank.with_all_words(matching)
        rows = bank.documents(set(doc_ids)).to_pylist()
        columns = ("doc_id", "published_at", "title", "source")
        matches = {
            row["doc_id"]: Candidate(**{name: row[name] for name in columns}) for row in rows
        }
        own = {row["doc_id"] for row in rows if _is_own(matching, row)}
        found |= {doc_id: matches[doc_id] for doc_id in doc_ids if doc_id in own}
    return found


def _is_own(query: str, memory: Mapping[str, Any]) -> bool:
    """Whether the words of `query` in a memory are not only those of its publisher's name; words
    may be inflected.
    """
    texts = query, memory["source"] or "", without_publisher(memory)
    asked, named, own = (re.findall(r"\w+", text.lower()) for text in texts)

    def among(word: str, words: list[str]) -> bool:
        return any(
            other.startswith(word[:4]) or (len(other) > 2 and word.startswith(other[:4]))
            for other in words
        )

    return all(among(word, own) for word in asked if among(word, named))


def _banks(project: Project) -> list[Bank]:
    return list(open_banks(project.bank_location)) if Ledger.exists(project.params.bank.uri) else []


def _texts(project: Project, doc_ids: Sequence[str]) -> dict[str, list[str]]:
    """doc_id → its text in a bank if the stream does not have it."""
    texts: dict[str, list[str]] = {doc_id: [] for doc_id in doc_ids}
    missing = texts.keys() - set(project.store.all_documents()["doc_id"].to_pylist())
    for bank in _banks(project) if missing else []:
        with suppress(DamageError):  # without its text only the doc_id is recognised
            pieces: dict[str, list[str]] = {}
            for row in bank.documents(missing).to_pylist():
                line = heading(row["title"], row["source"])
                pieces.setdefault(row["doc_id"], []).append(
                    (row["text"] or "").removeprefix(f"{line}\n")
                )
            for doc_id, parts in pieces.items():
                texts[doc_id].append(" ".join(parts))
    return texts
