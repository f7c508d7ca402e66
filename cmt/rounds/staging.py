"""The staged file of a round: its compressed memories as Parquet, with their digest."""

import logging
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cmt.bank.schema import RowsDigest
from cmt.common.storage import write_table

log = logging.getLogger(__name__)

_DIGEST = b"digest"  # in the metadata of the file's schema


def write_staged(path: Path, rows: pa.Table) -> None:
    """Write `rows` (memory_schema) to `path`, atomically. Raises OSError."""
    write_table(
        path, rows.replace_schema_metadata({**rows.schema.metadata, _DIGEST: str(RowsDigest.of(rows)).encode()})
    )


def read_staged(path: Path) -> pa.Table | None:
    """The rows that `write_staged` wrote to `path`; None if there is no such file.

    A file that cannot be read, or whose rows do not match their digest, is removed with a warning.
    """
    if not path.exists():
        return None
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            rows = file.read()
        metadata = dict(rows.schema.metadata or {})
        if metadata.pop(_DIGEST, b"").decode() == str(RowsDigest.of(rows)):
            return rows.replace_schema_metadata(metadata)
        reason = "it does not match its digest"
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
    log.warning("%s is damaged (%s): its documents are compressed again", path, reason)
    path.unlink()
    return None
