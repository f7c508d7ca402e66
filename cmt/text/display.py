"""Text for people: foreign text made safe to print, and values that may be missing."""

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

MISSING = "–"  # shown for a missing value in tables
FILE_PREFIX = "file:"  # of a publisher that is only the name of a file or folder
_KEY = re.compile(r"[a-z0-9._-]+")


def plain(text: object) -> str:
    """`text` on one line without control characters and lone surrogates; direction marks and emoji
    stay.
    """
    line = " ".join(str(text).split())
    return "".join(
        character for character in line if unicodedata.category(character) not in ("Cc", "Cs")
    )


def heading(title: str | None, publisher: str | None) -> str:
    """The first line of a document for the models: the name of its publisher and its title; empty
    without both.

    A document says "our ground" or "the secretary", and only its publisher says whose. The name of
    a file and a key such as `posts` are no names.
    """
    named = publisher and not publisher.startswith(FILE_PREFIX) and not _KEY.fullmatch(publisher)
    return ": ".join(filter(None, (publisher if named else None, title)))


def without_publisher(memory: Mapping[str, Any]) -> str:
    """The text of a bank row without the publisher's name in its heading, which many texts
    share.
    """
    text, line = str(memory["text"] or ""), heading(memory["title"], memory["source"])
    own = (memory["title"] or "") + text[len(line) :]
    return own.lstrip("\n") if line and text.startswith(f"{line}\n") else text


def first_line(error: BaseException) -> str:
    """The first line of the error's message; its class if it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def counted(number: int, noun: str) -> str:
    """`1 row`, `2,000 rows`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def format_optional(value: object | None, spec: str = "") -> str:
    """`value` formatted with `spec` (as in `format`), or `MISSING` if it is None."""
    return MISSING if value is None else format(value, spec)
