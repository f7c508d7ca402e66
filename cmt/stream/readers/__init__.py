"""Readers turn a file or folder into raw documents and questions; one module a format."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cmt.common.digests import sha256_file
from cmt.errors import ConfigError, StreamError
from cmt.stream.limits import DEFAULT_LIMITS, Limits
from cmt.stream.readers import archivalqa, jsonl, parquet, squad, streamingqa
from cmt.stream.readers.detection import records
from cmt.stream.readers.files import RawRow, Record
from cmt.stream.schema import Rejected

__all__ = ["RawRow", "RawRows", "Record", "infer_format", "read", "records"]

_Reader = Callable[[Path, Limits], Iterator[RawRow | Rejected]]

# format → reader of one file, and the files that are read from a folder
_FORMATS: dict[str, tuple[_Reader, tuple[str, ...]]] = {
    "jsonl": (jsonl.read, ("documents.jsonl", "questions.jsonl")),
    "parquet": (parquet.read, ("documents.parquet", "questions.parquet")),
    "squad": (squad.read, ("*.json", "*.json.gz", "*.json.xz")),
    "streamingqa": (streamingqa.read, ("*.jsonl", "*.jsonl.gz", "*.csv")),
    "archivalqa": (archivalqa.read, ("*.csv",)),
}
_SUFFIXES = {".jsonl": "jsonl", ".parquet": "parquet", ".json": "squad"}
"""Suffix of a file → the format that such files have most often."""


@dataclass(frozen=True)
class RawRows:
    """All rows of a file or folder, not validated yet."""

    documents: list[RawRow]
    questions: list[RawRow]
    rejected: list[Rejected]
    """Rows that could not be read."""
    digest: str
    """Hex SHA-256 of the digests of the files."""


def read(path: Path, file_format: str, *, limits: Limits = DEFAULT_LIMITS) -> RawRows:
    """Read the file or folder `path` in the format `file_format`.

    Raises ConfigError for an unknown format, StreamError if a file cannot be read or exceeds `limits`, or if
    there is no row.
    """
    if file_format not in _FORMATS:
        raise ConfigError(f"unknown format {file_format!r}: use {', '.join(_FORMATS)}")
    reader, patterns = _FORMATS[file_format]
    files = _files(path, patterns)
    rows = [row for file in files for row in reader(file, limits)]
    if not rows:
        raise StreamError(f"{path} has no rows; nothing was ingested")
    raw = [row for row in rows if isinstance(row, RawRow)]
    return RawRows(
        documents=[row for row in raw if row.kind == "document"],
        questions=[row for row in raw if row.kind == "question"],
        rejected=[row for row in rows if isinstance(row, Rejected)],
        digest=hashlib.sha256(b"".join(bytes.fromhex(sha256_file(file)) for file in files)).hexdigest(),
    )


def infer_format(path: Path) -> str:
    """The format of a file by its suffix (before .gz or .xz), or of a folder by its first file with a known suffix.

    Raises ConfigError if no suffix is known; two formats use .csv.
    """
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        name = file.name.removesuffix(".gz").removesuffix(".xz")
        if file_format := _SUFFIXES.get(Path(name).suffix):
            return file_format
    raise ConfigError(f"the format of {path} is not clear from its name: name one with --format, {', '.join(_FORMATS)}")


def _files(path: Path, patterns: tuple[str, ...]) -> list[Path]:
    """`path` itself, or the files of the folder that match one of `patterns`, sorted; StreamError if there is none."""
    if not path.exists():
        raise StreamError(f"{path} not found; name a file, or a folder with {' or '.join(patterns)}")
    if not path.is_dir():
        if not path.is_file():  # pyarrow would wait for a pipe
            raise StreamError(f"{path} is a pipe, a socket or a device: write its content to a file")
        return [path]
    files = sorted({file for pattern in patterns for file in path.glob(pattern)})
    if not files:
        raise StreamError(f"{path} has no {' or '.join(patterns)}; name the file itself, or another --format")
    # an empty file is no error beside a file with rows: a source may have documents and no questions
    return [file for file in files if file.stat().st_size] or files
