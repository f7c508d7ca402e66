"""Readers: a source file or folder → raw documents and questions, one module a format."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cmt.errors import ConfigError, StreamError
from cmt.stream.readers import archivalqa, jsonl, parquet, squad, streamingqa
from cmt.stream.readers.files import RawRow
from cmt.stream.schema import Rejected

_Reader = Callable[[Path], Iterator[RawRow | Rejected]]

# what a format reads from a folder, beside its reader of one file
_FORMATS: dict[str, tuple[_Reader, tuple[str, ...]]] = {
    "jsonl": (jsonl.read, ("documents.jsonl", "questions.jsonl")),
    "parquet": (parquet.read, ("documents.parquet", "questions.parquet")),
    "squad": (squad.read, ("*.json", "*.json.gz", "*.json.xz")),
    "streamingqa": (streamingqa.read, ("*.jsonl", "*.jsonl.gz", "*.csv")),
    "archivalqa": (archivalqa.read, ("*.csv",)),
}


@dataclass(frozen=True)
class RawRows:
    """Everything a source holds, unchecked."""

    documents: list[RawRow]
    questions: list[RawRow]
    rejected: list[Rejected]
    digest: str
    """sha256 over the source's files."""


def read(path: Path, format: str) -> RawRows:
    """Read the file or folder `path`; StreamError when it cannot be read as a whole or holds no row."""
    if format not in _FORMATS:
        raise ConfigError(f"unknown format {format!r}: use {', '.join(_FORMATS)}")
    reader, patterns = _FORMATS[format]
    files = _files(path, patterns)
    rows = [row for file in files for row in reader(file)]
    if not rows:
        raise StreamError(f"{path} has no rows; nothing was ingested")
    found = [row for row in rows if isinstance(row, RawRow)]
    return RawRows(
        documents=[row for row in found if row.kind == "document"],
        questions=[row for row in found if row.kind == "question"],
        rejected=[row for row in rows if isinstance(row, Rejected)],
        digest=_digest(files),
    )


def _files(path: Path, patterns: tuple[str, ...]) -> list[Path]:
    if not path.exists():
        raise StreamError(f"{path} not found; name a file, or a folder with {' or '.join(patterns)}")
    if not path.is_dir():
        return [path]
    files = sorted({file for pattern in patterns for file in path.glob(pattern)})
    if not files:
        raise StreamError(f"{path} has no {' or '.join(patterns)}; name the file itself, or another --format")
    return [file for file in files if file.stat().st_size] or files  # one without questions, say, beside documents


def _digest(files: list[Path]) -> str:
    whole = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            whole.update(hashlib.file_digest(stream, "sha256").digest())
    return whole.hexdigest()
