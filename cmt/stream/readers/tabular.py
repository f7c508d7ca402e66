"""JSON lines, JSON, CSV, Parquet and Arrow as records with the keys of the source."""

import csv
import io
import itertools
import re
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cmt.stream.limits import Limits
from cmt.stream.readers import squad
from cmt.stream.readers.decoding import Decoder, arrow_batches, parquet_batches
from cmt.stream.readers.files import MAX_FIELD, RawRow, Record, json_lines, parse_json
from cmt.stream.readers.text import decode
from cmt.stream.schema import RAW_LENGTH, Rejected, raw_text

_DELIMITERS = ",;\t|"
_HEADER = re.compile(r"[^\n.!?]{1,60}")
_RESTARTS = 100  # of a CSV file after a quotation mark that is never closed
_NOTICES = {"channel_join", "channel_leave", "channel_topic", "channel_purpose", "channel_name", "bot_add"}
"""Subtypes of messages of Slack that nobody wrote."""


def of_row(row: RawRow | Rejected) -> Record:
    """A row of a reader of the schema as a record."""
    if isinstance(row, Rejected):
        return Record({"raw": row.raw}, f"{row.file} row {row.row}", row.reason)
    return Record(dict(row.values), f"{row.file} row {row.row}")


def read_json_lines(data: bytes, name: str, limits: Limits) -> Iterator[Record]:
    """Yield the objects of JSON lines in any encoding, numbered by line."""
    for row in json_lines(data, name, limits):
        yield of_row(row) if isinstance(row, Rejected) else Record(row[1], f"{name} row {row[0]}")


def read_json(data: bytes, name: str, limits: Limits) -> Iterator[Record]:
    """Yield the objects of a JSON array, of the array that an object holds at any key, or the only object.

    A file in SQuAD's layout gives its documents and questions; notices of a Slack channel are left out. Raises
    StreamError if the file is not valid JSON.
    """
    content = parse_json(data, name, limits)
    articles = content.get("data") if isinstance(content, dict) else None
    if isinstance(articles, list) and any(isinstance(one, dict) and "paragraphs" in one for one in articles):
        yield from map(of_row, squad.rows_of(articles, name))
        return
    for number, value in enumerate(_items(content), 1):
        if not isinstance(value, dict):
            reason = f"not a JSON object but {type(value).__name__}; write an object for each document"
            yield Record({"raw": raw_text(value)}, f"{name} row {number}", reason)
        elif value.get("type") != "message" or value.get("subtype") not in _NOTICES:
            yield Record(value, f"{name} row {number}")


def _items(content: Any) -> list[Any]:
    """The array of objects with the longest text in it, or `content` itself if its own text is longer."""
    if not isinstance(content, dict):
        return content if isinstance(content, list) else [content]
    best, longest, waiting = [content], _longest(content), [content]
    for value in waiting:
        for inner in value.values():
            if isinstance(inner, dict):
                waiting.append(inner)
                longest = max(longest, _longest(inner) if best == [content] else 0)
            elif isinstance(inner, list) and inner and isinstance(inner[0], dict):
                length = max(
                    max(map(_longest, [one, *(v for v in one.values() if isinstance(v, dict))]), default=0)
                    for one in inner
                    if isinstance(one, dict)
                )
                if length > longest:
                    best, longest = inner, length
    return best


def _longest(value: dict[str, Any]) -> int:
    """Characters of the longest string of an object."""
    return max((len(one) for one in value.values() if isinstance(one, str)), default=0)


def delimiter_of(text: str) -> str | None:
    """The character that separates the columns of the CSV file that begins with `text`; None if it is no CSV."""
    csv.field_size_limit(MAX_FIELD)
    lines = text.splitlines()[:-1][:20] or text.splitlines()
    found = []
    for delimiter in _DELIMITERS:
        header, *rows = [row for row in csv.reader(lines, delimiter=delimiter) if row] or [[]]
        alike = sum(len(row) == len(header) for row in rows)
        named = len(set(header)) == len(header) and all(_HEADER.fullmatch(name) for name in header)
        if len(header) > 1 and named and alike * 2 >= len(rows):
            found.append((len(header), delimiter))
    return max(found)[1] if found else None


def read_csv(data: bytes, name: str, limits: Limits) -> Iterator[Record]:
    """Yield the rows of a CSV file with a header, numbered by line; comma, semicolon, tab or | between its columns."""
    lines = list(io.StringIO(decode(data)[0].replace("\0", ""), newline=""))
    start, delimiter = 0, delimiter_of("".join(lines[:200])) or ","
    if lines and (told := re.match(r'"?sep=(.)"?\s*$', lines[0])):  # a line for spreadsheets
        start, delimiter = 1, told[1]
    reader = csv.reader(lines[start:], delimiter=delimiter)
    columns = [column.strip() or f"column {number}" for number, column in enumerate(next(reader, []), 1)]
    first = {name: number for number, name in reversed(list(enumerate(columns, 1)))}
    header = [name if first[name] == number else f"{name} {number}" for number, name in enumerate(columns, 1)]
    start, restarts = start + reader.line_num, 0
    for count in itertools.count():
        limits.check_rows(name, count, columns=len(header))
        begin, offset = start, start - reader.line_num
        fields = next(reader, None)
        if fields is None:
            return
        start = offset + reader.line_num
        while len(fields) > len(header) and not fields[-1]:
            fields.pop()
        raw = delimiter.join(fields)[:RAW_LENGTH]
        endless = start == len(lines) > begin + 1 and "".join(lines[begin:]).count('"') % 2
        if endless or (fields and len(fields) != len(header)):
            reason = f"has {len(fields)} fields, the header has {len(header)}: quote a field that holds {delimiter!r}"
            reason = "has a quotation mark that is never closed" if endless else reason
            yield Record({"raw": raw}, f"{name} row {begin + 1}", reason)
            if start > begin + 1 and restarts < _RESTARTS:  # the rows after it
                restarts += 1
                reader, start = csv.reader(lines[begin + 1 :], delimiter=delimiter), begin + 1
        elif fields:
            error = "not UTF-8" if re.search("[\udc80-\udcff]", raw) else None
            yield Record(dict(zip(header, fields, strict=True)), f"{name} row {begin + 1}", error)


def read_parquet(data: bytes, name: str, limits: Limits) -> Iterator[Record]:
    """Yield the rows of a Parquet file with all columns. Raises StreamError or ArrowException."""
    buffer = pa.py_buffer(data)
    with pq.ParquetFile(buffer) as file:
        names = file.schema_arrow.names
        yield from _batch_rows(parquet_batches(file, buffer, name, limits, names), name, limits)


def read_arrow(data: bytes, name: str, limits: Limits) -> Iterator[Record]:
    """Yield the rows of an Arrow file or stream. Raises StreamError or ArrowException."""
    yield from _batch_rows(arrow_batches(data, name, limits), name, limits)


def _batch_rows(batches: Iterator[pa.RecordBatch], name: str, limits: Limits) -> Iterator[Record]:
    decoder = Decoder(name, limits)
    rows = (dict(zip(batch.schema.names, values, strict=True)) for batch in batches for values in decoder.rows(batch))
    for number, values in enumerate(rows, 1):
        yield Record(values, f"{name} row {number}")
