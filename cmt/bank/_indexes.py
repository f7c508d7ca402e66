"""Indexes of a table of memories: built, updated after a change, and checked.

Every table has a full-text index. A large one also has a vector index, and indexes for exact
values. The indexes of a large table may lack a few rows, which a search reads one by one.
"""

from contextlib import suppress

from lancedb.index import FTS, BTree, IvfSq
from lancedb.table import LanceTable

from cmt.bank._memory_table import MemoryTable
from cmt.bank._ranking import probe_indexes
from cmt.bank.integrity import (
    DELETIONS,
    altered_indexes,
    columns_with_checksums,
    write_checksums,
    write_index_checksums,
)
from cmt.bank.schema import key_matrix
from cmt.bank.tables import FOREVER, MAX_ATTEMPTS, WriteConflict, translate_errors
from cmt.errors import BankError

# columns with an index for exact values
_LOOKED_UP = ("memory_id", "doc_id", "supersedes", "sha256")
# rows that the indexes of a large table may lack; a search reads them in some 20 ms
_UNINDEXED = 1000
_PROBES = 64  # texts, or keys, to search an index for


def index_changes(bank: MemoryTable) -> int:
    """Index the rows that a change wrote; returns the number of versions that this made."""
    before, table = bank.version, bank.latest()
    if not bank.is_large(table) or _unindexed_rows(table, "text") is None:
        return index_text(bank)
    commits = index_values(bank)
    if text_is_indexed(bank):
        return commits
    with bank.writing():
        bank.latest().optimize(cleanup_older_than=FOREVER)
    bank.read_or_undo(before)
    write_file_checksums(bank)
    return bank.version - before


def index_text(bank: MemoryTable) -> int:
    """Rebuild the full-text index; returns the number of versions that this made.

    An updated index still counts deleted rows in its statistics, and scores unindexed rows a little
    differently.
    """
    commits = 0
    for _ in range(MAX_ATTEMPTS):
        before = bank.version
        with suppress(WriteConflict), bank.writing():
            bank.latest().create_index("text", config=FTS(), replace=True)
            commits += 1
        if bank.version == before + 1:
            break  # otherwise another process has written, and the index may lack its rows
    write_file_checksums(bank)
    return commits


def mend_text(bank: MemoryTable) -> int:
    """Rebuild the full-text index unless it answers; returns the number of versions that this made.

    Maintenance removes damaged index files, also those of an earlier version, which may be restored
    later.
    """
    table = bank.latest()
    texts = table.search().select(["text"]).limit(1).to_arrow()["text"].to_pylist()
    with suppress(BankError):
        probe_indexes(table, texts=filter(None, texts))
        return 0
    return index_text(bank)


def index_values(bank: MemoryTable) -> int:
    """Build the missing indexes for exact values of a large table; returns the number of versions
    that this made.
    """
    table, commits = bank.latest(), 0
    for column in _LOOKED_UP if bank.is_large(table) else ():
        if _unindexed_rows(table, column) is None:
            with bank.writing():
                table.create_index(column, config=BTree())
                commits += 1
    if commits:
        write_file_checksums(bank)
    return commits


def index_keys(bank: MemoryTable, *, again: bool = False) -> None:
    """Build the vector index of a large table unless it has a sound one; with `again` in any case.

    A sound one has a single part: every update adds another, and a search reads all of them.
    """
    with bank.writing():
        table = bank.latest()
        if not bank.is_large(table):
            return
        parts = sum(
            index.num_segments or 1 for index in table.list_indices() if index.columns == ["key"]
        )
        if parts == 1 and indexed_keys(table) and not again:
            with suppress(BankError):
                probe_indexes(
                    table,
                    keys=key_matrix(
                        table.search().select(["key"]).limit(_PROBES).to_arrow()["key"]
                    ),
                )
                return
        # 8-bit scalars instead of product quantisation: with 576 numbers per key it trains 200
        # times faster and has the higher recall.
        table.create_index("key", config=IvfSq(distance_type="cosine"), replace=True)


def text_is_indexed(bank: MemoryTable) -> bool:
    """Whether the full-text index has all rows; in a large table, all but _UNINDEXED."""
    with translate_errors(
        f"the indexes of bank {bank.location.uri} cannot be read", "run `cmt bank optimize`"
    ):
        table = bank.latest()
        rows = _unindexed_rows(table, "text")
    return rows is not None and rows <= (_UNINDEXED if bank.is_large(table) else 0)


def indexed_keys(table: LanceTable) -> int:
    """Number of rows in the vector index, 0 without one."""
    return sum(
        index.num_indexed_rows or 0 for index in table.list_indices() if index.columns == ["key"]
    )


def index_problem(bank: MemoryTable, memory_ids: list[str]) -> str | None:
    """The first problem of an index, None without one.

    An index without a checksum, as on object storage, is searched for the texts of some of the rows
    `memory_ids`.
    """
    with bank.reading():
        altered = altered_indexes(bank.latest())
    if altered:
        return f"the index in {altered[0]} does not match its checksum: run `cmt bank optimize`"
    try:
        if not text_is_indexed(bank):
            return "the full-text index misses rows: run `cmt bank optimize`"
        if "text" not in columns_with_checksums(bank.latest()):
            sample = set(memory_ids[:: max(1, len(memory_ids) // _PROBES)])
            texts = bank.rows(["memory_id", "text"], sample)["text"].to_pylist()
            probe_indexes(bank.latest(), texts=filter(None, texts))
    except BankError as error:
        return str(error)
    return None


def write_file_checksums(bank: MemoryTable) -> None:
    """Write the missing checksums of indexes and of lists of deleted rows."""
    with bank.writing():
        table = bank.latest()
        write_index_checksums(table)
        write_checksums(table, DELETIONS)


def _unindexed_rows(table: LanceTable, column: str) -> int | None:
    """Number of rows that the index of `column` lacks; None without an index."""
    rows = [
        index.num_unindexed_rows or 0 for index in table.list_indices() if index.columns == [column]
    ]
    return min(rows, default=None)
