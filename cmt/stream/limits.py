"""How much of a source file is taken: limits on its size, its rows, and the length of a text.

A small archive can hold gigabytes, and a file is read as a whole. The limits are those of the section `stream` of
params.yaml inside `limited_by`, elsewhere their defaults.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from cmt.config import StreamParams
from cmt.errors import StreamError

MEGABYTE = 1_000_000  # bytes
_LIMITS = ContextVar("limits", default=StreamParams())  # noqa: B039 - frozen
_BYTES_A_CHARACTER = 6  # of a character of JSON that is escaped
_BRACKETS_A_ROW = 10


@contextmanager
def limited_by(stream: StreamParams) -> Iterator[None]:
    """Take the limits of `stream` while sources are read."""
    token = _LIMITS.set(stream)
    try:
        yield
    finally:
        _LIMITS.reset(token)


def file_bytes() -> int:
    """Largest size of a source file, decompressed."""
    return _LIMITS.get().file_megabytes * MEGABYTE


def line_bytes() -> int:
    """Largest size of a line of JSON that may hold an acceptable document; parsing takes up to 20 times as much."""
    return MEGABYTE + _BYTES_A_CHARACTER * _LIMITS.get().document_characters


def too_large(path: Path) -> StreamError:
    """The error for a file above `file_bytes`."""
    return StreamError(
        f"{path} holds more than {_LIMITS.get().file_megabytes:,} MB, decompressed: split it, or raise "
        "stream.file_megabytes if you trust it and have several times as much memory"
    )


def check_rows(path: Path, rows: int) -> None:
    """Raise StreamError if a file with this number of rows is above `stream.file_rows`."""
    if rows > _LIMITS.get().file_rows:
        raise StreamError(
            f"{path} has more than {_LIMITS.get().file_rows:,} rows: split it, or raise stream.file_rows if you trust "
            "it and have about a kilobyte of memory a row"
        )


def check_brackets(path: Path, content: bytes) -> None:
    """Raise StreamError if a JSON file has more lists and objects than `stream.file_rows` rows need."""
    check_rows(path, (content.count(b"[") + content.count(b"{")) // _BRACKETS_A_ROW)


def check_length(key: str, text: str) -> None:
    """Raise ValueError if `text`, the field `key` of a row, is above `stream.document_characters`."""
    if len(text) > (longest := _LIMITS.get().document_characters):
        raise ValueError(
            f"{key} has {len(text):,} characters, more than {longest:,}: split the document, or raise "
            "stream.document_characters"
        )
