"""Text as it is in files: its encoding, HTML in it, and its length."""

import html
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from itertools import zip_longest

from charset_normalizer import from_bytes

from cmt.text.sentences import DOCUMENT_ENDS

_SAMPLE = 100_000  # bytes that decide the encoding
_EQUAL = 0.03  # difference in coherence, 0–1, that does not separate two encodings
_FEW = 8  # bytes that are too few to decide it
_MARKS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\0\0", "utf-32"),
    (b"\0\0\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_ENCODINGS = [
    "cp1252",
    "cp1250",
    "cp1251",
    "cp1253",
    "cp932",
    "gb18030",
    "big5",
    "euc_kr",
    "euc_jp",
    "koi8_r",
]
"""Those of most texts that are not UTF-8; among all encodings, short texts are guessed wrongly."""

_BLOCK_NAMES = (
    "address|article|blockquote|body|br|caption|center|dd|div|dl|dt|figcaption|h1|h2|h3|h4|h5|h6|hr|li|main|ol|p|pre|"
    "section|table|tbody|td|th|thead|tr|ul"
)
_HIDDEN_NAMES = "aside|button|footer|form|head|iframe|nav|noscript|object|script|style|svg|template"
_OTHER_NAMES = (
    "a|abbr|b|cite|code|em|figure|font|header|html|i|img|ins|small|span|strong|sub|sup|time|u|"
    "video|wbr"
)
_BLOCKS, _INVISIBLE = frozenset(_BLOCK_NAMES.split("|")), frozenset(_HIDDEN_NAMES.split("|"))
_TAG = re.compile(
    rf"</?(?:{_BLOCK_NAMES}|{_HIDDEN_NAMES}|{_OTHER_NAMES})(?:\s[^<>]*)?/?>", re.IGNORECASE
)
_BLOCK_TAG = re.compile(rf"</?(?!br\b)(?:{_BLOCK_NAMES})\b", re.IGNORECASE)
_OTHER_TAG = re.compile(
    rf"<(?:https?://[^\s<>]*|(?!(?:{_BLOCK_NAMES}|{_HIDDEN_NAMES}|{_OTHER_NAMES}|col|rp|rt)[\s/>])"
    r"([a-z][^\s<>]*)(?:\s[^<>=]*)?(?<!/))>",
    re.IGNORECASE,
)
"""A tag without attributes and of another name: a placeholder such as `<url>`, unless the text
closes it.
"""
_NO_MARKDOWN = re.compile(
    r"<(pre|script|style)\b.*?(?:</\1\b|\Z)|<!--.*?(?:-->|\Z)", re.IGNORECASE | re.DOTALL
)
_MARKDOWN = re.compile(r"^ {0,3}(?:#{1,6} +\S|[-*+] +\S|```|~~~|\|.*\|\s*$)", re.MULTILINE)
_VERBATIM = re.compile(
    r"(^[ \t]*```.*?(?:^[ \t]*```|\Z)|^[ \t]*~~~.*?(?:^[ \t]*~~~|\Z)|`[^`\n]+`|"
    r"^[ \t]+(?=(?:[-*+]|\d+[.)]) ))",
    re.MULTILINE | re.DOTALL,
)
"""Code in Markdown, and the indentation of its lists."""
_MARK = re.compile(r"\x1a(\d+)\x1a")  # in place of a part that is `_VERBATIM`
_HEADING = re.compile(r"<h([1-6])\b[^<>]*>(.{0,500}?)</h\1\s*>", re.IGNORECASE | re.DOTALL)
_ROW = re.compile(r"^\|.*\|\s*?$", re.MULTILINE)  # of a table in Markdown
_BREAK = re.compile(r"<br\s*/?>[^\S\n]*\n?", re.IGNORECASE)
_HIDDEN_TAG = re.compile(rf"<(/?)({_HIDDEN_NAMES})(?:\s[^<>]*)?(?<!/)>", re.IGNORECASE)
_HEAD = re.compile(
    r"(?:\s|<!doctype[^<>]*>|<html[^<>]*>)*<head\b", re.IGNORECASE
)  # at the beginning of a page
_HEAD_END, _BODY = re.compile("</head>", re.IGNORECASE), re.compile(r"<body\b", re.IGNORECASE)
_ENTITY = re.compile(r"&(?:#\d{1,7}|#x[0-9a-f]{1,6}|[a-z][a-z0-9]{1,30});", re.IGNORECASE)
_CHAPTER = re.compile(
    r"\n(?=#{1,3} |(?:chapter|part|kapitel|teil|chapitre|cap[ií]tulo)\b)", re.IGNORECASE
)
_PARAGRAPH = re.compile(r"\n\s*\n")
_MOST_SPANNED = 50  # columns or rows of one cell
_LAYOUT_CELL = 200  # characters; a longer cell is a column of a page, not of a table


def decode(data: bytes) -> tuple[str, str]:
    """The text, and its encoding. In a text that is mostly UTF-8, other bytes become lone
    surrogates.
    """
    # 1. a mark at its beginning, or the zeros of UTF-16
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            other_bytes = "surrogateescape" if encoding == "utf-8-sig" else "replace"
            return data.decode(encoding, other_bytes), encoding.removesuffix("-sig")
    if data[:_SAMPLE].count(0) > len(data[:_SAMPLE]) // 4:
        low_first = data[1:_SAMPLE:2].count(0) > data[0:_SAMPLE:2].count(0)
        encoding = "utf-16-le" if low_first else "utf-16-be"
        return data.decode(encoding, "replace"), encoding
    # 2. UTF-8
    try:
        return data.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        text = data.decode("utf-8", "surrogateescape")
    odd = len(re.findall("[\udc80-\udcff]", text))
    if odd * 2 < sum(character > "\x7f" for character in text) - odd:
        return text, "utf-8"
    # 3. another encoding
    encoding = _likely_encoding(data)
    return data.decode(encoding, "replace"), encoding


def _likely_encoding(data: bytes) -> str:
    """The encoding of text that is not UTF-8; cp1252 if its sample does not decide it."""
    sample = data[:_SAMPLE]
    if len(data) > _SAMPLE:  # the cut may be inside a character
        sample = sample[: sample.rfind(b"\n") + 1] or sample
    if sum(byte > 0x7F for byte in sample) < _FEW:
        return "cp1252"
    matches = from_bytes(sample, cp_isolation=_ENCODINGS)
    matches = matches or from_bytes(sample[:-1], cp_isolation=_ENCODINGS)
    best = matches.best()
    if best is None:
        return "cp1252"
    for match in matches:  # of encodings that fit equally well, the commonest
        fits_equally = match.chaos <= best.chaos and best.coherence - match.coherence <= _EQUAL
        if fits_equally and "cp1252" in match.could_be_from_charset:
            return "cp1252"
    return best.encoding


def plain_text(markup: str, *, keep_lines: bool = False) -> str:
    """The text of HTML: a line a block, a table as lines `row: column value`; scripts and
    navigation are left out.

    Its own lines are kept with `keep_lines`, or if it has no blocks.
    """
    parser = _Text(keep_lines=keep_lines or not _BLOCK_TAG.search(markup))
    closed, mark, rest = _with_unclosed_as_text(_BREAK.sub("<br>", markup)).rpartition(">")
    parser.feed(
        closed + mark + rest.replace("<", "&lt;")
    )  # the parser would read `rest` anew at each `<`
    parser.close()
    text = re.sub(r"[^\S\n]+", " ", parser.text())
    return re.sub(r" ?\n ?", "\n", re.sub(r"(?: ?\n){3,} ?", "\n\n", text)).strip()


def without_markup(text: str, *, markdown: bool = False) -> str:
    """`text` without the HTML tags and entities that it may hold; an address, and the lines of
    Markdown, stay.

    `markdown`: whether it is certainly Markdown; otherwise its lines decide. Its code stays as it
    is.
    """
    if not markdown and "<" in text and _TAG.search(text):
        markdown = bool(_MARKDOWN.search(_NO_MARKDOWN.sub("", text)))
    if not markdown:
        return _without_tags(text, markdown=False)
    parts = _VERBATIM.split(text.replace("\x1a", ""))
    marked = list[str]()
    for number, part in enumerate(parts):
        marked.append(f"\x1a{number}\x1a" if number % 2 else part)
    plain = _without_tags("".join(marked), markdown=True)
    return _MARK.sub(lambda mark: parts[int(mark[1])], plain)


def _without_tags(text: str, *, markdown: bool) -> str:
    if "<" in text and _TAG.search(text):
        closed = set(re.findall(r"</([^\s<>]+)", text.lower()))
        text = _HEADING.sub(_markdown_heading, text) if markdown else text
        text = _OTHER_TAG.sub(
            lambda tag: tag[0] if (tag[1] or "").lower() in closed else f"&lt;{tag[0][1:]}", text
        )
        text = _ROW.sub(lambda row: _BREAK.sub(" ", row[0]), text)
        return plain_text(text, keep_lines=markdown)
    if "&" in text and _ENTITY.search(text) and not text.startswith(("http://", "https://")):
        return html.unescape(text)
    return text


def _markdown_heading(heading: re.Match[str]) -> str:
    title = " ".join(plain_text(heading[2]).split())
    return f"\n\n{'#' * int(heading[1])} {title}\n\n" if title else ""


def _with_unclosed_as_text(markup: str) -> str:
    """Return `markup` with the unclosed tags of hidden blocks escaped: `List<Object>` would hide
    the rest.
    """
    # 1. close the head of a page before its body, as HTML allows it to stay open
    head, body = _HEAD.match(markup), _BODY.search(markup)
    if head and body and not _HEAD_END.search(markup, head.end(), body.start()):
        markup = f"{markup[: body.start()]}</head>{markup[body.start() :]}"
    # 2. pair the tags by name; the content of a script or style is no markup
    opened = defaultdict[str, list[int]](list)  # name → where its tags are that are not closed yet
    for tag in _HIDDEN_TAG.finditer(markup):
        name = tag[2].lower()
        if not tag[1]:
            opened[name].append(tag.start())
        else:
            del opened[name][0 if name in ("script", "style") else -1 :]
    # 3. escape those without a partner
    unclosed = {start for starts in opened.values() for start in starts}
    return _HIDDEN_TAG.sub(
        lambda tag: html.escape(tag[0]) if tag.start() in unclosed else tag[0], markup
    )


def chapters(text: str, limit: int) -> Iterator[str]:
    """Yield `text` in parts of at most `limit` characters, cut at its last heading or blank line,
    else a sentence.
    """
    while len(text) > limit:
        part = text[:limit]
        cuts = next(
            (
                cuts
                for at in (_CHAPTER, _PARAGRAPH, DOCUMENT_ENDS)
                if (cuts := list(at.finditer(part, limit // 2)))
            ),
            None,
        )
        end = cuts[-1].end() if cuts else limit
        yield text[:end]
        text = text[end:]
    yield text


class _Table:
    """A table that is being read, as rows of cells of parts. A cell that spans columns or rows
    leaves them blank.
    """

    def __init__(self) -> None:
        self.rows: list[list[list[str]]] = []
        self._reach: dict[int, int] = {}  # column → rows below that a cell reaches into
        self._blanks = 0  # columns to the right that the last cell spans

    def start_row(self) -> None:
        self.end_row()
        self.rows.append([])

    def start_cell(self, attributes: Mapping[str, str | None]) -> None:
        if not self.rows:
            self.start_row()
        row = self.rows[-1]
        self._fill(row)
        wide, high = (_span(attributes.get(name)) for name in ("colspan", "rowspan"))
        for column in range(len(row), len(row) + wide):
            self._reach[column] = high - 1
        row.append([])
        self._blanks = wide - 1

    def end_row(self) -> None:
        if self.rows and self.rows[-1]:
            self._fill(self.rows[-1])

    def _fill(self, row: list[list[str]]) -> None:
        """Add the columns that are spanned from the left and from above."""
        row += [[] for _ in range(self._blanks)]
        self._blanks = 0
        while self._reach.get(len(row), 0) > 0:
            self._reach[len(row)] -= 1
            row.append([])


def _span(value: str | None) -> int:
    """The columns or rows of a cell: 1 to _MOST_SPANNED."""
    return min(int(value[:9]), _MOST_SPANNED) or 1 if value and value.isdecimal() else 1


class _Text(HTMLParser):
    """Collects the text of HTML. Its stack of tables is a list, so that no depth is too deep."""

    def __init__(self, *, keep_lines: bool) -> None:
        super().__init__(convert_charrefs=True)
        self._keep_lines, self._preformatted = keep_lines, 0
        self._hidden: list[str] = []
        self._outer: list[str] = []
        self._tables: list[_Table] = []  # that are open

    def text(self) -> str:
        while self._tables:
            self._end_table()
        return "".join(self._outer)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._hidden:
            self._hidden += [tag] if tag == self._hidden[0] else []
        elif tag in _INVISIBLE:
            self._hidden.append(tag)
        elif tag == "table":
            self._tables.append(_Table())
        elif tag == "tr" and self._tables:
            self._tables[-1].start_row()
        elif tag in ("td", "th") and self._tables:
            self._tables[-1].start_cell(dict(attrs))
        elif tag in _BLOCKS:
            self._preformatted += tag == "pre"
            self._write("\n" if tag in ("br", "li", "div", "dt", "dd") else "\n\n")

    def handle_endtag(self, tag: str) -> None:
        if self._hidden:
            self._hidden = self._hidden[1:] if tag == self._hidden[0] else self._hidden
        elif tag == "table" and self._tables:
            self._end_table()
        elif tag in _BLOCKS and tag not in ("td", "th", "tr", "table", "br"):
            self._preformatted = max(0, self._preformatted - (tag == "pre"))
            self._write("\n")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self._write(
                data if self._keep_lines or self._preformatted else re.sub(r"\s+", " ", data)
            )

    def _write(self, text: str) -> None:
        row = self._tables[-1].rows[-1] if self._tables and self._tables[-1].rows else []
        (row[-1] if row else self._outer).append(text)

    def _end_table(self) -> None:
        table = self._tables.pop()
        table.end_row()
        rows = [[" ".join("".join(cell).split()) for cell in row] for row in table.rows if row]
        self._write("\n" + "\n".join(table_lines(rows)) + "\n")


def table_lines(rows: list[list[str]]) -> Iterator[str]:
    """Yield the lines `row: column value, column value` of a table whose first row names its
    columns, or its first two rows.

    A cell that spans others leaves them blank: the names above the second row hold until the next
    one, and a row without a name has the name of the row above it.
    """
    width = len(rows[0]) if rows else 0
    alike = [row for row in rows[1:] if len(row) == width]
    named = width > 1 and alike and 2 * len(alike) >= len(rows) - 1
    if not named or any(len(cell) > _LAYOUT_CELL for row in rows for cell in row):
        yield from (", ".join(filter(None, row)) for row in rows if any(row))
        return
    names, body, label = rows[0][1:], rows[1:], ""
    if _is_second_header(rows):
        names, body = list(_joint_names(rows[0], rows[1])), rows[2:]
    for row in body:
        values = [
            f"{name} {value}".strip()
            for name, value in zip_longest(names, row[1:], fillvalue="")
            if value
        ]
        label = row[0] or label
        if values:
            yield f"{label}: {', '.join(values)}"
        elif row[0]:
            yield row[0]


def _is_second_header(rows: list[list[str]]) -> bool:
    """Whether the second row names the columns below names that span several of them."""
    first, second = rows[0], rows[1]
    spans = "" in first[1:] and len(rows) > 2 and len(second) == len(first) and not second[0]
    return spans and all(one or other for one, other in zip(first[1:], second[1:], strict=True))


def _joint_names(first: list[str], second: list[str]) -> Iterator[str]:
    """`Day shift Starter`, `Day shift Trained` of a name and the two below it."""
    above = ""
    for name, below in zip(first[1:], second[1:], strict=True):
        above = name or above
        yield f"{above} {below}".strip()
