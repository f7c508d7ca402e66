"""Files of the slice store: written whole or not at all, read with their checksums, digested by their rows."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cmt.common.storage import write_bytes
from cmt.errors import StreamError
from cmt.stream.schema import RAW_LENGTH, Rejected

_ROWS = 10_000


def read_table(path: Path, *, schema: pa.Schema, columns: tuple[str, ...] | None = None) -> pa.Table:
    """The table at `path`, or some of its columns; StreamError when it is missing, damaged or of another schema."""
    remedy = f"restore it from a backup or DVC, or delete {path.with_name(path.name.split('.')[0])}.* and ingest again"
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            found = file.schema_arrow
            table = file.read(columns=list(columns) if columns else None)
    except FileNotFoundError:
        raise StreamError(f"{path} is missing; {remedy}") from None
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise StreamError(f"{path} is damaged ({reason}); {remedy}") from None
    if not found.equals(schema):
        raise StreamError(f"{path} has other columns than this version of cmt writes; {remedy}")
    return table


def rows_digest(documents: pa.Table, questions: pa.Table) -> str:
    """sha256 over the sorted rows of both tables, whatever their order and file format."""
    whole = hashlib.sha256()
    for name, table in (("documents", documents), ("questions", questions)):
        whole.update(f"{name} {table.num_rows}\n".encode())
        for line in sorted(_lines(table)):
            whole.update(line + b"\n")
    return whole.hexdigest()


def write_quarantine(folder: Path, *, name: str, rejected: Sequence[Rejected]) -> Path | None:
    """Keep `rejected` as JSON lines in `folder`/`name`, in place of what an earlier ingest of it left."""
    path = folder / name
    if not rejected:
        path.unlink(missing_ok=True)
        return None
    write_bytes(path, b"".join(map(_quarantine_line, rejected)))
    return path


def _quarantine_line(row: Rejected) -> bytes:
    values = {"file": row.file, "row": row.row, "reason": row.reason, "raw": row.raw[:RAW_LENGTH]}
    # a lone surrogate has no UTF-8; its \u escape is valid JSON
    return json.dumps(values, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def _lines(table: pa.Table) -> list[bytes]:
    """Each row as canonical JSON, instants as microseconds."""
    lines: list[bytes] = []
    plain = pa.schema(
        [field.with_type(pa.int64()) if pa.types.is_timestamp(field.type) else field for field in table.schema]
    )
    for batch in table.cast(plain).to_batches(max_chunksize=_ROWS):
        columns = [column.to_pylist() for column in batch.columns]
        lines += [json.dumps(row, ensure_ascii=False).encode() for row in zip(*columns, strict=True)]
    return lines
