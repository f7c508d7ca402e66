"""Maintenance of a table of memories: compaction, purging of earlier versions, reading everything,
statistics.
"""

import shutil
from collections.abc import Collection
from datetime import timedelta
from typing import Any, NamedTuple, cast

import pyarrow as pa
import pyarrow.compute as pc

from cmt.bank._indexes import (
    index_keys,
    index_problem,
    index_text,
    index_values,
    indexed_keys,
    text_is_indexed,
    write_file_checksums,
)
from cmt.bank._memory_table import MemoryTable
from cmt.bank._merge import misdated
from cmt.bank.integrity import altered_indexes, unmatched
from cmt.bank.schema import (
    VERSION_COLUMNS,
    RowsDigest,
    id_problems,
    key_matrix,
    mean_cosine,
    row_problems,
)
from cmt.bank.tables import FOREVER
from cmt.timeline import Version

_KEYS = 256  # keys of the sample whose mean cosine is a statistic


class Audit(NamedTuple):
    """Findings from reading every row of a bank."""

    problems: list[str]
    """Problems of rows, one sentence each."""
    misdated: list[str]
    """Documents that are visible at other dates than the documents of the stream say, sorted."""
    index_problem: str | None
    """A problem of an index; None without one."""
    digest: str
    """See `Bank.digest`."""
    rows: int
    slices: list[str]
    """slice_ids of the damaged rows, sorted."""


def compact(bank: MemoryTable, *, keep: timedelta = FOREVER, unfinished: bool = False) -> None:
    """Rebuild the indexes, compact the files, and drop versions older than `keep`, which cannot be
    restored then.

    A large bank also gets the vector index and the indexes for exact values. Takes time in
    proportion to the bank. `keep` is at least 1 ms, or readers lose the version that they read.
    `unfinished`: also delete the files of writes that never became a version.
    """
    # 1. The indexes first, because the compaction reads them and would fail on a damaged one. All
    #    altered ones are replaced before Lance lists any, for that may end the process.
    with bank.reading():
        altered = altered_indexes(bank.latest())
    if altered:
        index_keys(bank, again=True)
    index_text(bank)
    index_values(bank)
    index_keys(bank)
    for folder in altered:
        shutil.rmtree(folder, ignore_errors=True)
    # 2. Compaction, and when its result can be read, the clean-up.
    before = bank.version
    with bank.writing():
        bank.latest().optimize(cleanup_older_than=FOREVER)
    bank.read_or_undo(before)
    with bank.writing():
        bank.latest().optimize(cleanup_older_than=keep, delete_unverified=unfinished)
    if not text_is_indexed(bank):
        index_text(bank)
    write_file_checksums(bank)
    # 3. The digest, and the records of the versions that are kept.
    bank.digests.write(*bank.compute_digest())
    bank.digests.keep(bank.kept_versions())


def purge_history(bank: MemoryTable) -> None:
    """Write all rows and indexes to new files and delete every other file, with all earlier
    versions.

    Takes time in proportion to the bank. `compact` leaves deleted rows in the files of their
    neighbours. No other process may write meanwhile.
    """
    table = bank.latest()
    with bank.writing():
        rows = pa.RecordBatchReader.from_batches(
            table.schema,
            (
                batch
                for rows in bank.sorted_batches()
                for batch in rows.cast(table.schema).to_batches()
            ),
        )
        before = table.version
        table.add(rows, mode="overwrite")
    bank.read_or_undo(before)
    compact(bank, keep=timedelta(milliseconds=1), unfinished=True)


def audit(bank: MemoryTable, *, unbanked: Collection[Version] | None = ()) -> Audit:
    """Read every row, and a sample of the full-text index, and report their problems.

    `unbanked`: versions of the stream that the bank lacks; None if they are unknown, so that
    visibility is not checked.
    """
    problems: list[str] = []
    slices: set[str] = set()
    # 1. Each row by itself, and the digest of all.
    digest = RowsDigest()
    with bank.reading():
        for batch in bank.sorted_batches():
            content = batch.select(bank.schema.names)
            digest += RowsDigest.of(content)
            wrong = unmatched(batch)
            problems += [
                f"memory {name!r} does not match its checksum"
                for name in wrong["memory_id"].to_pylist()
            ]
            problems += row_problems(content, bank.schema)
            slices.update(wrong["slice_id"].to_pylist())
    # 2. The rows of a document, and of documents that supersede each other.
    versions = bank.rows(VERSION_COLUMNS)
    problems += id_problems(versions)
    wrong = [] if unbanked is None else misdated(versions, unbanked)["doc_id"].to_pylist()
    # 3. The indexes.
    problem = index_problem(bank, versions["memory_id"].to_pylist())
    return Audit(problems, sorted(set(wrong)), problem, str(digest), len(versions), sorted(slices))


def stats(bank: MemoryTable) -> dict[str, int | float]:
    """Size of a bank: rows, documents, bytes, bytes_per_document, version, indexed,
    mean_pairwise_cosine.

    `indexed` counts the rows in the vector index. `mean_pairwise_cosine` is the mean over a sample
    of keys: near 1 the keys have collapsed; NaN for fewer than two rows.
    """
    versions, table = bank.rows(VERSION_COLUMNS), bank.latest()
    names = versions["memory_id"].to_pylist()
    sample = bank.rows(["memory_id", "key"], set(names[:: max(1, len(names) // _KEYS)]))
    documents = len(pc.unique(versions["doc_id"]))
    size = int(cast(Any, table.stats())["total_bytes"])
    return {
        "rows": versions.num_rows,
        "documents": documents,
        "bytes": size,
        "bytes_per_document": size / max(documents, 1),
        "version": table.version,
        "indexed": indexed_keys(table),
        "mean_pairwise_cosine": mean_cosine(key_matrix(sample["key"])),
    }
