"""Erasing the documents of a forgetting that was announced, from all banks, and with `purge` from
everything that the project wrote.

A journal in the state folder is written first (`cmt.rounds.care.forgetting`) and removed last.
Every step can be repeated, so after a kill or a full disk the next command that changes the bank
finishes the work (`recovery.updating`); until then searches leave the announced documents out
(`ActiveBank.bank`), and `cmt verify` reports it.
"""

import logging
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from cmt.bank.bank import Bank, open_banks
from cmt.bank.ledger import Ledger
from cmt.bank.rounds import check_uninterrupted
from cmt.bank.schema import schema_value
from cmt.common.storage import flush_to_disk, read_checked_json
from cmt.errors import DamageError, RoundError
from cmt.project import Project
from cmt.rounds import _purging
from cmt.stream.forgotten import Similar
from cmt.text.display import heading

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
            f"{path} cannot be read ({error}): remove it, run `cmt verify`, and repeat the "
            "`cmt forget` that was interrupted"
        ) from None
    return journal


def finish(project: Project) -> ForgetReport | None:
    """Finish the forgetting in the journal; None without a journal. Raises CmtError if a file or
    bank fails.
    """
    journal = read_journal(project)
    if journal is None:
        return None
    if journal.purge:
        check_uninterrupted(project.history.all_rounds(), "a purge")
    with _purging.writing(project):
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
        for bank in banks_of(project):
            unbanked = project.history.unbanked(schema_value(bank.schema, "compressor"))
            rows += bank.remove(journal.doc_ids, unbanked=unbanked)
        # 3. Delete the texts; the slices last, because copies of their texts are recognised by
        #    comparison with them.
        purged = {}
        if journal.purge:
            purged = _purging.purge(project, banks_of(project), journal.doc_ids, journal.slices)
        if journal.undo:
            _remember(project, journal.doc_ids)
        # 4. Done.
        project.history.forgetting_journal.unlink()
        flush_to_disk(project.state)
    log.info("%d documents are forgotten: %d rows removed", len(journal.doc_ids), rows)
    unreached = tuple(_purging.unreached(project, journal.slices)) if journal.purge else ()
    return ForgetReport(tuple(journal.doc_ids), rows, changes, tuple(similar), purged, unreached)


def _remember(project: Project, doc_ids: Collection[str]) -> None:
    """Take the forgetting of purged documents back; the last rounds record the banks as they are
    without them.
    """
    # 1. The banks: what the names of the documents hid is visible again.
    names = [version for version in project.store.forgotten_versions() if version.doc_id in doc_ids]
    affected = {*doc_ids, *(version.supersedes for version in names if version.supersedes)}
    for bank in banks_of(project):
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


def banks_of(project: Project) -> list[Bank]:
    """The banks of all compressors; none without a ledger."""
    return list(open_banks(project.bank_location)) if Ledger.exists(project.params.bank.uri) else []


def _texts(project: Project, doc_ids: Sequence[str]) -> dict[str, list[str]]:
    """doc_id → its text in a bank if the stream does not have it."""
    texts: dict[str, list[str]] = {doc_id: [] for doc_id in doc_ids}
    missing = texts.keys() - set(project.store.all_documents()["doc_id"].to_pylist())
    for bank in banks_of(project) if missing else []:
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
