"""The files of a pulled LM: their recorded hashes, and whether they still match.

Files are hashed only if a size, modification time or change time differs from its record. A program
can set the modification time but not the change time, so every edit is noticed.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from cmt.common.digests import sha256_file, sha256_hex
from cmt.common.storage import read_json, write_json

RECORD = "lm.json"


@dataclass(frozen=True)
class FileRecord:
    """A file as it was pulled."""

    sha256: str
    stamp: tuple[int, int, int]  # size in bytes, modification time and change time in nanoseconds


@dataclass(frozen=True)
class Record:
    """Content of `lm.json`."""

    source: str
    sha256: str  # of the fetched weights
    digest: str  # of the tensors, the identity that compressors name
    files: dict[str, FileRecord]  # every file of the folder


def read_record(folder: Path) -> Record:
    """The record of the LM in `folder`. Raises OSError, and ValueError if it is damaged."""
    return read_json(folder / RECORD, Record)


def write_record(folder: Path, record: Record) -> None:
    """Write the record of the LM in `folder`, atomically. Raises OSError."""
    write_json(folder / RECORD, asdict(record), indent=1)


def record_files(folder: Path) -> dict[str, FileRecord]:
    """Every file of `folder` as it is now. Raises OSError."""
    stamps = _stamps(folder)  # before the hashes: an edit during hashing changes them
    return {name: FileRecord(sha256_file(folder / name), stamp) for name, stamp in stamps.items()}


def files_digest(files: Mapping[str, FileRecord]) -> str:
    """One digest of weights, configuration and tokenizer: folders with equal digests give equal
    answers.
    """
    return sha256_hex(*(part for name in sorted(files) for part in (name, files[name].sha256)))


def is_untouched(folder: Path, files: Mapping[str, FileRecord]) -> bool:
    """Whether `folder` has exactly these files with their sizes and times; no content is read.
    Raises OSError.
    """
    return _stamps(folder) == {name: file.stamp for name, file in files.items()}


def changed_files(recorded: Mapping[str, FileRecord], found: Mapping[str, FileRecord]) -> list[str]:
    """Names of the files that were changed, removed or added."""
    before, now = (
        {name: file.sha256 for name, file in files.items()} for files in (recorded, found)
    )
    return sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))


def _stamps(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Name → stamp of each file that a loader can read, which excludes the record and hidden
    files.
    """
    statuses = {
        file.name: file.stat()  # of the target of a link
        for file in sorted(folder.iterdir())
        if file.name != RECORD and not file.name.startswith(".") and not file.is_dir()
    }
    return {
        name: (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        for name, status in statuses.items()
    }
