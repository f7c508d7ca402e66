"""The index of a store: which slice has which versions of documents and which questions.

An ingest looks up the rows that its own rows repeat or change, and reads no other slice. The index
is an SQLite file in the folder of the store. It holds ids, dates, publishers and hashes of texts,
no text. The slices decide; the index can always be made again from them:

1. The file records when each folder of slices last changed (its modification time).
2. An ingest compares these times, and indexes the slices of a folder that changed since, such as
   after a kill between a slice and the index, or after a backup was restored. Only this comparison
   grows with the stream, by about 2 µs a folder: no folder above shows such a change.
3. If SQLite cannot read the file, an index in memory takes its place, and then replaces the file.
"""

import json
import logging
import os
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from pathlib import Path
from typing import Any

import pyarrow as pa

from cmt.common.storage import atomic_path
from cmt.stream.forgotten import Forgotten
from cmt.stream.periods import unit_of
from cmt.stream.slices import VERSION_COLUMNS, Slice, read_manifest, read_rows, write_slice
from cmt.timeline import Version, in_memory

log = logging.getLogger(__name__)

FILE = ".index.sqlite"  # in the folder of the store
_LAYOUT = 1  # of the tables; a file with another layout is replaced
_SCHEMA = f"""
CREATE TABLE folders (period TEXT PRIMARY KEY, changed INTEGER);
CREATE TABLE state (folders TEXT);
CREATE TABLE slices (
    slice_id TEXT PRIMARY KEY, period TEXT, unit TEXT, seq INTEGER, digest TEXT
);
CREATE TABLE versions (
    slice_id TEXT, published_at INTEGER, doc_id TEXT, source TEXT, sha256 TEXT, supersedes TEXT
);
CREATE TABLE questions (slice_id TEXT, question_id TEXT);
CREATE INDEX slices_period ON slices (period, seq);
CREATE INDEX versions_slice_id ON versions (slice_id);
CREATE INDEX versions_doc_id ON versions (doc_id);
CREATE INDEX versions_sha256 ON versions (sha256);
CREATE INDEX versions_supersedes ON versions (supersedes);
CREATE INDEX questions_slice_id ON questions (slice_id);
CREATE INDEX questions_question_id ON questions (question_id);
PRAGMA user_version = {_LAYOUT};
"""
_VERSIONS = "SELECT doc_id, published_at, slice_id, source, sha256, supersedes FROM versions WHERE"
_VERSIONS_BY = {  # column → the versions with one of some values in it
    name: f"{_VERSIONS} {name} IN (SELECT value FROM json_each(?))"  # noqa: S608 - one of three
    for name in ("doc_id", "supersedes", "sha256")
}
_FOLDER = "INSERT OR REPLACE INTO folders VALUES (?, ?)"
_ASKING = """SELECT DISTINCT slice_id FROM questions
WHERE question_id IN (SELECT value FROM json_each(?))"""
_EPOCH, _MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)


class SliceIndex:
    """The index of a store, open and up to date. Its user holds the lock of the store."""

    def __init__(self, store: Path, forgotten: Forgotten, *, read_only: bool = False) -> None:
        """Open the index; `read_only`: write no file. Raises StreamError if a slice that is not
        indexed yet is damaged.
        """
        self.forgotten = forgotten
        self._store, self._path, self._read_only = store, store / FILE, read_only
        self._added = set[str]()  # periods with a new slice
        self._in_memory = read_only or not self._path.exists()
        self._database = sqlite3.connect(":memory:")
        try:
            if not self._path.exists():
                self._database.executescript(_SCHEMA)
            elif read_only:
                with closing(sqlite3.connect(self._path)) as file:
                    file.backup(self._database)
            else:
                self._database = sqlite3.connect(self._path)
            if self._database.execute("PRAGMA user_version").fetchone() != (_LAYOUT,):
                raise sqlite3.DatabaseError("it has the layout of another version of cmt")
            self._catch_up()
        except sqlite3.Error as error:
            self._rebuild(error)

    def select(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """The rows of a query. A damaged index is made again."""
        try:
            return self._database.execute(query, values).fetchall()
        except sqlite3.Error as error:
            self._rebuild(error)
            return self._database.execute(query, values).fetchall()

    def find(self, doc_ids: Collection[str], texts: Collection[str]) -> Iterator[Version]:
        """What `cmt.timeline.Find` finds; of a forgotten document only its names."""
        names, hashes = json.dumps([*doc_ids]), json.dumps([*texts])
        for column, values in (("doc_id", names), ("supersedes", names), ("sha256", hashes)):
            for doc_id, date, *rest in self.select(_VERSIONS_BY[column], values):
                if doc_id not in self.forgotten.doc_ids:
                    yield Version(doc_id, _EPOCH + date * _MICROSECOND, *rest)
        if self.forgotten.names:
            yield from in_memory(self.forgotten.names)(doc_ids, texts)

    def slices_asking(self, question_ids: Collection[str]) -> set[str]:
        """The ids of the slices that have one of the questions."""
        return {slice_id for (slice_id,) in self.select(_ASKING, json.dumps([*question_ids]))}

    def read(
        self, slice_ids: Collection[str], table: str, columns: tuple[str, ...]
    ) -> Iterator[pa.Table]:
        """Yield these columns of the `documents` or `questions` of some slices, in time order.
        Raises StreamError.
        """
        slices = [read_manifest(self._store / f"{slice_id}.json") for slice_id in slice_ids]
        for slice_ in sorted(slices, key=attrgetter("period", "seq")):
            yield read_rows(slice_, table, columns=columns)

    def publishers(self, prefix: str) -> set[str]:
        """The publishers whose names begin with `prefix`."""
        query = "SELECT DISTINCT source FROM versions WHERE substr(source, 1, ?) = ?"
        return {source for (source,) in self.select(query, len(prefix), prefix)}

    def units(self) -> set[str]:
        """The units of the periods of all slices, see `unit_of`."""
        return {unit for (unit,) in self.select("SELECT DISTINCT unit FROM slices")}

    def digests(self) -> set[str]:
        """The digests of all slices."""
        return {digest for (digest,) in self.select("SELECT digest FROM slices")}

    def add(self, period: str, documents: pa.Table, questions: pa.Table) -> Slice:
        """Write a new slice of `period`, and index it. Raises OSError if the slice cannot be
        written.
        """
        [(last,)] = self.select("SELECT MAX(seq) FROM slices WHERE period = ?", period)
        slice_ = write_slice(self._store, period, (last or 0) + 1, documents, questions)
        self._added.add(period)
        try:
            self._insert(slice_, documents, questions)
        except sqlite3.Error as error:
            self._rebuild(error)
        return slice_

    def save(self) -> None:
        """Write what is new to the file. A failure costs the next ingest some time, so it is only
        logged.
        """
        if self._read_only or not (self._in_memory or self._database.in_transaction):
            return
        try:
            for period in self._added:
                self._folders[period] = (self._store / period).stat().st_mtime_ns
                self._database.execute(_FOLDER, (period, self._folders[period]))
            self._database.execute("DELETE FROM state")
            self._database.execute("INSERT INTO state VALUES (?)", (_state(self._folders),))
            self._database.commit()
            if self._in_memory and self._folders:
                discard(self._store)
                with atomic_path(self._path) as path, closing(sqlite3.connect(path)) as file:
                    self._database.backup(file)
        except (sqlite3.Error, OSError) as error:
            log.warning("%s cannot be written (%s): the next ingest tries again", self._path, error)

    def close(self) -> None:
        """Close the index, without what is not saved."""
        self._database.close()

    def _catch_up(self) -> None:
        """Index what changed in the store since the index was written."""
        self._folders = folders = _changes(self._store)
        if self._database.execute("SELECT folders FROM state").fetchone() == (_state(folders),):
            return
        indexed = dict(self._database.execute("SELECT period, changed FROM folders"))
        for period in sorted(folders | indexed):
            if folders.get(period) != indexed.get(period):
                self._index_folder(period, folders.get(period))

    def _index_folder(self, period: str, changed: int | None) -> None:
        """Index the slices of a folder that changed at this time; None: it is gone."""
        # 1. drop the slices that are gone or were written again
        query = "SELECT slice_id, digest FROM slices WHERE period = ?"
        indexed = dict(self._database.execute(query, (period,)))
        slices = [read_manifest(path) for path in (self._store / period).glob("[0-9]*.json")]
        present = {slice_.slice_id: slice_.digest for slice_ in slices}
        for slice_id, digest in indexed.items():
            if present.get(slice_id) != digest:
                for table in ("slices", "versions", "questions"):
                    query = f"DELETE FROM {table} WHERE slice_id = ?"  # noqa: S608 - one of three
                    self._database.execute(query, (slice_id,))
        # 2. index the others
        for slice_ in slices:
            if indexed.get(slice_.slice_id) != slice_.digest:
                documents = read_rows(slice_, "documents", columns=VERSION_COLUMNS)
                questions = read_rows(slice_, "questions", columns=("question_id",))
                self._insert(slice_, documents, questions)
        # 3. the time
        if changed is None:
            self._database.execute("DELETE FROM folders WHERE period = ?", (period,))
        else:
            self._database.execute(_FOLDER, (period, changed))

    def _insert(self, slice_: Slice, documents: pa.Table, questions: pa.Table) -> None:
        unit = unit_of(slice_.period)
        row = (slice_.slice_id, slice_.period, unit, slice_.seq, slice_.digest)
        self._database.execute("INSERT INTO slices VALUES (?, ?, ?, ?, ?)", row)
        rows = _rows(slice_, documents, questions)
        self._database.executemany(
            "INSERT INTO versions VALUES (?, ?, ?, ?, ?, ?)", rows["versions"]
        )
        self._database.executemany("INSERT INTO questions VALUES (?, ?)", rows["questions"])

    def _rebuild(self, error: Exception) -> None:
        """Continue with an index in memory, made from the slices. Raises StreamError."""
        log.warning("%s cannot be used (%s): it is made again", self._path, error)
        self._database.close()
        self._in_memory = True
        self._database = sqlite3.connect(":memory:")
        self._database.executescript(_SCHEMA)
        self._catch_up()


def discard(store: Path) -> None:
    """Delete the index of `store`; the next ingest makes it again. Raises OSError."""
    path = store / FILE
    path.unlink(missing_ok=True)
    # SQLite would apply a journal that is left to the next file of that name
    path.with_name(f"{FILE}-journal").unlink(missing_ok=True)


def index_problems(store: Path, slices: Iterable[Slice]) -> list[str]:
    """A line if the index of `store` does not have what `slices` have, which are sound. A slice
    that it has not indexed yet is no problem.
    """
    path = store / FILE
    if not path.exists():
        return []
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            [state, *_] = database.execute("PRAGMA integrity_check").fetchall()
            sound = state == ("ok",) and all(_matches(database, slice_) for slice_ in slices)
    except sqlite3.OperationalError:  # another process writes it, or it has another layout
        return []
    except sqlite3.DatabaseError:
        sound = False
    return [] if sound else [f"{path} is damaged: delete it; the next ingest makes it again"]


def _matches(database: sqlite3.Connection, slice_: Slice) -> bool:
    """Whether the index has the rows of a slice, or has not indexed it yet."""
    key = (slice_.slice_id,)
    digest = database.execute("SELECT digest FROM slices WHERE slice_id = ?", key).fetchone()
    if digest != (slice_.digest,):
        return True
    documents = read_rows(slice_, "documents", columns=VERSION_COLUMNS)
    questions = read_rows(slice_, "questions", columns=("question_id",))
    for table, rows in _rows(slice_, documents, questions).items():
        query = f"SELECT * FROM {table} WHERE slice_id = ?"  # noqa: S608 - one of two
        if sorted(map(repr, database.execute(query, key))) != sorted(map(repr, rows)):
            return False
    return True


def _rows(
    slice_: Slice, documents: pa.Table, questions: pa.Table
) -> dict[str, list[tuple[Any, ...]]]:
    """Table of the index → its rows for a slice."""
    dates = documents["published_at"].cast(pa.int64())
    columns = [documents[name] for name in ("doc_id", "source", "sha256", "supersedes")]
    versions = [
        (slice_.slice_id, *row)
        for row in zip(*(column.to_pylist() for column in (dates, *columns)), strict=True)
    ]
    asked = [(slice_.slice_id, name) for name in questions["question_id"].to_pylist()]
    return {"versions": versions, "questions": asked}


def _changes(store: Path) -> dict[str, int]:
    """The folders of slices → when each last changed, in nanoseconds."""
    changes = dict[str, int]()
    if not store.exists():
        return changes
    folder = os.open(store, os.O_RDONLY)  # names below it are found faster than paths
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir() and not entry.name.startswith("."):
                    changes[entry.name] = entry.stat().st_mtime_ns
    finally:
        os.close(folder)
    return changes


def _state(folders: Mapping[str, int]) -> str:
    """A summary of the times of all folders, which differs after any change of one."""
    return f"{len(folders)} {sum(folders.values())}"
