"""Parquet with the columns of the schema; a file with the column `question` holds questions, any other documents."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from cmt.common.dates import EXAMPLE, EXAMPLE_DATE
from cmt.errors import StreamError
from cmt.stream.limits import Limits
from cmt.stream.readers.decoding import Decoder, parquet_batches
from cmt.stream.readers.files import RawRow
from cmt.stream.schema import Rejected

# column → (type, required)
_DOCUMENT = {
    "text": ("string", True),
    "published_at": ("instant", True),
    "doc_id": ("string", False),
    "title": ("string", False),
    "source": ("string", False),
    "url": ("string", False),
    "supersedes": ("string", False),
}
_QUESTION = {
    "doc_id": ("string", True),
    "question": ("string", True),
    "answers": ("strings", True),
    "asked_at": ("instant", True),
    "question_id": ("string", False),
}
_DESCRIPTIONS = {
    "string": "a string",
    "strings": "a list of strings",
    "instant": f"a timestamp with a time zone, or a string such as {EXAMPLE} or {EXAMPLE_DATE}",
}


def read(path: Path, limits: Limits) -> Iterator[RawRow | Rejected]:
    """Yield the rows of one file, numbered from 1. Raises StreamError if a column is missing or has another type."""
    if path.is_file() and not path.stat().st_size:
        raise StreamError(f"{path} is empty; nothing was ingested")
    try:
        with pq.ParquetFile(path) as file:
            yield from _rows(path, file, limits)
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise StreamError(f"{path} is damaged or not a Parquet file ({reason}); write it again") from None


def _rows(path: Path, file: pq.ParquetFile, limits: Limits) -> Iterator[RawRow]:
    schema = file.schema_arrow
    kind: Literal["document", "question"] = "question" if "question" in schema.names else "document"
    expected = _QUESTION if kind == "question" else _DOCUMENT
    _check_columns(path, schema, kind, expected)
    names = [name for name in expected if name in schema.names]
    decoder, number = Decoder(path, limits), 0
    for batch in parquet_batches(file, path, path, limits, names):
        for values in decoder.rows(batch):
            number += 1
            yield RawRow(kind, path.name, number, dict(zip(names, values, strict=True)))


def _check_columns(path: Path, schema: pa.Schema, kind: str, expected: dict[str, tuple[str, bool]]) -> None:
    """Raise StreamError if a column of the file is missing, repeated or of another type than `expected`."""
    if missing := [name for name, (_, required) in expected.items() if required and name not in schema.names]:
        raise StreamError(
            f"{path} has no column {', '.join(missing)}, which a file of {kind}s needs; "
            f"it has {', '.join(schema.names)[:200]}"
        )
    for name, (type_name, _) in expected.items():
        if schema.names.count(name) > 1:
            raise StreamError(f"{path} has the column {name} twice; keep one")
        if name in schema.names and not _fits(column_type := schema.field(name).type, type_name):
            raise StreamError(f"{path}: column {name} is {column_type}; write it as {_DESCRIPTIONS[type_name]}")


def _fits(column_type: pa.DataType, type_name: str) -> bool:
    types = pa.types
    if types.is_null(column_type):
        return True
    if type_name == "strings":
        is_list = any(test(column_type) for test in (types.is_list, types.is_large_list, types.is_fixed_size_list))
        return is_list and _fits(column_type.value_type, "string")
    if type_name == "instant" and types.is_timestamp(column_type):
        return column_type.tz is not None
    if types.is_dictionary(column_type):
        return _fits(column_type.value_type, "string")
    return any(test(column_type) for test in (types.is_string, types.is_large_string, types.is_string_view))
