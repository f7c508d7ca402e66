"""The digest of a slice's rows, and the file of rejected rows."""

import hashlib
import json
from collections.abc import Collection, Sequence
from pathlib import Path

import pyarrow as pa

from cmt.common.storage import write_bytes
from cmt.stream.schema import RAW_LENGTH, Rejected

_BATCH_ROWS = 10_000


def rows_digest(documents: pa.Table, questions: pa.Table) -> str:
    """Hex SHA-256 of the sorted rows of both tables, independent of row order and file format."""
    digest = hashlib.sha256()
    for name, table in (("documents", documents), ("questions", questions)):
        digest.update(f"{name} {table.num_rows}\n".encode())
        schema = pa.schema([f.with_type(pa.int64()) if pa.types.is_timestamp(f.type) else f for f in table.schema])
        lines = list[bytes]()  # each row as a JSON list, with instants as microseconds since 1970
        for batch in table.cast(schema).to_batches(max_chunksize=_BATCH_ROWS):
            rows = zip(*(column.to_pylist() for column in batch.columns), strict=True)
            lines += [json.dumps(row, ensure_ascii=False).encode() for row in rows]
        for line in sorted(lines):
            digest.update(line + b"\n")
    return digest.hexdigest()


def write_quarantine(folder: Path, *, name: str, rejected: Sequence[Rejected]) -> Path | None:
    """Replace `folder`/`name` by `rejected` as JSON lines and return the path; without rows, delete it."""
    fields = [{"file": row.file, "row": row.row, "reason": row.reason, "raw": row.raw[:RAW_LENGTH]} for row in rejected]
    return write_lines(folder / name, [json.dumps(row, ensure_ascii=False) for row in fields])


def write_lines(path: Path, lines: Collection[str]) -> Path | None:
    """Replace `path` by `lines` of JSON and return it; without lines, delete it. Raises OSError."""
    if not lines:
        path.unlink(missing_ok=True)
        return None
    # a lone surrogate cannot be encoded as UTF-8; its \u escape is valid JSON
    write_bytes(path, "".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace"))
    return path
