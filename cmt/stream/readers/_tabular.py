"""JSON lines, JSON and CSV as records with the keys of the source."""

import csv
import io
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from cmt.errors import StreamError
from cmt.stream.columns import Record, column_of
from cmt.stream.limits import MEGABYTE, Limits
from cmt.stream.readers import _squad
from cmt.stream.readers._text import decode
from cmt.stream.schema import RAW_LENGTH, raw_text

_ESCAPED = 6  # bytes of an escaped character
_MAX_FIELD = 2**31 - 1  # characters; the default of csv, 128 KiB, is shorter than a long article
_BRACKETS_A_ROW = 10  # lists and objects that a row of JSON needs
_DELIMITERS = ",;\t|"
_NULL = "\\N"  # of MySQL and PostgreSQL
_NAME = re.compile(r"[^\n.!?]{1,60}")  # of a column, unlike a part of a sentence
_TOKEN = re.compile(
    "[!-~]+"
)  # or one word of ASCII; a text in a language without blanks is not ASCII
_ROWS = 20  # of a table that decide its delimiter, and whether it is prose
_SAMPLE = 200_000  # characters that decide the delimiter
_RESTARTS = 100  # of a CSV file after a quotation mark that is never closed
_NOTICES = {
    "channel_join",
    "channel_leave",
    "channel_topic",
    "channel_purpose",
    "channel_name",
    "bot_add",
}


def read_json_lines(data: bytes, name: str, limits: Limits) -> Iterator[Record]:
    """Yield the objects of JSON lines in any encoding, numbered by line; blank lines are
    skipped.
    """
    text, encoding = decode(data)
    data = data if encoding == "utf-8" else text.encode("utf-8", "backslashreplace")
    del text
    limits.check_rows(name, data.count(b"\n"))
    for number, line in enumerate(io.BytesIO(data), 1):
        if line.strip():
            yield _json_line(line.rstrip(b"\n"), f"{name} row {number}", limits, first=number == 1)


def read_json(data: bytes, name: str, limits: Limits) -> Iterator[Record]:
    """Yield the objects of a JSON array, of the arrays that an object holds at any key, or the only
    object.

    A file in SQuAD's layout gives its documents and questions. Raises StreamError if the file is
    not valid JSON.
    """
    limits.check_rows(name, (data.count(b"[") + data.count(b"{")) // _BRACKETS_A_ROW)
    try:
        content = json.loads(decode(data)[0])
    except (ValueError, RecursionError) as error:
        raise StreamError(f"{name} is not valid JSON: {error}; fetch it again") from None
    articles = content.get("data") if isinstance(content, dict) else None
    if isinstance(articles, list) and any(
        isinstance(one, dict) and "paragraphs" in one for one in articles
    ):
        yield from _squad.rows_of(articles, name)
        return
    items, left_out = _items(content, limits.stream.columns.values())
    for number, value in enumerate(items, 1):
        if not isinstance(value, dict):
            reason = (
                f"not a JSON object but {type(value).__name__}; write an object for each document"
            )
            yield Record({"raw": raw_text(value)}, f"{name} row {number}", reason, left_out)
        elif not _is_notice(value):
            yield Record(value, f"{name} row {number}", left_out=left_out)
        else:
            continue
        left_out = ()


def _is_notice(message: dict[str, Any]) -> bool:
    """Whether a message of Slack or Telegram only says that somebody joined or changed a name."""
    kind = message.get("type")
    joined = kind == "message" and message.get("subtype") in _NOTICES
    return joined or (kind == "service" and "action" in message and not message.get("text"))


def _json_line(line: bytes, where: str, limits: Limits, *, first: bool) -> Record:
    raw = {"raw": line[:RAW_LENGTH].decode("utf-8", "backslashreplace")[:RAW_LENGTH].rstrip("\r")}
    if (
        len(line) > MEGABYTE + _ESCAPED * limits.stream.document_characters
    ):  # parsing needs up to 20 times the memory
        reason = (
            f"the line has {len(line):,} bytes: split the document, or raise "
            "stream.document_characters"
        )
        return Record(raw, where, reason)
    try:
        values = json.loads(
            line.decode("utf-8-sig" if first else "utf-8"), object_pairs_hook=_unique_keys
        )
    except UnicodeDecodeError as error:
        return Record(
            raw,
            where,
            f"not UTF-8: byte 0x{line[error.start]:02x} at position {error.start + 1} of the line",
        )
    except (ValueError, RecursionError) as error:
        return Record(raw, where, f"broken JSON: {error}")
    if not isinstance(values, dict):
        return Record(
            raw, where, f"not a JSON object but {type(values).__name__}; write one object a line"
        )
    return Record(values, where)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values, counts = dict(pairs), Counter(key for key, _ in pairs)
    if len(values) < len(pairs):
        raise ValueError(
            f"the key {next(key for key in counts if counts[key] > 1)!r} appears twice"
        )
    return values


def _items(content: Any, chosen: Iterable[str]) -> tuple[list[Any], tuple[str, ...]]:
    """Return the objects that are documents, and the names of the parts of `content` that are not.

    The documents are the array whose objects have most of the `chosen` columns, or else the array
    with the longest text; and the arrays that share half of its keys, or `content` itself.
    """
    if not isinstance(content, dict):
        return content if isinstance(content, list) else [content], ()
    # 1. the objects, and the arrays of objects, at any key
    objects, arrays = _objects_and_arrays(content)
    keys = [_keys(array) for _, array in arrays]
    # 2. the array whose objects have most of the chosen columns
    wanted = {name.strip().partition(".")[0] for names in chosen for name in names.split(",")}
    with_most = max(keys, key=lambda of: len(wanted & of), default=set[str]())
    if len(wanted & with_most) > len(wanted & content.keys()):
        return _like(with_most, arrays, keys)
    # 3. the array with the longest text; a summary outside it describes the file
    lengths = [_longest(_with_inner(array)) for _, array in arrays]
    best = max(
        lengths,
        key=lambda of: (of["text"], of["summary"], max(of.values(), default=0)),
        default=Counter(),
    )
    of_file = _longest(objects)
    rivals = list(of_file.values())
    if best["text"] or best["summary"]:
        rivals = [of_file["text"], of_file[None]]
    if max(best.values(), default=0) <= max(rivals, default=0):
        return [content], ()
    items, left_out = _like(keys[lengths.index(best)], arrays, keys)
    of_texts = [column for column in ("text", "summary") if of_file[column]]
    return items, (*left_out, *(f"the {column} of the file" for column in of_texts))


def _like(
    best: set[str], arrays: list[tuple[str, list[Any]]], keys: list[set[str]]
) -> tuple[list[Any], tuple[str, ...]]:
    """The items of the arrays that share half of their keys with the keys `best`, and the names of
    the others.
    """
    items, left_out = list[Any](), list[str]()
    for (key, array), of in zip(arrays, keys, strict=True):
        if 2 * len(best & of) >= len(best | of):
            items += array
        else:
            left_out.append(f"the array {key[:100]}")
    return items, tuple(left_out)


def _objects_and_arrays(
    content: dict[str, Any],
) -> tuple[list[dict[str, Any]], list[tuple[str, list[Any]]]]:
    """`content` and the objects in it at any key, and the arrays of objects in them by their
    keys.
    """
    objects, arrays = [content], list[tuple[str, list[Any]]]()
    for value in objects:
        for key, inner in value.items():
            if isinstance(inner, dict):
                objects.append(inner)
            elif isinstance(inner, list) and any(isinstance(item, dict) for item in inner):
                arrays.append((key, inner))
    return objects, arrays


def _with_inner(array: list[Any]) -> list[dict[str, Any]]:
    """The objects of an array, and the objects that they hold."""
    objects = [item for item in array if isinstance(item, dict)]
    inner = list[dict[str, Any]]()
    for item in objects:
        inner += [value for value in item.values() if isinstance(value, dict)]
    return objects + inner


def _keys(array: list[Any]) -> set[str]:
    """The keys of all objects of an array."""
    return set[str]().union(*(item for item in array if isinstance(item, dict)))


def _longest(objects: Iterable[dict[str, Any]]) -> Counter[str | None]:
    """Return column of a document → length of the longest string in `objects`; None: of other
    names, without tokens.
    """
    of_keys, of_columns = Counter[tuple[str, bool]](), Counter[str | None]()
    for one in objects:
        for key, value in one.items():
            if isinstance(value, str):
                named = key, bool(_TOKEN.fullmatch(value))
                of_keys[named] = max(of_keys[named], len(value))
    for (key, token), length in of_keys.items():
        if (column := column_of(key)) or not token:
            of_columns[column] = max(of_columns[column], length)
    return of_columns


def delimiter_of(text: str) -> str | None:
    """The character that separates the columns of the CSV file that begins with `text`; None if it
    has one column.
    """
    csv.field_size_limit(_MAX_FIELD)
    lines = list(io.StringIO(text, newline=""))
    cut = len(lines) > _ROWS or not text.endswith("\n")
    found = []
    for delimiter in _DELIMITERS:
        header, *rows = [
            row for row in csv.reader(lines[:_ROWS], delimiter=delimiter) if any(row)
        ] or [[]]
        rows = rows[:-1] if cut else rows
        alike = sum(len(row) == len(header) for row in rows)
        if len(header) > 1 and alike * 2 >= len(rows):
            found.append((len(header), alike, delimiter))
    return max(found)[2] if found else None


def is_table(text: str, *, whole: bool) -> bool:
    """Return whether a file whose name does not say so is CSV. `text`: its beginning, or with
    `whole` all of it.

    Its header has short names that are no sentences. At least two rows follow it, each with as many
    fields and without blank lines between them.
    """
    if not (delimiter := delimiter_of(text)):
        return False
    rows = list(
        itertools.islice(
            csv.reader(io.StringIO(text.rstrip("\r\n"), newline=""), delimiter=delimiter), _ROWS
        )
    )
    named = len(set(rows[0])) == len(rows[0]) and all(
        _NAME.fullmatch(name.strip()) for name in rows[0]
    )
    rows = rows if whole else rows[:-1]  # the last one may be cut
    return named and len(rows) > 2 and all(len(row) == len(rows[0]) for row in rows)


def _table(text: str) -> tuple[str, str, int]:
    """Return the table in a CSV file with quotation marks that are doubled, its delimiter, and the
    lines before it.

    Spark and MySQL escape a quotation mark with a backslash instead of doubling it. `text` is read
    in this way if that leaves fewer malformed rows.
    """
    told = re.match(r'"?sep=(.)"?[ \t]*(?:\r?\n|\Z)', text)  # a line for spreadsheets
    text = text[told.end() :] if told else text
    delimiter = told[1] if told else delimiter_of(text[:_SAMPLE]) or ","
    if '\\"' in text:
        escaped = (
            text.replace("\\\\", "\0")
            .replace('\\"', '""')
            .replace("\\\n", "\n")
            .replace("\0", "\\")
        )
        text = min(text, escaped, key=lambda one: _malformed(one, delimiter))
    return text, delimiter, int(bool(told))


def _malformed(text: str, delimiter: str) -> int:
    """The number of rows in CSV that are not as wide as the header, or go on after a closing
    quotation mark.
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    width = 0
    count = 0
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return count
        except csv.Error:
            count += 1
            continue
        width = width or len(row)
        count += bool(row) and (len(row) < width or any(row[width:]))


def read_csv(
    data: bytes, name: str, limits: Limits, *, required: Sequence[str] = ()
) -> Iterator[Record]:
    """Yield the rows of a CSV file, numbered by line. Raises StreamError if its header lacks one of
    `required`.
    """
    csv.field_size_limit(_MAX_FIELD)
    text, delimiter, before = _table(decode(data)[0].replace("\0", ""))
    source = io.StringIO(text, newline="")
    reader = csv.reader(source, delimiter=delimiter)
    header = _header(next(filter(any, reader), []))
    if missing := [column for column in required if column not in header]:
        raise StreamError(
            f"{name} lacks the columns {', '.join(missing)}; its header is "
            f"{', '.join(header)[:200]!r}"
        )
    line, restarts = reader.line_num + before, 0
    for count in itertools.count():
        limits.check_rows(name, count, columns=len(header))
        begin, position, read = line, source.tell(), reader.line_num
        fields = next(reader, None)
        if fields is None:
            return
        line += reader.line_num - read
        where, has_lines = f"{name} row {begin + 1}", line > begin + 1
        while len(fields) > len(header) and not fields[-1]:
            fields.pop()
        endless = has_lines and source.tell() == len(text) and text.count('"', position) % 2
        if not endless and len(fields) in (0, len(header)):
            if fields:
                yield Record(_named(header, fields), where)
            continue
        reason = _bad_row(len(fields), len(header), delimiter, endless=bool(endless))
        yield Record({"raw": delimiter.join(fields)[:RAW_LENGTH]}, where, reason)
        if has_lines and restarts < _RESTARTS:  # the rows after it
            restarts += 1
            source.seek(position)
            source.readline()
            reader, line = csv.reader(source, delimiter=delimiter), begin + 1


def _named(header: list[str], fields: list[str]) -> dict[str, str]:
    """Name of a column → its field; the null of a database is blank."""
    row = dict[str, str]()
    for name, field in zip(header, fields, strict=True):
        row[name] = "" if field == _NULL else field
    return row


def _bad_row(fields: int, columns: int, delimiter: str, *, endless: bool) -> str:
    if endless:
        return "has a quotation mark that is never closed"
    return f"has {fields} fields, the header has {columns}: quote a field that holds {delimiter!r}"


def _header(names: list[str]) -> list[str]:
    """The names of the columns; a blank or repeated one gets its number."""
    header, known = list[str](), set[str]()
    for number, name in enumerate(names, 1):
        column = name.strip() or f"column {number}"
        header.append(f"{column} {number}" if column in known else column)
        known.add(column)
    return header
