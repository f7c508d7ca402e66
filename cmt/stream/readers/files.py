"""Source files as bytes, lines and rows; what cannot be read at all is a StreamError, a single bad row a Rejected."""

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
from cmt.stream.schema import RAW_LENGTH, Rejected

_UTF16_32 = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")
_LONGEST_FIELD = 2**31 - 1  # csv's own limit, 128 KiB, is shorter than a long article


class RawRow(NamedTuple):
    """One row as a reader found it, its fields renamed to the contract's."""

    kind: Literal["document", "question"]
    file: str
    row: int
    values: Mapping[str, Any]


def read_bytes(path: Path) -> bytes:
    """The whole of `path`, decompressed when its name ends in .gz or .xz."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StreamError(f"cannot read {path}: {error.strerror or error}") from None
    try:
        data = {".gz": gzip.decompress, ".xz": lzma.decompress}.get(path.suffix, bytes)(data)
    except (lzma.LZMAError, EOFError, zlib.error, OSError) as error:
        raise StreamError(f"{path} is damaged or not a {path.suffix} file ({error}); fetch it again") from None
    if not data.strip():
        raise StreamError(f"{path} is empty; nothing was ingested")
    return data


def read_json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]] | Rejected]:
    """(line number, object) for each line of `path`; blank lines are passed over."""
    data = read_bytes(path)
    if data.startswith(_UTF16_32):
        raise StreamError(f"{path} is UTF-16 or UTF-32; convert it: iconv -f UTF-16 -t UTF-8")
    rows = [_json_line(path.name, number, line) for number, line in enumerate(data.split(b"\n"), 1) if line.strip()]
    if all(isinstance(row, Rejected) and row.reason.startswith("not UTF-8") for row in rows):
        raise StreamError(f"{path} is not UTF-8 in any line; convert it with iconv, or unpack it first")
    yield from rows


def read_json(path: Path) -> Any:
    """The one JSON value that `path` holds."""
    try:
        return json.loads(read_bytes(path).decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise StreamError(f"{path} is not UTF-8 (byte {error.start}); convert it with iconv") from None
    except (ValueError, RecursionError) as error:
        raise StreamError(f"{path} is not valid JSON: {error}") from None


def read_csv(path: Path, *, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]] | Rejected]:
    """(line number, row) for each row of the CSV `path`, whose header must have `columns`."""
    # bytes that are not UTF-8 become surrogates, so that one bad row is told from the others
    text = read_bytes(path).decode("utf-8-sig", errors="surrogateescape")
    csv.field_size_limit(_LONGEST_FIELD)
    reader = csv.reader(io.StringIO(text, newline=""))
    header = next(reader, [])
    if missing := [column for column in columns if column not in header]:
        raise StreamError(f"{path} lacks the columns {', '.join(missing)}; its header is {', '.join(header)[:200]!r}")
    start = reader.line_num + 1
    for fields in reader:
        number, start = start, reader.line_num + 1
        if fields:
            yield _csv_row(path.name, number, header, fields)


def _json_line(file: str, number: int, line: bytes) -> tuple[int, dict[str, Any]] | Rejected:
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
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} stands there twice")
    return values


def _csv_row(file: str, number: int, header: list[str], fields: list[str]) -> tuple[int, dict[str, str]] | Rejected:
    raw = ",".join(fields)[:RAW_LENGTH]
    if len(fields) != len(header):
        return Rejected(file, number, f"has {len(fields)} fields, the header has {len(header)}", raw)
    if any("\udc80" <= character <= "\udcff" for character in "".join(fields)):
        return Rejected(file, number, "not UTF-8", raw)
    return number, dict(zip(header, fields, strict=True))
