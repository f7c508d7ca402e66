"""The format of a file by its content, and the records of files, folders and archives of any
mixture.
"""

import io
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

import pyarrow as pa

from cmt.errors import ConfigError, StreamError
from cmt.stream.columns import Record, column_of, is_draft, is_flag
from cmt.stream.limits import DEFAULT_LIMITS, MAX_NESTING, Limits
from cmt.stream.readers import _datasets, _decoding, _mail, _pages, _prose, _tabular
from cmt.stream.readers._chats import LISTS, PEOPLE, People, people_of, with_people
from cmt.stream.readers._text import chapters, decode, without_markup
from cmt.stream.readers.files import (
    COMPRESSIONS,
    UNPACKING,
    decompress,
    members,
    part_of,
    read_regular,
    walk,
)
from cmt.stream.schema import Notes, is_blank, raw_text
from cmt.text.date_formats import DateReader
from cmt.text.markup import replace_between

_READERS: dict[str, Callable[[bytes, str, Limits], Iterable[Record]]] = {
    "jsonl": _tabular.read_json_lines,
    "json": _tabular.read_json,
    "squad": _tabular.read_json,
    "csv": _tabular.read_csv,
    "parquet": _decoding.read_parquet,
    "arrow": _decoding.read_arrow,
    "feed": _pages.read_feed,
    "sitemap": _pages.read_sitemap,
    "html": _pages.read_html,
    "warc": _pages.read_warc,
    "wiki": _pages.read_wiki,
    "text": _prose.read_text,
    "pdf": _prose.read_pdf,
    "docx": _prose.read_docx,
    "mail": _mail.read_message,
    "mbox": _mail.read_mailbox,
    "streamingqa": _datasets.read_streamingqa,
    "archivalqa": _datasets.read_archivalqa,
}  # format → its reader; the last two, and `squad`, are used only if they are named
NO_DOCUMENTS = "has no documents"  # in the error of a file that can be read
_OWN_FILES = ("documents.jsonl", "questions.jsonl", "documents.parquet", "questions.parquet")
"""Of a folder with one of these files only these are read."""
_MARKED_UP = {"jsonl", "json", "csv", "parquet", "arrow"}
"""Formats whose fields may hold HTML, which their readers leave in them."""

_HEAD = 200_000  # bytes that decide the format
_STARTS = {
    **COMPRESSIONS,
    b"PAR1": "parquet",
    b"ARROW1": "arrow",
    b"\xff\xff\xff\xff": "arrow",
    b"WARC/": "warc",
    b"PK\3\4": "zip",
    b"{\\rtf": "rtf",
}
_OFFICE = {
    "word": "docx",
    "xl": "xlsx",
    "ppt": "pptx",
}  # folder in a file of Microsoft Office → format
_REFUSED = {
    "xlsx": "a spreadsheet, XLSX: save it as CSV",
    "pptx": "a presentation, PPTX: save it as PDF",
    "odf": "an OpenDocument file: save it as DOCX, CSV or PDF",
    "rtf": "rich text, RTF: save it as DOCX, HTML or plain text",
}  # format → what it is, and what to do
_XML = (
    ("feed", "rss|feed|rdf:rdf"),
    ("sitemap", "urlset|sitemapindex"),
    ("html", "!doctype html|html"),
)
_HTML = re.compile(r"<(?:head|body|article|main|section|div|p|h1|table)\b", re.IGNORECASE)
_HEADER = re.compile(
    r"^(from|to|date|subject|message-id|mime-version|received|content-type|return-path):",
    re.I | re.M,
)
_BINARY = re.compile("[\0-\x08\x0e-\x1a\x1c-\x1f]")
_TEXTS = {"", ".txt", ".text", ".rst", ".adoc", ".asc", ".log", *_prose.MARKDOWN}
"""Suffixes of plain texts; in a folder, other files of no known format are left out."""
_DATE_IN_NAME = re.compile(
    r"(?<!\d)(?P<year>(?:19|20)\d\d)(?P<by>[-_./]?)(?P<month>0[1-9]|1[0-2])(?:(?P=by)|/|(?<=/\d\d)[-_.])"
    r"(?P<day>0[1-9]|[12]\d|3[01])(?!\d)"
)
"""With one separator, or a folder for one of its parts: CVE-2021-0304 is a number."""
_DAY_IN_NAME = re.compile(
    r"(?<![\d.])\d{1,2}(?:([-.])\d{1,2}\1|[-. _]?[^\W\d_]{3,9}[-. _]?)(?:19|20)\d\d(?!\.?\d)"
)
_IN_ARCHIVE = re.compile(
    r"\A.*\.(?:zip|tar|tgz|txz|tbz2?|gz|xz|bz2|zst)/", re.IGNORECASE | re.DOTALL
)
_DATE_KEY = re.compile(
    r"date|(?<!sen)time|publi(?!sher|cation$)|pubbl|(?:created|posted)(?!.?by)|^ts$|datum|^fecha|ver(?:ö|oe)ffentlicht|erschien",
    re.IGNORECASE,
)
_LIKE_A_DATE = re.compile(
    r"(?:19|20)\d\d|\d{9}|\d[./-]\d\d?[./-]\d"
)  # a year, seconds since 1970, or three numbers
_OTHER_BYTE = re.compile("[\udc80-\udcff]")  # what `decode` makes of bytes that are not UTF-8
_ENCODED = {
    "jsonl",
    "json",
    "squad",
    "csv",
    "wiki",
    "text",
}  # formats of text that does not declare its encoding


def records(
    path: Path,
    *,
    format: str | None = None,
    limits: Limits = DEFAULT_LIMITS,
    notes: Notes | None = None,
) -> Iterator[Record]:
    """Yield the records of the file or folder `path`, detecting each format by content unless
    `format` is named.

    Folders and archives are read recursively without their hidden files. A record, a file or a
    folder that cannot be read is one record with an `error`. `notes` gets the format and encoding
    of each file, and how many texts were cut. Raises ConfigError for an unknown format, and
    StreamError if `path` does not exist or is a folder without files.
    """
    if not path.exists():
        raise StreamError(f"{path} not found; name a file or a folder")
    inside = path.is_dir()
    files, problems = _files_in(path, notes or Notes()) if inside else ([path], [])
    yield from problems
    if not (files or problems):
        raise StreamError(f"{path} has no files; hidden ones are left out")
    people = people_in(path, limits) if inside else {}
    for file in files:
        if people and file.name in LISTS and file.parent == path:
            continue
        name = file.relative_to(path).as_posix() if inside else file.name
        try:
            data = read_regular(file, name, limits)
        except StreamError as error:
            yield Record({}, name, str(error))
        else:
            yield from records_of(
                data,
                name,
                format=format,
                limits=limits,
                notes=notes,
                inside=inside,
                people=people,
            )


def people_in(folder: Path, limits: Limits) -> People:
    """The people of an export of Slack in `folder`; none if it is not one."""
    file = folder / PEOPLE
    try:
        return people_of(read_regular(file, PEOPLE, limits)) if file.is_file() else {}
    except StreamError:
        return {}


def _files_in(folder: Path, notes: Notes) -> tuple[list[Path], list[Record]]:
    """The files to read of a folder, and an error for each folder that cannot be listed."""
    unlisted, listed = list[OSError](), list[Path]()
    for file in walk(folder, lambda name: not _hidden(name), unlisted.append):
        if not _hidden(file.relative_to(folder)):
            listed.append(file)
    # 1. files of our own layout stand for the whole folder
    named = [file for name in _OWN_FILES if (file := folder / name).is_file()]
    if named:
        for file in sorted(set(listed).difference(named)):
            left_out = f"a file is left out, because the folder has {named[0].name}"
            notes.add(left_out, file.relative_to(folder).as_posix())
        return sorted(file for file in named if file.stat().st_size) or named, []
    # 2. all files
    problems = list[Record]()
    for error in unlisted:
        reason = f"cannot list {error.filename}: {error.strerror}; its files are left out"
        problems.append(Record({}, Path(error.filename).relative_to(folder).as_posix(), reason))
    return sorted(listed), problems


def records_of(
    data: bytes,
    name: str,
    *,
    format: str | None = None,
    limits: Limits = DEFAULT_LIMITS,
    notes: Notes | None = None,
    inside: bool = False,
    people: People | None = None,
) -> Iterator[Record]:
    """Yield the records of the file `name`, as `records` does. `inside`: whether it is in a
    folder. `people`: of the chat of which it is a part.
    """
    if format not in (None, *_READERS):
        raise ConfigError(f"unknown format {format!r}: use {', '.join(_READERS)}")
    reading = _Reading(limits, format, notes or Notes(), inside, limits.file_bytes, people or {})
    yield from reading.read(data, name)


def detect(data: bytes, name: str) -> str | None:
    """The format of a file by its content: of _READERS or _REFUSED, a compression, zip or tar; None
    if unknown.
    """
    form = next((form for start, form in _STARTS.items() if data.startswith(start)), None)
    if form:
        return _kind_of_zip(data) if form == "zip" else form
    if data[257:262] == b"ustar":
        return "tar"
    if b"%PDF-" in data[:1024]:
        return "pdf"
    head = decode(data[:_HEAD])[0]
    if len(_BINARY.findall(head)) * 20 > len(head):
        return None
    return _kind_of_text(data, head.lstrip("\ufeff \t\r\n"), PurePosixPath(name).suffix.lower())


def _kind_of_text(data: bytes, head: str, suffix: str) -> str | None:
    """The format of a text that begins with `head`; None for XML of an unknown kind."""
    is_text = suffix in _TEXTS - {""}
    if head.startswith("<"):
        by_markup = _markup(head, markdown=suffix in _prose.MARKDOWN)
        return by_markup or ("text" if is_text and not head.startswith("<?xml") else None)
    # [1] and [[a link]] begin a text; an array without objects has no documents
    if re.match(r'\{\s*["}]|\[\s*\{' if is_text else r'\{\s*["}]|\[\s*[\[\]{"\d]', head):
        return _kind_of_json(head, suffix)
    if _mail.FROM_LINE.match(data):
        return "mbox"
    headers = _HEADER.findall(re.split(r"\r?\n\r?\n", head, maxsplit=1)[0])
    if len({header.lower() for header in headers}) > 1 and re.match(r"[\w-]+: ", head):
        return "mail"
    if re.match(r"(---|\+\+\+)[ \t]*\r?\n", head) or suffix in _prose.MARKDOWN:
        return "text"
    if suffix in (".csv", ".tsv") or _tabular.is_table(head, whole=len(data) <= _HEAD):
        return "csv"
    return "text"


def _kind_of_json(head: str, suffix: str) -> str:
    """Whether JSON has an object in each line."""
    lines = [line for line in head.split("\n") if line.strip()][:20]
    whole = 0
    for line in lines:
        whole += line.lstrip().startswith("{") and line.rstrip().endswith("}")
    return "jsonl" if whole * 2 > len(lines) > 1 or suffix == ".jsonl" else "json"


def _kind_of_zip(data: bytes) -> str:
    """The format of a ZIP archive by the names of its members."""
    try:
        names = set(zipfile.ZipFile(io.BytesIO(data)).namelist())
    except Exception:  # of a damaged archive: unpacking it shows what is wrong
        return "zip"
    if "[Content_Types].xml" in names:
        folders = {name.partition("/")[0] for name in names}
        return next((form for folder, form in _OFFICE.items() if folder in folders), "zip")
    return "odf" if {"mimetype", "content.xml"} <= names else "zip"


def _markup(head: str, *, markdown: bool) -> str | None:
    """The format of a file that begins with `<`; None for XML of another kind, and for `markdown`
    with HTML in it.
    """
    start = replace_between(head[:20_000], "<!--", "-->", lambda comment: " ")
    start = replace_between(start, "<?", "?>", lambda instruction: " ")
    start = " ".join(start.split())
    start = re.sub(
        r"^<!doctype (?!html)[^\[>]*(\[.*?\]\s*)?>\s*", "", start, flags=re.DOTALL | re.IGNORECASE
    )
    for form, names in _XML:
        if re.match(rf"<(?:{names})\b", start, re.IGNORECASE):
            return form
    if start.startswith("<doc "):
        return "wiki"
    return "html" if _HTML.search(start) and not (markdown or head.startswith("<?xml")) else None


def _is_text(data: bytes, path: PurePosixPath) -> bool:
    """Whether a file in a folder is a text by its suffix, or a page with front matter."""
    suffix, begin = path.suffix.lower(), data.removeprefix(b"\xef\xbb\xbf").lstrip()
    return suffix in _TEXTS or (suffix in _prose.PAGES and begin.startswith((b"---", b"+++")))


def _hidden(path: PurePath) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


@dataclass
class _Reading:
    """Reads one file with all that is packed in it, within the limits of one file."""

    limits: Limits
    named: str | None  # the format that the user named
    notes: Notes
    inside: bool  # whether the file is in a folder or an archive
    left: int  # bytes that may still be unpacked
    people: People  # of the chat of which the file is a part
    found: str | None = None  # the format of the present file

    def read(self, data: bytes, name: str, nesting: int = 0) -> Iterator[Record]:
        """Yield the records of a file, at least one: an error if it has none or cannot be read."""
        count = 0
        try:
            for record in self._records(data, name, nesting):
                count += 1
                yield record
            if not count:
                yield Record({}, name, f"{name} {NO_DOCUMENTS}")
        except Exception as error:  # of any library: one file must not stop the others
            if isinstance(error, ModuleNotFoundError):
                reason = (
                    f"{name} needs {error.name}, which is not installed: pip install "
                    "'cmt-memory[formats]'"
                )
            elif isinstance(error, StreamError | ValueError) and not isinstance(
                error, pa.ArrowException
            ):
                reason = str(error)
            else:
                words = " ".join(f"{type(error).__name__}: {error}".split())[:300]
                reason = f"{name} cannot be read as {self.found} ({words})"
            yield Record({}, name, reason)

    def _records(self, data: bytes, name: str, nesting: int) -> Iterator[Record]:
        if len(data) > self.limits.file_bytes:
            raise self.limits.too_large(name)
        if not data.strip():
            raise StreamError(f"{name} is empty")
        self.found = form = detect(data, name)
        if form in _REFUSED:
            raise StreamError(f"{name} is {_REFUSED[form]}")
        packed = form in ("gz", "xz", "bz2", "zst", "zip", "tar")
        if packed and nesting >= MAX_NESTING:
            raise StreamError(
                f"{name} is an archive more than {MAX_NESTING} deep in others; unpack it first"
            )
        if form in ("zip", "tar"):
            yield from self._unpacked(data, name, form, nesting)
        elif form and packed:
            data = decompress(data, form, name, self.left, self.limits)
            self.left -= len(data)
            yield from self.read(data, name.removesuffix(f".{form}"), nesting + 1)
        else:
            self.found = form = self.named or form
            if form is None or (
                form == "text" and self.inside and not _is_text(data, PurePosixPath(name))
            ):
                raise StreamError(
                    f"{name} is in no known format: leave it out, or convert it to text, HTML or "
                    "CSV"
                )
            self.notes.files[name] = (form, decode(data)[1] if form in _ENCODED else "")
            found = _READERS[form](data, name, self.limits)
            if form == "json" and self.people:
                found = with_people(found, name, self.people)
            yield from _finished(found, name, form, self.limits, self.notes)

    def _unpacked(self, data: bytes, name: str, form: str, nesting: int) -> Iterator[Record]:
        self.inside, is_book = True, False
        for member in members(data, form):
            if PurePosixPath(member.name).name == PEOPLE and member.size <= self.left:
                with suppress(*UNPACKING):
                    self.people = people_of(member.read())
        for number, member in enumerate(members(data, form), 1):
            self.limits.check_rows(name, number)
            path = PurePosixPath(member.name.replace("\\", "/"))
            where = f"{name}/{member.name.removeprefix('./')}"
            is_list = self.people and path.name in LISTS
            if is_list or (_hidden(path) and ".." not in path.parts):
                continue
            if path.is_absolute() or ".." in path.parts:
                yield Record({}, where, f"{where} leads out of the archive; pack it again")
                continue
            if member.size > self.left:
                raise self.limits.too_large(name)
            self.left -= member.size
            try:
                content = member.read()
            except UNPACKING as error:
                yield Record({}, where, f"{where} cannot be unpacked ({error}); pack it again")
                continue
            if member.name == "mimetype":
                is_book = content.strip() == b"application/epub+zip"
            elif not is_book or detect(content, where) == "html":
                yield from self.read(content, where, nesting + 1)


def _finished(
    read: Iterable[Record], name: str, form: str, limits: Limits, notes: Notes
) -> Iterator[Record]:
    """The records without markup in their fields, dated by the names of file and folders, and cut
    if too long.
    """
    inside, longest = _IN_ARCHIVE.sub("", name), limits.stream.document_characters
    own_name = PurePosixPath(inside).name
    dates = _days(own_name)[:1] or _day_first(own_name, limits) or _days(inside)[-1:]
    for record in read:
        record = _checked(record)
        for part in record.left_out:
            notes.add("part of a file is not a document and is left out", part)
        if form in _MARKED_UP:
            _remove_markup(record.fields)
        if dates and record.fields and not _is_dated(record.fields):
            record.fields["published_at"] = dates[0]
        lengths = {
            key: len(value) for key, value in record.fields.items() if isinstance(value, str)
        }
        if record.error or max(lengths.values(), default=0) <= longest:
            yield record
        else:
            yield from _in_parts(record, max(lengths, key=lengths.__getitem__), longest, notes)


def _checked(record: Record) -> Record:
    """A record that only leaves out a draft; one with an error for a byte that is not UTF-8; or
    `record`.
    """
    if not record.error and is_draft(record.fields):
        left_out = (*record.left_out, f"the draft {record.where}")
        record = Record({}, record.where, left_out=left_out)
    if record.error or not (odd := _other_byte(record.fields)):
        return record
    byte, line = ord(odd[0]) - 0xDC00, odd.string.count("\n", 0, odd.start()) + 1
    error = (
        f"not UTF-8: it has the byte 0x{byte:02x} in line {line} of a text; save the file in one "
        "encoding"
    )
    return Record({"raw": raw_text(record.fields)}, record.where, error)


def _remove_markup(fields: dict[str, Any]) -> None:
    for key, value in fields.items():
        if isinstance(value, str) and ("<" in value or "&" in value):
            fields[key] = without_markup(value)
        elif isinstance(value, dict):
            plain = dict[Any, Any]()
            for name, inner in value.items():
                plain[name] = without_markup(inner) if isinstance(inner, str) else inner
            fields[key] = plain


def _is_dated(fields: dict[str, Any]) -> bool:
    return any(_may_date(key, value) for key, value in fields.items() if isinstance(key, str))


def _in_parts(record: Record, key: str, limit: int, notes: Notes) -> Iterator[Record]:
    """Yield the record in parts of at most `limit` characters of its longest text, the field
    `key`.
    """
    fields, text = record.fields, record.fields[key]
    notes.add(f"{key} is longer than stream.document_characters and is cut into parts", len(text))
    for number, part in enumerate(chapters(text, limit), 1):
        named = part_of(fields, str(number)) if number > 1 else fields
        yield record._replace(fields={**named, key: part})
        record = record._replace(left_out=())


def _may_date(key: str, value: Any) -> bool:
    """Whether a field may hold the date of its record, readable or not; `published: true` does
    not.
    """
    inner = {f"{key}.{name}": one for name, one in value.items()} if isinstance(value, dict) else {}
    if any(
        column_of(name) == "published_at" and _may_date(name, one) for name, one in inner.items()
    ):
        return True
    if is_blank(value) or not _DATE_KEY.search(key) or is_flag(key, value):
        return False
    return column_of(key) == "published_at" or bool(_LIKE_A_DATE.search(raw_text(value)))


def _days(name: str) -> list[str]:
    """Return the dates in the name of a file or folder, in their order."""
    found = []
    for match in _DATE_IN_NAME.finditer(name):
        with suppress(ValueError):  # such as 30 February
            found.append(date(*map(int, match.group("year", "month", "day"))).isoformat())
    return found


def _day_first(name: str, limits: Limits) -> list[str]:
    """The date that a name writes with the day first: `25-11-2026`, `7 Nov 2026`."""
    found = _DAY_IN_NAME.search(name)
    reader = DateReader(day_first=limits.stream.day_first)
    with suppress(ValueError):  # 05-11-2026 may be in May
        return [reader.read(found[0]).start.date().isoformat()] if found else []
    return []


def _other_byte(fields: dict[str, Any]) -> re.Match[str] | None:
    """The first byte that is not UTF-8 in the strings of `fields`, at any depth."""
    waiting: list[Any] = [fields]
    for value in waiting:
        if isinstance(value, dict | list):
            waiting += value.values() if isinstance(value, dict) else value
        elif (
            isinstance(value, str) and not value.isascii() and (found := _OTHER_BYTE.search(value))
        ):
            return found
    return None
