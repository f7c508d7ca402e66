"""Changes of a table of memories. Each is one Lance commit, repeated until nothing is left to do.

Processes may change different documents concurrently. The digest of the table is updated from the
rows that a change writes and removes.
"""

from collections.abc import Callable, Collection
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from cmt.bank._indexes import index_changes, text_is_indexed
from cmt.bank._lookup import read_content, related_versions
from cmt.bank._memory_table import MemoryTable
from cmt.bank._merge import misdated
from cmt.bank.integrity import unmatched, with_checksums
from cmt.bank.schema import VERSION_COLUMNS, RowsDigest
from cmt.bank.tables import MAX_ATTEMPTS, WriteConflict, one_of, read_all
from cmt.common.arrow import replace_column, rows_without
from cmt.timeline import Version

_VISIBILITY = ("superseded_at", "hidden")

Plan = Callable[[pa.Table], tuple[pa.Table, pa.Table]]
"""Stored rows (VERSION_COLUMNS) → the rows to write and the rows to delete."""


class Counts(NamedTuple):
    """Numbers of rows that a change wrote and deleted."""

    inserted: int = 0
    updated: int = 0
    """Rewritten rows: their text changed, or a change superseded their document."""
    deleted: int = 0


def change_documents(
    bank: MemoryTable,
    doc_ids: Collection[str],
    plan: Plan,
    *,
    unbanked: Collection[Version],
    written: Collection[Version] = (),
) -> Counts:
    """Commit what `plan` returns for the stored rows until nothing is left to do.

    The change concerns the documents `doc_ids`, of which `written` are new versions; `plan` gets
    their rows, and all rows on which their visibility depends. `unbanked`: versions that the bank
    lacks and keeps lacking. There is always one more attempt than commits, because another process
    may have written in between. Raises WriteConflict if others write all the time.
    """
    total = Counts()
    version = bank.version
    digest = bank.digests.at(version)  # of `version`; None if it is unknown
    for _ in range(MAX_ATTEMPTS):
        # 1. One attempt.
        before = bank.version
        with bank.reading():
            stored = related_versions(bank.latest(), doc_ids, [*written, *unbanked])
        try:
            commit = _commit(bank, stored, unbanked, *plan(stored))
        except WriteConflict:
            continue
        # 2. Nothing is left to do: index the rows and record the digest, that of all rows if others
        #    wrote meanwhile.
        if commit is None:
            if any(total) or not text_is_indexed(bank):
                version = version + index_changes(bank) if version == before else -1
                if digest is None or (version, digest.rows) != bank.version_and_rows():
                    version, digest = bank.compute_digest()
                bank.digests.write(version, digest)
            return total
        committed, counts, memory_ids, difference = commit
        total = Counts(*map(sum, zip(total, counts, strict=True)))
        bank.read_or_undo(before, memory_ids)
        # 3. If no other process has written in between, the rows differ by this change only.
        undisturbed = version == before and committed == before + 1
        digest = digest + difference if digest and difference and undisturbed else None
        version = committed
    raise WriteConflict(
        f"bank {bank.location.uri} is being rewritten by other processes: wait for them and repeat"
    )


def _commit(
    bank: MemoryTable,
    stored: pa.Table,
    unbanked: Collection[Version],
    fresh: pa.Table,
    gone: pa.Table,
) -> tuple[int, Counts, set[str], RowsDigest | None] | None:
    """Write `fresh`, delete `gone` and update the visibility in one commit; None if there is
    nothing to do.

    `stored` as `related_versions` returns it. Returns the version, its counts, the memory_ids of
    the commit's rows, and by how much the digest changes, None if it is unknown.
    """
    # 1. The rows whose visibility changes with this commit.
    for name in _VISIBILITY:
        fresh = replace_column(fresh, name, [None] * len(fresh))
    replaced = pa.concat_tables([fresh.select(["memory_id"]), gone.select(["memory_id"])])[
        "memory_id"
    ]
    unchanged = rows_without(stored, "memory_id", replaced)
    redated = misdated(pa.concat_tables([fresh.select(VERSION_COLUMNS), unchanged]), unbanked)
    redated_ids = set(redated["memory_id"].to_pylist()) - set(fresh["memory_id"].to_pylist())
    if not (len(fresh) or len(gone) or redated_ids):
        return None
    with bank.writing():
        # 2. Fresh and redated rows, each with its visibility, and the stored rows that they
        #    replace.
        table = bank.latest()
        source = pa.concat_tables([fresh, read_content(table, redated_ids)])
        position = pc.index_in(source["memory_id"], value_set=redated["memory_id"].combine_chunks())
        for name in _VISIBILITY:
            source = replace_column(source, name, redated[name].take(position))
        gone_ids = set(gone["memory_id"].to_pylist())
        memory_ids = gone_ids.union(source["memory_id"].to_pylist())
        before = read_all(table, one_of("memory_id", memory_ids), table.schema.names)
        # 3. One merge. The condition is checked against the version that is committed to, so it
        #    also covers rows that another process wrote meanwhile.
        compared = [
            f"target.{name} != source.{name}"
            for name in ("sha256", "published_at", "slice_id", *_VISIBILITY)
        ]
        compared += [f"(target.{name} IS NULL) != (source.{name} IS NULL)" for name in _VISIBILITY]
        differs = " OR ".join(compared)
        merge = table.merge_insert("memory_id").when_matched_update_all(where=differs)
        merge = merge.when_not_matched_insert_all()
        if gone_ids:
            merge = merge.when_not_matched_by_source_delete(one_of("memory_id", gone_ids))
        result = merge.execute(with_checksums(source))
    # 4. The change of the digest; it is unknown if a replaced row was damaged, or was not replaced.
    counts = Counts(result.num_inserted_rows, result.num_updated_rows, result.num_deleted_rows)
    complete = (counts.inserted + counts.updated, counts.updated + counts.deleted) == (
        len(source),
        len(before),
    )
    known = complete and not len(unmatched(before))
    difference = (
        RowsDigest.of(source) - RowsDigest.of(before.select(bank.schema.names)) if known else None
    )
    return result.version, counts, memory_ids, difference
