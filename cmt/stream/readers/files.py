"""Files as bytes, lines and rows. An unreadable file raises StreamError, an unreadable row becomes Rejected."""

import bz2
import csv
import gzip
import importlib
import io
import json
import lzma
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pyarrow as pa

from cmt.common.storage import open_regular
from cmt.errors import StreamError
from cmt.stream.limits import Limits
from cmt.stream.readers.text import decode
from cmt.stream.schema import RAW_LENGTH, Rejected

_COMPRESSIONS = {b"\x1f\x8b": "gz", b"\xfd7zXZ\0": "xz", b"BZh": "bz2", b"\x28\xb5\x2f\xfd": "zst"}
_XZ_MEMORY = 256_000_000  # bytes; `xz -9` needs 65 MB, the format allows 4 GB
MAX_FIELD = 2**31 - 1  # characters; the default of csv, 128 KiB, is shorter than a long article
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
    """The content of `path`, decompressed if it is compressed.

    Raises StreamError, also if it exceeds `stream.file_megabytes`, without reading further.
    """
    data = read_regular(path, path, limits)
    if len(data) > limits.file_bytes:
        raise limits.too_large(path)
    if (compression := compression_of(data)) or path.suffix in (".gz", ".xz"):
        data = decompress(data, compression or path.suffix[1:], path, limits.file_bytes, limits)
    if not data.strip():
        raise StreamError(f"{path} is empty; nothing was ingested")
    return data


def read_regular(path: Path, name: Path | str, limits: Limits) -> bytes:
    """The content of a regular file, at most one byte more than `limits`; never waits for a pipe or a device.

    Raises StreamError, which calls it `name`.
    """
    try:
        with open_regular(path) as file:
            return file.read(limits.file_bytes + 1)
    except OSError as error:
        raise StreamError(f"cannot read {name}: {error.strerror or error}") from None


def read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """A member of a ZIP archive, at most one byte more than it declares. Raises BadZipFile, also without Deflate.

    `ZipFile.read` decompresses a whole member, even one that declares a smaller size.
    """
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others expand without a bound
        raise zipfile.BadZipFile("its compression is not Deflate")
    with archive.open(member) as file:
        return file.read(member.file_size + 1)


def compression_of(data: bytes) -> str | None:
    """gz, xz, bz2 or zst by the first bytes; None for anything else."""
    return next((name for start, name in _COMPRESSIONS.items() if data.startswith(start)), None)


def decompress(data: bytes, compression: str, path: Path | str, size: int, limits: Limits) -> bytes:
    """`data` decompressed to at most `size` bytes. Raises StreamError, also if it exceeds them."""
    try:
        if compression == "xz":
            content = _read_xz(data, size + 1)
        elif compression == "zst":
            with pa.CompressedInputStream(pa.BufferReader(data), "zstd") as stream:
                content = stream.read(size + 1)
        else:
            with (gzip.open if compression == "gz" else bz2.open)(io.BytesIO(data)) as file:
                content = file.read(size + 1)
    except (lzma.LZMAError, EOFError, zlib.error, OSError, ValueError) as error:
        raise StreamError(f"{path} is damaged or not a .{compression} file ({error}); fetch it again") from None
    if len(content) > size:
        raise limits.too_large(path)
    return bytes(content)


def _read_xz(packed: bytes, size: int) -> bytes:
    """At most `size` decompressed bytes of all streams of `packed`.

    `lzma.open` does not limit the memory of the dictionary, whose size the file determines.
    """
    content = io.BytesIO()
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


def extra(module: str, name: str) -> Any:
    """The module of an optional library that the file `name` needs. Raises StreamError if it is not installed."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        raise StreamError(
            f"{name} needs {module.partition('.')[0]}, which is not installed: pip install 'cmt-memory[formats]'"
        ) from None


def read_json_lines(path: Path, limits: Limits) -> Iterator[tuple[int, dict[str, Any]] | Rejected]:
    """Yield (line number, object) for each line of `path`; blank lines are skipped. Raises StreamError."""
    return json_lines(read_bytes(path, limits), path.name, limits)


def json_lines(data: bytes, name: str, limits: Limits) -> Iterator[tuple[int, dict[str, Any]] | Rejected]:
    """Yield (line number, object) for each line of `data` in any encoding; blank lines are skipped."""
    text, encoding = decode(data)
    data = data if encoding == "utf-8" else text.encode("utf-8", "backslashreplace")
    del text
    limits.check_rows(name, data.count(b"\n"))
    for number, line in enumerate(io.BytesIO(data), 1):
        if line.strip():
            yield _json_line(name, number, line.rstrip(b"\n"), limits)


def read_json(path: Path, limits: Limits) -> Any:
    """The JSON value in `path`. Raises StreamError."""
    return parse_json(read_bytes(path, limits), path, limits)


def parse_json(data: bytes, path: Path | str, limits: Limits) -> Any:
    """The JSON value in `data`, in any encoding. Raises StreamError."""
    limits.check_rows(path, (data.count(b"[") + data.count(b"{")) // _BRACKETS_A_ROW)
    try:
        return json.loads(decode(data)[0])
    except (ValueError, RecursionError) as error:
        raise StreamError(f"{path} is not valid JSON: {error}; fetch it again") from None


def read_csv(
    path: Path, limits: Limits, *, columns: tuple[str, ...]
) -> Iterator[tuple[int, dict[str, str]] | Rejected]:
    """Yield (line number, row) for each row of the CSV file `path`.

    Raises StreamError if the file cannot be read or its header lacks one of `columns`.
    """
    # bytes that are not UTF-8 become surrogates, so that only the rows with such bytes are rejected
    data = io.BytesIO(read_bytes(path, limits))
    csv.field_size_limit(MAX_FIELD)
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
