"""What the stream has of a source: a table of keys, fingerprints and doc_ids, without texts,
replaced as a whole.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from os import fsdecode, fsencode
from pathlib import Path
from typing import NamedTuple

import filelock
import pyarrow as pa
import pyarrow.parquet as pq

from cmt.common.storage import write_table
from cmt.errors import StreamError

_SCHEMA = pa.schema(
    [
        pa.field("key", pa.binary(), nullable=False),  # a name of a file need not be text
        pa.field("fingerprint", pa.string(), nullable=False),
        pa.field("doc_ids", pa.list_(pa.string()), nullable=False),
    ]
)
_CURSOR, _SLICES = b"cursor", b"slices"


class Entry(NamedTuple):
    fingerprint: str = ""  # of the listing; "" if it is to be fetched again in any case
    doc_ids: tuple[str, ...] = ()


@dataclass
class SourceState:
    """The items of a source by their keys."""

    path: Path
    entries: dict[str, Entry] = field(default_factory=dict)
    cursor: Mapping[str, str] = field(default_factory=dict)
    slices: Collection[str] = ("unknown",)
    """Digests of the slices at the last write; the stream has lost no document while it has them
    all.
    """

    @classmethod
    @contextmanager
    def locked(cls, path: Path) -> Iterator["SourceState"]:
        """Read the state in `path` and keep other processes out. Raises StreamError."""
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with filelock.FileLock(path.with_suffix(".lock"), timeout=0):
                yield cls.read(path)
        except filelock.Timeout:
            raise StreamError(
                f"the source {path.stem} is being read by another process: wait until it ends"
            ) from None

    @classmethod
    def read(cls, path: Path) -> "SourceState":
        """Read the state in `path` without its lock; empty without a file. Raises StreamError."""
        if not path.exists():
            return cls(path)
        try:
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                rows = file.read(_SCHEMA.names)
            cursor, slices = (json.loads(rows.schema.metadata[name]) for name in (_CURSOR, _SLICES))
            items = [
                (row.pop("key"), row | {"doc_ids": tuple(row["doc_ids"])})
                for row in rows.to_pylist()
            ]
        except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
            raise StreamError(
                f"{path} cannot be read ({' '.join(str(error).split())}): remove it; the next sync "
                "reads the whole "
                "source and takes nothing twice, but documents that vanished from it meanwhile stay"
            ) from None
        return cls(path, {fsdecode(key): Entry(**values) for key, values in items}, cursor, slices)

    def write(self) -> None:
        """Replace the table. Raises OSError."""
        rows = [{"key": fsencode(key), **entry._asdict()} for key, entry in self.entries.items()]
        metadata = {
            _CURSOR: json.dumps(dict(self.cursor)),
            _SLICES: json.dumps(sorted(self.slices)),
        }
        write_table(self.path, pa.Table.from_pylist(rows, schema=_SCHEMA.with_metadata(metadata)))

    @property
    def doc_ids(self) -> set[str]:
        return {doc_id for entry in self.entries.values() for doc_id in entry.doc_ids}
