"""Parquet with the contract's columns; a file with a `question` column holds questions, any other documents."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from cmt.errors import StreamError
from cmt.stream.readers.files import RawRow
from cmt.stream.schema import INSTANT, Rejected

# column → (kind, required)
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
_WANTED = {
    "string": "a string",
    "strings": "a list of strings",
    "instant": "a timestamp with a time zone, or a string such as 2031-02-15T06:00:00Z",
}
_ROWS = 10_000


class _Unreadable:
    """Stands for a value that Arrow stores but Python cannot represent: bytes that are not UTF-8, the year 290000."""

    def __repr__(self) -> str:
        return "an unreadable value"


def read(path: Path) -> Iterator[RawRow | Rejected]:
    """The rows of one file, counted from 1; StreamError when a column is missing or of another type."""
    if path.is_file() and not path.stat().st_size:
        raise StreamError(f"{path} is empty; nothing was ingested")
    try:
        with pq.ParquetFile(path) as file:
            yield from _rows(path, file)
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise StreamError(f"{path} is damaged or not a Parquet file ({reason}); write it again") from None


def _rows(path: Path, file: pq.ParquetFile) -> Iterator[RawRow]:
    schema = file.schema_arrow
    kind: Literal["document", "question"] = "question" if "question" in schema.names else "document"
    wanted = _QUESTION if kind == "question" else _DOCUMENT
    _check(path, schema, kind, wanted)
    columns = [name for name in wanted if name in schema.names]
    number = 0
    for batch in file.iter_batches(batch_size=_ROWS, columns=columns):
        lists = {name: _values(batch.column(name), wanted[name][0]) for name in columns}
        for values in zip(*lists.values(), strict=True):
            number += 1
            yield RawRow(kind, path.name, number, dict(zip(lists, values, strict=True)))


def _check(path: Path, schema: pa.Schema, kind: str, wanted: dict[str, tuple[str, bool]]) -> None:
    if missing := [name for name, (_, required) in wanted.items() if required and name not in schema.names]:
        raise StreamError(
            f"{path} has no column {', '.join(missing)}, which a file of {kind}s needs; "
            f"it has {', '.join(schema.names)}"
        )
    for name, (expected, _) in wanted.items():
        if schema.names.count(name) > 1:
            raise StreamError(f"{path} has the column {name} twice; keep one")
        if name in schema.names and not _fits(schema.field(name).type, expected):
            raise StreamError(f"{path}: column {name} is {schema.field(name).type}; write it as {_WANTED[expected]}")


def _fits(found: pa.DataType, expected: str) -> bool:
    if pa.types.is_null(found):
        return True
    if expected == "strings":
        lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
        return any(test(found) for test in lists) and _fits(found.value_type, "string")
    if expected == "instant" and pa.types.is_timestamp(found):
        return found.tz is not None
    if pa.types.is_dictionary(found):
        return _fits(found.value_type, "string")
    return any(test(found) for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view))


def _values(column: pa.Array, expected: str) -> list[Any]:
    if expected == "instant" and pa.types.is_timestamp(column.type):
        # nanoseconds are cut; coarser units that do not fit fail as a damaged file does
        column = column.cast(INSTANT, safe=column.type.unit != "ns")
    try:
        return list(column.to_pylist())
    except (ValueError, OverflowError):
        return [_value(scalar) for scalar in column]


def _value(scalar: pa.Scalar) -> Any:
    try:
        return scalar.as_py()
    except (ValueError, OverflowError):
        return _Unreadable()
