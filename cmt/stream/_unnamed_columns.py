"""The columns of a table that have no role in the schema: short values become lines of the text,
and a column of unique short values names the rows.

1. "Ticket ID", "Issue key", "No.": the first column whose name ends so, and whose values differ in
   every row of the file, is the id of the rows.
2. "Resolution", "Product": a short value becomes the line `Resolution: fixed` of the text.
3. Rows without an id whose texts are equal, but not their titles, get the title as a line, too.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from cmt.stream.schema import is_blank

MOST_LINES = 30  # of one row
_SHORT, _ID = 300, 40  # characters of a value in a line, and of an id
_WORD = re.compile(r"[A-Z]{2,}(?![a-z])|[A-Z]?[^\W\d_A-Z]+|\d+")
_ENDS = {"id", "key", "number", "num", "no", "nr", "ref", "reference"}
_COUNTS = {"no", "nr", "num", "number"}  # in one word: perhaps the number of the row
_OF_ROWS = {"row", "line", "index"}
_TECHNICAL = {
    "encoding",
    "hash",
    "lang",
    "language",
    "layout",
    "locale",
    "slug",
    "template",
    "token",
}
_KINDS = {"article", "document", "entry", "item", "message", "news", "page", "post"}
"""Values that say what every row is."""
_UNREADABLE = re.compile(r"[a-z][\w+.-]*:/\S+|[0-9a-f-]{16,}|\d{9,}|[^\s@]{41,}|\W*", re.IGNORECASE)
"""Addresses, digests, seconds since 1970, tokens, and values without a letter or digit."""


class Others(NamedTuple):
    """What a row has in columns without a role."""

    lines: Mapping[str, str] = {}  # column → a short value
    ids: Mapping[str, str] = {}  # column → a value that may name the row


class Named(NamedTuple):
    """The rows of a file with their ids and lines."""

    values: list[Mapping[str, Any]]
    id_column: str | None  # which the ids of rows were read from
    apart: int  # number of rows that only their title tells apart


def words_of(key: str) -> list[str]:
    """The words of a column's name: ticket, id of `Ticket ID`, `ticketId` and `TICKET_ID`."""
    return [word.casefold() for word in _WORD.findall(key)]


def may_have_line(key: str) -> bool:
    """Whether a column may be read as lines, by its name."""
    return not _TECHNICAL.intersection(words_of(key)[-1:])


def may_be_id(key: str) -> bool:
    """Whether a column may have the ids of the rows, by its name."""
    return key.rstrip().endswith("#") or bool(_ENDS.intersection(words_of(key)[-1:]))


def told(value: Any) -> str:
    """A short value on one line; blank for one that is long, or not for people."""
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        value = ", ".join(value)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    line = " ".join(str(value).split())
    if len(line) > _SHORT or line.casefold() in _KINDS or _UNREADABLE.fullmatch(line):
        return ""
    return line


def id_of(value: Any) -> str:
    """A value that may be an id; blank for any other."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    line = str(value).strip()
    return line if len(line) <= _ID and "\n" not in line else ""


def line_of(key: str, value: str) -> str:
    """`Resolution note: fixed` of `resolution_note` and `fields.resolutionNote`."""
    own = key.rstrip(".").rpartition(".")[2].replace("_", " ")
    name = " ".join(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", own).split())
    return f"{name[:1].upper()}{name[1:]}: {value}"


def named(rows: Sequence[tuple[Mapping[str, Any], Others]]) -> Named:
    """The values of the rows of one file, with the ids and lines of their other columns."""
    # 1. the id; an address is one already
    unnamed = [
        number
        for number, (values, _) in enumerate(rows)
        if is_blank(values.get("doc_id")) and is_blank(values.get("url"))
    ]
    column = _id_column([rows[number] for number in unnamed])
    # 2. the lines
    result = list[Mapping[str, Any]]()
    for values, others in rows:
        lines = (line_of(key, value) for key, value in others.lines.items())
        result.append(_with_lines(values, lines))
    if column:
        for number in unnamed:
            result[number] = {**result[number], "doc_id": rows[number][1].ids[column]}
        return Named(result, column, 0)
    # 3. equal texts of different titles
    titles, apart = defaultdict[Any, set[Any]](set), 0
    for number in unnamed:
        titles[result[number].get("text")].add(_title(result[number]))
    for number in unnamed:
        values = result[number]
        if len(titles[values.get("text")]) > 1:
            result[number] = _with_lines(values, filter(None, [_title(values)]))
            apart += 1
    return Named(result, None, apart)


def _id_column(rows: Sequence[tuple[Mapping[str, Any], Others]]) -> str | None:
    """The first column that every row has, and whose values differ between different rows."""
    if len(rows) < 2:
        return None
    contents = [(values.get("text"), _title(values), str(others.lines)) for values, others in rows]
    for key in rows[0][1].ids:
        ids = [others.ids.get(key) for _, others in rows]
        if None in ids or len(set(ids)) != len(set(zip(ids, contents, strict=True))):
            continue
        if len(set(ids)) > 1 and not _numbers_rows(key, ids):
            return key
    return None


def _numbers_rows(key: str, ids: Sequence[str | None]) -> bool:
    """Whether the values are 0, 1, 2 … or 1, 2, 3 …, and the name of the column is `No.` or `Row
    number`, not that of a thing."""
    words = words_of(key)
    of_a_thing = len(words) > 1 and words[0] not in _OF_ROWS
    if of_a_thing or not _COUNTS.union(_OF_ROWS).issuperset(words):
        return False
    return any(ids == [str(n) for n in range(start, start + len(ids))] for start in (0, 1))


def _title(values: Mapping[str, Any]) -> str:
    title = values.get("title")
    return "" if is_blank(title) else " ".join(str(title).split())


def _with_lines(values: Mapping[str, Any], lines: Iterable[str]) -> Mapping[str, Any]:
    text, added = values.get("text"), "\n".join(lines)
    if not (added and isinstance(text, str)):
        return values
    return {**values, "text": f"{text.rstrip()}\n\n{added}"}
