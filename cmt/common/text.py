"""Text for people: foreign text made safe to print, and values that may be missing."""

import unicodedata

MISSING = "–"  # shown for a missing value in tables


def plain(text: object) -> str:
    """`text` on one line without control characters and lone surrogates; direction marks and emoji stay."""
    line = " ".join(str(text).split())
    return "".join(character for character in line if unicodedata.category(character) not in ("Cc", "Cs"))


def first_line(error: BaseException) -> str:
    """The first line of the error's message; its class if it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def counted(number: int, noun: str) -> str:
    """`1 row`, `2,000 rows`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def format_optional(value: object | None, spec: str = "") -> str:
    """`value` formatted with `spec` (as in `format`), or `MISSING` if it is None."""
    return MISSING if value is None else format(value, spec)
