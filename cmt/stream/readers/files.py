"""Files as bytes, lines and rows. An unreadable file raises StreamError, an unreadable row becomes Rejected."""

import csv
import gzip
import io
import json
import lzma
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from cmt.errors import StreamError
from cmt.stream.limits import Limits
from cmt.stream.schema import RAW_LENGTH, Rejected

_UTF16_32_MARKS = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")
_XZ_MEMORY = 256_000_000  # bytes; `xz -9` needs 65 MB, the format allows 4 GB
_MAX_FIELD = 2**31 - 1  # characters; the default of csv, 128 KiB, is shorter than a long article
_BRACKETS_A_ROW = 10  # lists and objects that a row of JSON needs


class RawRow(NamedTuple):
    """One row of a file, with the columns of the schema, not validated yet."""

    kind: Literal["document", "question"]
    file: str
    row: int
    values: Mapping[str, Any]


class Record(NamedTuple):
    """One record of a source as it is written there, before its fields are matched with the schema."""

    fields: dict[str, Any]
    """Raw keys and values; readers of pages, feeds and mail use the names of the schema."""
    where: str
    """`feed.xml row 3`, or `pages.zip/news/a.html` inside a folder or archive."""
    error: str | None = None
    """Why the record could not be read, and what to do."""


def read_bytes(path: Path, limits: Limits) -> bytes:
    """The content of `path`, decompressed if the name ends in .gz or .xz.

    Raises StreamError, also if it exceeds `stream.file_megabytes`, without reading further.
    """
    limit = limits.file_bytes
    try:
        if path.suffix == ".xz":
            data = _read_xz(path, limit + 1)
        else:
            with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
                data = file.read(limit + 1)
    except (lzma.LZMAError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise StreamError(f"{path} is damaged or not a {path.suffix} file ({error}); fetch it again") from None
    except OSError as error:
        raise StreamError(f"cannot read {path}: {error.strerror or error}") from None
    if len(data) > limit:
        raise limits.too_large(path)
    if not data.strip():
        raise StreamError(f"{path} is empty; nothing was ingested")
    return data


def _read_xz(path: Path, size: int) -> bytes:
    """At most `size` decompressed bytes of all streams of the file.

    `lzma.open` does not limit the memory of the dictionary, whose size the file determines.
    """
    packed, content = path.read_bytes(), io.BytesIO()
    while packed and content.tell() < size:
        stream = lzma.LZMADecompressor(memlimit=_XZ_MEMORY)
        try:
            content.write(stream.decompress(packed, size - content.tell()))
        except lzma.LZMAError:
            if content.tell():
                break  # trailing bytes are no stream
            raise
        if not stream.eof and content.tell() < size:
            raise EOFError("the file ends within its compressed data")
        packed = stream.unused_data.lstrip(b"\0")  # streams may be padded
    return content.getvalue()


def read_json_lines(path: Path, limits: Limits) -> Iterator[tuple[int, dict[str, Any]] | Rejected]:
    """Yield (line number, object) for each line of `path`; blank lines are skipped. Raises StreamError."""
    data = read_bytes(path, limits)
    if data.startswith(_UTF16_32_MARKS):
        raise StreamError(f"{path} is UTF-16 or UTF-32; convert it: iconv -f UTF-16 -t UTF-8")
    limits.check_rows(path, data.count(b"\n"))
    lines = enumerate(data.split(b"\n"), 1)
    rows = [_json_line(path.name, number, line, limits) for number, line in lines if line.strip()]
    if all(isinstance(row, Rejected) and row.reason.startswith("not UTF-8") for row in rows):
        raise StreamError(f"{path} is not UTF-8 in any line; convert it with iconv, or unpack it first")
    yield from rows


def read_json(path: Path, limits: Limits) -> Any:
    """The JSON value in `path`. Raises StreamError."""
    data = read_bytes(path, limits)
    limits.check_rows(path, (data.count(b"[") + data.count(b"{")) // _BRACKETS_A_ROW)
    try:
        return json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise StreamError(f"{path} is not UTF-8 (byte {error.start}); convert it with iconv") from None
    except (ValueError, RecursionError) as error:
        raise StreamError(f"{path} is not valid JSON: {error}") from None


def read_csv(
    path: Path, limits: Limits, *, columns: tuple[str, ...]
) -> Iterator[tuple[int, dict[str, str]] | Rejected]:
    """Yield (line number, row) for each row of the CSV file `path`.

    Raises StreamError if the file cannot be read or its header lacks one of `columns`.
    """
    # bytes that are not UTF-8 become surrogates, so that only the rows with such bytes are rejected
    data = io.BytesIO(read_bytes(path, limits))
    csv.field_size_limit(_MAX_FIELD)
    reader = csv.reader(io.TextIOWrapper(data, "utf-8-sig", "surrogateescape", newline=""))
    header = next(reader, [])
    if missing := [column for column in columns if column not in header]:
        raise StreamError(f"{path} lacks the columns {', '.join(missing)}; its header is {', '.join(header)[:200]!r}")
    start = reader.line_num + 1
    for count, fields in enumerate(reader, 1):
        limits.check_rows(path, count)
        number, start = start, reader.line_num + 1
        if fields:
            yield _csv_row(path.name, number, header, fields)


def _json_line(file: str, number: int, line: bytes, limits: Limits) -> tuple[int, dict[str, Any]] | Rejected:
    if len(line) > limits.line_bytes:
        reason = f"the line has {len(line):,} bytes: split the document, or raise stream.document_characters"
        return Rejected(file, number, reason, line[:RAW_LENGTH].decode("utf-8", "backslashreplace")[:RAW_LENGTH])
    try:
        values = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"), object_pairs_hook=_unique_keys)
    except UnicodeDecodeError as error:
        reason = f"not UTF-8: byte 0x{line[error.start]:02x} at position {error.start + 1} of the line"
        return Rejected(file, number, reason, line[:RAW_LENGTH].decode("utf-8", "backslashreplace")[:RAW_LENGTH])
    except (ValueError, RecursionError) as error:
        return Rejected(file, number, f"broken JSON: {error}", line.decode("utf-8")[:RAW_LENGTH].rstrip("\r"))
    if not isinstance(values, dict):
        reason = f"not a JSON object but {type(values).__name__}; write one object a line"
        return Rejected(file, number, reason, line.decode("utf-8")[:RAW_LENGTH].rstrip("\r"))
    return number, values


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object hook of `json.loads` that raises ValueError for a repeated key."""
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} appears twice")
    return values


def _csv_row(file: str, number: int, header: list[str], fields: list[str]) -> tuple[int, dict[str, str]] | Rejected:
    raw = ",".join(fields)[:RAW_LENGTH]
    if len(fields) != len(header):
        return Rejected(file, number, f"has {len(fields)} fields, the header has {len(header)}", raw)
    if any("\udc80" <= character <= "\udcff" for character in "".join(fields)):
        return Rejected(file, number, "not UTF-8", raw)
    return number, dict(zip(header, fields, strict=True))
