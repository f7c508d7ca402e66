"""Limits on the size of a file, its rows and its texts: a small archive can expand to gigabytes."""

from dataclasses import dataclass
from pathlib import Path

from cmt.config import StreamParams
from cmt.errors import StreamError

MEGABYTE = 1_000_000  # bytes
MAX_NESTING = 3
VALUES_A_ROW = 30  # largest average in a file of `stream.file_rows` rows
LONGEST = {
    "doc_id": 512,
    "supersedes": 512,
    "question_id": 512,
    "title": 1_000,
    "source": 2_000,
    "url": 2_000,
    "question": 2_000,
    "answers": 10_000,
}
"""Field → its largest number of characters; title and source are in each memory, an id in each row
of a file.
"""


@dataclass(frozen=True)
class Limits:
    """The limits of the section `stream` of params.yaml."""

    stream: StreamParams

    @property
    def file_bytes(self) -> int:
        """Largest size of a file, decompressed."""
        return self.stream.file_megabytes * MEGABYTE

    def too_large(self, path: Path | str) -> StreamError:
        """The error for a file above `file_bytes`."""
        return StreamError(
            f"{path} holds more than {self.stream.file_megabytes:,} MB, decompressed: split it, or "
            "raise "
            "stream.file_megabytes if you trust it and have several times as much memory"
        )

    def check_rows(self, path: Path | str, rows: int, *, columns: int = 1) -> None:
        """Raise StreamError if a file has more `rows` than `stream.file_rows`, or too many values
        in all `columns`.
        """
        if rows > self.stream.file_rows:
            raise StreamError(
                f"{path} has more than {self.stream.file_rows:,} rows: split it, or raise "
                "stream.file_rows if you "
                "trust it and have about a kilobyte of memory a row"
            )
        if rows * columns > VALUES_A_ROW * self.stream.file_rows:
            raise StreamError(
                f"{path} has {columns:,} columns and {rows:,} rows or more: leave out columns, "
                "split it, or raise "
                "stream.file_rows"
            )

    def check_length(self, key: str, text: str) -> None:
        """Raise ValueError if `text`, the field `key` of a row, is longer than its limit."""
        longest = min(
            LONGEST.get(key, self.stream.document_characters), self.stream.document_characters
        )
        if len(text) > longest:
            remedy = (
                "shorten it"
                if key in LONGEST
                else "split the document, or raise stream.document_characters"
            )
            raise ValueError(f"{key} has {len(text):,} characters, more than {longest:,}: {remedy}")


def check_xml(data: bytes, name: str) -> None:
    """Raise StreamError if an XML file declares entities, which can expand to gigabytes or read
    other files.
    """
    if b"<!ENTITY" in data[:1_000_000].replace(b"\0", b"").upper():
        raise StreamError(
            f"{name} is XML that declares entities, which can name other files: remove its "
            "<!DOCTYPE …>"
        )


DEFAULT_LIMITS = Limits(StreamParams())
