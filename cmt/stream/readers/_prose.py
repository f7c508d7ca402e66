"""Plain text, Markdown with front matter, changelogs, PDF and DOCX, with the names of the
schema.
"""

import io
import itertools
import logging
import re
import tomllib
import zipfile
from collections.abc import Iterator
from datetime import date
from pathlib import PurePosixPath
from typing import Any

import yaml

from cmt.common.strict_yaml import WithoutAliases
from cmt.errors import StreamError
from cmt.stream.columns import Record, is_draft
from cmt.stream.limits import Limits, check_xml
from cmt.stream.readers._text import decode, plain_text, table_lines, without_markup
from cmt.stream.readers.files import part_of, read_member
from cmt.text.markdown import without_marks

_FRONT_MATTER = re.compile(r"(---|\+\+\+)[ \t]*\n(.*?)^\1[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
MARKDOWN = {".md", ".markdown", ".mdx"}  # suffixes
PAGES = {".html", ".htm"}  # suffixes of a page with front matter, as Jekyll has
_HEADING = re.compile(r"^(##?) .*$", re.MULTILINE)
_VERSION = re.compile(
    r"##? \[?(?:v\d|v?\d+\.\d)[\w.+-]*\]?"
    r"(?:\((?:[^\s()]++|\([^\s()]*+\))*+\))?"  # a link, which may have one pair of parentheses
    r"[^\w\n]{1,50}+(\d{4}-\d\d-\d\d)\b",
    re.IGNORECASE,
)
"""The heading of a release in any file: `## [1.2.0](link) - 2026-03-05`."""
_CHANGELOG = re.compile(r"change[-_ ]?log|release[-_ ]?notes|releases", re.IGNORECASE)
_DATED = re.compile(r"##? [^\d\n]*\d.*\b(\d{4}-\d\d-\d\d)\b")
"""The heading of a release in a file whose name or first line says `_CHANGELOG`: `## Ferry 5, May
(2026-03-05)`.
"""
_RESULT = re.compile(
    r"^[ \t]*(?:\d\d[.:]\d\d[ \t]+)?(?P<home>\w[\w.'’&/ -]{1,40}?)[ \t]+"
    r"(?P<goals>\d{1,3})[-–:](?P<against>\d{1,3})"
    r"(?:[ \t]+\((?P<half>\d{1,3}[-–:]\d{1,3})\))?[ \t]+(?P<away>\w[\w.'’&/ -]{1,40})$",
    re.MULTILINE,
)
"""A match in a list of results, as football.txt has it: `Harle Town  2-1 (1-0)  Dunmore`."""
_RESULTS = 3  # fewest of a list
_UNDERLINED = re.compile(r"^(\w[^\n]*)\n([=\-+~^*\"'])\2{2,}[ \t]*$", re.MULTILINE)
_TABLE = re.compile(r"^\|.+\|[ \t]*\n\|[ \t:|-]+\|[ \t]*\n(?:\|.*\|[ \t]*(?:\n|\Z))+", re.MULTILINE)


def read_text(data: bytes, name: str, limits: Limits) -> Iterator[Record]:
    """Yield a plain text or a Markdown file, with the keys of its front matter; a changelog as a
    document a release.

    The title comes from the front matter, or else from the first heading. A draft is left out.
    Raises ValueError if the front matter is broken.
    """
    text, fields = decode(data)[0].replace("\r\n", "\n").lstrip("\ufeff\n"), dict[str, Any]()
    suffix = PurePosixPath(name).suffix.lower()
    front = _FRONT_MATTER.match(text)
    if front and (found := _front_matter(front[1], front[2], name)) is not None:
        fields, text = found, text[front.end() :]
        if is_draft(fields):
            yield Record({}, name, left_out=(f"the draft {name}",))
            return
        text = plain_text(text) if suffix in PAGES else text
    text = without_markup(text, markdown=True) if suffix in MARKDOWN else text
    text = _underlined_as_marked(text) if suffix in {*MARKDOWN, ".rst"} else text
    text = _TABLE.sub(lambda table: "\n".join(table_lines(_cells(table[0]))) + "\n", text).strip()
    if not text:
        raise ValueError(f"{name} has no text")
    if len(_RESULT.findall(text)) >= _RESULTS:
        text = _RESULT.sub(_told_result, text)
    releases, left_out = _releases(text, name)
    if len(releases) > 1:
        for number, (release, day) in enumerate(releases, 1):
            title = without_marks(release.partition("\n")[0])
            values = {
                **part_of(fields, title),
                "title": title,
                "text": without_marks(release),
                "published_at": day,
            }
            parts = left_out if number == 1 else ()
            yield Record(values, f"{name} row {number}", left_out=parts, is_row=False)
        return
    heading = re.match(r"#{1,2} +(.+)|(.+)\n=+$", text, re.MULTILINE)
    titles = dict[str, Any]()
    if heading:
        titles["title"] = without_marks(heading[1].rstrip(" #") if heading[1] else heading[2])
        if titles["title"] == {**titles, **fields}["title"]:  # which the models read, too
            text = text[heading.end() :].strip() or text
    text = without_marks(text) if suffix in {*MARKDOWN, ".rst"} else text
    yield Record({**titles, **fields, "text": text}, name, is_row=False)


def _told_result(match: re.Match[str]) -> str:
    """`Harle Town won 2-1 against Dunmore Athletic (1-0 at half-time).`"""
    home, away, half = match["home"], match["away"].strip(), match["half"]
    goals, against = int(match["goals"]), int(match["against"])
    verb = "won" if goals > against else "lost" if goals < against else "drew"
    at_half = f" ({half} at half-time)" if half else ""
    return f"{home} {verb} {goals}-{against} against {away}{at_half}."


def _underlined_as_marked(text: str) -> str:
    """Underlined headings as `# Title`, and `## Section` below the first kind of underline."""
    kinds = list[str]()

    def marked(heading: re.Match[str]) -> str:
        title, kind = heading[1], heading[2]
        if kind not in kinds:
            kinds.append(kind)
        return f"{'#' * min(kinds.index(kind) + 1, 6)} {title}"

    return _UNDERLINED.sub(marked, text)


def _releases(text: str, name: str) -> tuple[list[tuple[str, str]], tuple[str, ...]]:
    """Return the dated releases in `text`, each with its date, and the titles of the other
    sections.

    A section ends at a release, or at a heading of its own level or a higher one.
    """
    # 1. where the sections begin, the first without a heading
    told = _CHANGELOG.search(PurePosixPath(name).name) or _CHANGELOG.search(text.partition("\n")[0])
    begins, level = list[tuple[int, re.Match[str] | None]]([(0, None)]), 2
    for heading in _HEADING.finditer(text):
        release = (_DATED if told else _VERSION).match(heading[0])
        if release or len(heading[1]) <= level:
            begins.append((heading.start(), release))
            level = len(heading[1])
    # 2. the sections; one without a text is not missed
    releases, others = list[tuple[str, str]](), list[str]()
    for (begin, release), (end, _) in itertools.pairwise([*begins, (len(text), None)]):
        part = text[begin:end].lstrip("# ").strip()
        title = part.partition("\n")[0]
        if release:
            releases.append((part, release[1]))
        elif _HEADING.sub("", text[begin:end], count=1).strip():
            others.append(f"the section {title[:100]}")
    return releases, tuple(others)


def _front_matter(mark: str, written: str, name: str) -> dict[str, Any] | None:
    """Its keys; None for a text between two lines. Raises ValueError if it is broken."""
    try:
        values = yaml.load(written, WithoutAliases) if mark == "---" else tomllib.loads(written)  # noqa: S506 (a SafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        if (
            isinstance(error, yaml.MarkedYAMLError) and error.problem_mark
        ):  # its text quotes the document
            reason = f"{error.problem}, line {error.problem_mark.line + 1}"
        raise ValueError(
            f"{name}: its front matter cannot be read ({reason}); correct it"
        ) from None
    if not isinstance(values, dict | None):
        return None
    return {
        str(key): value.isoformat() if isinstance(value, date) else value
        for key, value in (values or {}).items()
    }


def _cells(table: str) -> list[list[str]]:
    rows = [
        [cell.strip() for cell in line.strip().strip("|").split("|")] for line in table.splitlines()
    ]
    return rows[:1] + rows[2:]


def read_pdf(data: bytes, name: str, limits: Limits) -> Iterator[Record]:
    """Yield the text of a PDF and the title that it declares. Raises ValueError if it has no text
    or cannot be read.
    """
    import pypdf

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # it repairs what it warns about
    try:
        reader = pypdf.PdfReader(io.BytesIO(data))
        texts, size = list[str](), 0
        for page in reader.pages:  # many entries may name one page
            texts.append(page.extract_text().strip())
            size += len(texts[-1])
            if size > limits.file_bytes:
                raise limits.too_large(name)
        text, title = "\n\n".join(filter(None, texts)), reader.metadata and reader.metadata.title
    except (
        pypdf.errors.PyPdfError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as error:
        raise ValueError(f"{name} is a damaged PDF ({error}); write it again") from None
    if not text:
        raise ValueError(
            f"{name} is a PDF without text, such as a scan: make it readable with OCR first"
        )
    yield Record({"title": title, "text": text} if title else {"text": text}, name)


def read_docx(data: bytes, name: str, limits: Limits) -> Iterator[Record]:
    """Yield the text of a Word file, its tables as lines. Raises StreamError or ValueError if it
    cannot be read.
    """
    import mammoth

    try:
        unpacked = io.BytesIO()  # for mammoth, which reads members without a limit
        with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(unpacked, "w") as plain:
            if sum(member.file_size for member in archive.infolist()) > limits.file_bytes:
                raise limits.too_large(name)
            for member in archive.infolist():
                if member.filename.endswith((".xml", ".rels")):
                    content = read_member(archive, member)
                    check_xml(content, name)
                    plain.writestr(member.filename, content)
        markup = mammoth.convert_to_html(
            unpacked, convert_image=mammoth.images.img_element(lambda image: {})
        )
    except StreamError:
        raise
    except Exception as error:  # of the many that damaged XML raises
        raise ValueError(f"{name} is a damaged Word file, DOCX ({error}); save it again") from None
    if not (text := plain_text(markup.value)):
        raise ValueError(f"{name} is a Word file without text")
    yield Record({"text": text}, name)
