"""Markdown and similar marks as the words that a person reads.

Each expression reads a line once, so that no text takes more than linear time.
"""

import re
from collections.abc import Iterator

_FENCED = re.compile(r"^[ \t]*(```|~~~).*?(?:^[ \t]*\1[^\n]*|\Z)", re.MULTILINE | re.DOTALL)
_MARKS = (
    (re.compile(r"^ {0,3}#{1,6}[ \t]+", re.MULTILINE), ""),  # of a heading
    (re.compile(r"^ {0,3}(?:=+|-{2,}|\*{3,}|_{3,})[ \t]*(?:\n|\Z)", re.MULTILINE), ""),  # a rule
    (re.compile(r"^([ \t]*)[-*+][ \t]+(?=\S)", re.MULTILINE), r"\1"),  # of an item in a list
    (re.compile(r"^([ \t]*)\[[ xX]\][ \t]+", re.MULTILINE), r"\1"),  # of a task
    (re.compile(r"\[\[(?:[^\[\]|\n]*\|)?([^\[\]|\n]+)\]\]"), r"\1"),  # a link in a wiki
    (re.compile(r"!?\[([^\[\]\n]*)\]\([^()\s]*(?:[ \t]+\"[^\"\n]*\")?\)"), r"\1"),
    (re.compile(r"\[([^\[\]\n]+)\]\[[^\[\]\n]*\]"), r"\1"),
    (re.compile(r"(`{1,2})([^`\n]+)\1"), r"\2"),
    (re.compile(r"(?<![\w*])(\*{1,3})(?=[^\s*])([^*\n]+)(?<=\S)\1(?![\w*])"), r"\2"),
    (re.compile(r"(?<![\w_])(_{1,3})(?=[^\s_])([^_\n]+)(?<=\S)\1(?![\w_])"), r"\2"),
)
_LABEL = re.compile(r"[^.:!?]{1,60}:(?:\s|$)")
_SENTENCE_END = re.compile(r"[.!?…][\"”’)\]]*$")
_ROW_OR_CODE = re.compile(r"\s*(?:\||```|~~~|    \S|\t\S)")
_HEADING = re.compile(r" {0,3}#{1,6}[ \t]")


def without_marks(text: str) -> str:
    """`text` without the marks of headings, lists, links and emphasis; code in fences stays."""
    parts, start = list[str](), 0
    for code in _FENCED.finditer(text):
        parts += [_plain(text[start : code.start()]), code[0]]
        start = code.end()
    return "".join([*parts, _plain(text[start:])]).strip()


def _plain(text: str) -> str:
    for pattern, plain in _MARKS:
        text = pattern.sub(plain, text)
    return text


def prose(text: str) -> Iterator[str]:
    """The lines of `text` that may hold sentences, without marks: no headings, rows of tables and
    code.
    """
    for line in _FENCED.sub("", text).split("\n"):
        is_prose = not (_HEADING.match(line) or _ROW_OR_CODE.match(line))
        if is_prose and (plain := _plain(line).strip()):
            yield plain


def is_sentence(text: str) -> bool:
    """Whether `text` ends as a sentence does, and begins with no label, such as `Lisbon: `."""
    return bool(_SENTENCE_END.search(text)) and not _LABEL.match(text)
