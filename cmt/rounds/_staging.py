"""The staged file of a round: its compressed memories as Parquet, with their digest."""

from pathlib import Path

import pyarrow as pa

from cmt.bank.schema import RowsDigest
from cmt.common.storage import read_checked_table, write_checked_table


def write_staged(path: Path, rows: pa.Table) -> None:
    """Write `rows` (memory_schema) to `path`, atomically. Raises OSError."""
    write_checked_table(path, rows, _digest)


def read_staged(path: Path) -> pa.Table | None:
    """The rows that `write_staged` wrote to `path`; None if there is no such file.

    A file that cannot be read, or whose rows do not match their digest, is removed with a warning.
    """
    rows = read_checked_table(path, _digest, remedy="its documents are compressed again")
    if rows is None:
        path.unlink(missing_ok=True)
    return rows


def _digest(rows: pa.Table) -> str:
    return str(RowsDigest.of(rows))
