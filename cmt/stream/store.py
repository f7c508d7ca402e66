"""The slice store: a folder with the slices of a stream, its index, and the lists of forgotten
documents.
"""

import threading
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import filelock
import pyarrow as pa

from cmt.common.arrow import rows_of, rows_with, rows_without
from cmt.errors import StreamError
from cmt.stream._index import SliceIndex, discard, index_problems
from cmt.stream.forgotten import DOC_IDS, SKETCHES, Forgotten, Similar, read_doc_ids
from cmt.stream.schema import DOCUMENT_SCHEMA, QUESTION_SCHEMA
from cmt.stream.slices import (
    Slice,
    read_manifest,
    read_rows,
    read_slices,
    rows_digest,
    versions_in,
    write_slice,
)
from cmt.timeline import Timeline, Version, related

_TURNS: dict[Path, threading.RLock] = defaultdict(threading.RLock)
"""Folder of a store → what the threads of this process that read or write it wait for."""


@dataclass(frozen=True)
class SliceStore:
    """A folder of slices, and the folder of rejected rows."""

    path: Path
    quarantine: Path
    lock_timeout: float = 10.0  # seconds to wait for another process that is writing to the store

    def forgotten(self) -> list[str]:
        """doc_ids of the forgotten documents, sorted; no bank keeps a memory of them. Raises
        StreamError.
        """
        return sorted(read_doc_ids(self.path).doc_ids)

    def forgotten_among(self, documents: pa.Table) -> dict[str, str]:
        """doc_id → reason for the rows of `documents` (DOCUMENT_SCHEMA) that are forgotten or
        nearly equal to one.

        Ingest admits none of them; slices that another project wrote may have some. Raises
        StreamError.
        """
        doc_ids = documents["doc_id"].to_pylist()
        return {
            doc_ids[row]: reason
            for row, reason in Forgotten.read(self.path).reasons(documents).items()
        }

    def forget(
        self, texts: Mapping[str, Collection[str]], *, everywhere: bool = False
    ) -> list[Similar]:
        """Forget documents until `purge` removes them; returns those with nearly the same text,
        which stay.

        `texts`: doc_id → further texts, which the slices do not have. `everywhere`: refuse nearly
        equal texts of every source, not only of the document's own; the same if no slice has the
        document. Raises StreamError.
        """
        with self.opened() as index:
            # 1. their texts and sources, and documents with nearly the same text
            documents = self.all_documents()
            all_texts = {doc_id: set(versions) for doc_id, versions in texts.items()}
            sources = defaultdict[str, set[str]](set)
            for doc_id, text, source in rows_of(
                rows_with(documents, "doc_id", texts), "doc_id", "text", "source"
            ):
                all_texts[doc_id].add(text)
                sources[doc_id].add(source)
            forgotten, similar = index.forgotten.with_documents(
                all_texts,
                rows_of(documents, "doc_id", "text"),
                sources=None if everywhere else sources,
            )
            # 2. the versions whose names still lead on
            versions = related(texts, index.find)
            repeats = Timeline(versions).repeats
            names = {version[:3]: version for version in forgotten.names}
            for version in versions:
                if version.doc_id in texts and version.banked:
                    supersedes = repeats.get(version[:2], version.supersedes)
                    names[version[:3]] = version._replace(
                        sha256="", supersedes=supersedes, banked=False
                    )
            replace(forgotten, names=tuple(names.values())).write(self.path)
        return similar

    def remember(self, doc_ids: Collection[str]) -> None:
        """Take the forgetting of documents back, after their texts were purged. Raises
        StreamError.
        """
        with self.locked():
            Forgotten.read(self.path).without(doc_ids).write(self.path)

    def related(self, doc_ids: Collection[str]) -> set[Version]:
        """All versions on which the visibility of the documents depends (`cmt.timeline.related`);
        of a forgotten document only its names. Raises StreamError.
        """
        with self.opened() as index:
            return related(doc_ids, index.find)

    def copies(self, doc_ids: Collection[str]) -> set[str]:
        """The documents that are only other names of `doc_ids`: all their versions repeat one.
        Raises StreamError.
        """
        versions = self.related(doc_ids)
        timeline = Timeline(versions)
        named = {version.doc_id for version in versions if version[:2] not in timeline.repeats}
        repeats = {doc_id for doc_id, _ in timeline.repeats} - named
        return {doc_id for doc_id in repeats if timeline.original(doc_id) in doc_ids}

    def versions(self, slice_: Slice) -> list[Version]:
        """The versions of the documents of `slice_`, without forgotten ones. Raises StreamError."""
        forgotten = set(self.forgotten())
        return [version for version in versions_in(slice_) if version.doc_id not in forgotten]

    def forgotten_versions(self) -> list[Version]:
        """The versions of the forgotten documents, see `Forgotten.names`. Raises StreamError."""
        return list(Forgotten.read(self.path).names)

    def purged_digest(self, slice_: Slice, doc_ids: Collection[str]) -> str:
        """The digest of `slice_` without the documents `doc_ids` and the questions about them.
        Raises StreamError.
        """
        return rows_digest(*_rows_without(slice_, doc_ids))

    def purge(self, slice_id: str, doc_ids: Collection[str], *, digest: str) -> None:
        """Rewrite a slice without the documents `doc_ids` and the questions about them, and delete
        the index, which names them.

        `digest`: the digest of the slice afterwards. The manifest is written last. After a kill
        before it the slice does not match its digest; repeating the call completes it. Raises
        StreamError, also if the rest was altered.
        """
        with self.locked():
            discard(self.path)
            slice_ = self.slice(slice_id)
            documents, questions = _rows_without(slice_, doc_ids)
            if rows_digest(documents, questions) != digest:
                stem = slice_.path.with_suffix("")
                raise StreamError(f"slice {slice_id} was altered: restore {stem}.* from a backup")
            write_slice(self.path, slice_.period, slice_.seq, documents, questions)

    def slices_containing(self, doc_ids: Collection[str]) -> list[Slice]:
        """The slices with one of the documents `doc_ids` or a question about one. Raises
        StreamError.
        """
        containing = list[Slice]()
        for slice_ in self.slices():
            for name in ("documents", "questions"):
                rows = read_rows(slice_, name, columns=("doc_id",))
                if rows_with(rows, "doc_id", doc_ids).num_rows:
                    containing.append(slice_)
                    break
        return containing

    def delete_temp_files(self) -> None:
        """Delete the temporary files of killed writers. Raises StreamError."""
        with self.locked():
            for path in (*self.path.rglob(".*.tmp"), *self.quarantine.glob(".*.tmp")):
                path.unlink()

    def slices(self) -> list[Slice]:
        """All slices, by period and within it by `seq`. Raises StreamError if a manifest is
        damaged.
        """
        return read_slices(self.path)

    def digests(self) -> set[str]:
        """The digests of all slices, from the index. Raises StreamError."""
        with self.opened(read_only=True) as index:
            return index.digests()

    def slice(self, slice_id: str) -> Slice:
        """The slice with this id. Raises StreamError, which lists the existing ones."""
        slices = {slice_.slice_id: slice_ for slice_ in self.slices()}
        if slice_id not in slices:
            existing = ", ".join(slices) or "none, ingest first"
            raise StreamError(f"no slice {slice_id!r} in {self.path}; existing slices: {existing}")
        return slices[slice_id]

    def documents(self, slice_: Slice) -> pa.Table:
        """The documents of `slice_` in DOCUMENT_SCHEMA, by `published_at`. Raises StreamError."""
        return read_rows(slice_, "documents")

    def questions(self, slice_: Slice) -> pa.Table:
        """The questions in QUESTION_SCHEMA, by `asked_at`, except about forgotten documents. Raises
        StreamError.
        """
        return rows_without(read_rows(slice_, "questions"), "doc_id", self.forgotten())

    def all_documents(self) -> pa.Table:
        """The documents of all slices in time order. A corrected document has a row for each
        version.
        """
        return pa.concat_tables(
            [DOCUMENT_SCHEMA.empty_table(), *map(self.documents, self.slices())]
        )

    def all_questions(self) -> pa.Table:
        """The questions of all slices in time order."""
        tables = [read_rows(slice_, "questions") for slice_ in self.slices()]
        return rows_without(
            pa.concat_tables([QUESTION_SCHEMA.empty_table(), *tables]), "doc_id", self.forgotten()
        )

    def check(self, slice_: Slice) -> None:
        """Raise StreamError if a file of `slice_` is missing or damaged, or its rows do not match
        its digest.
        """
        if self.purged_digest(slice_, ()) != slice_.digest:
            stem = slice_.path.with_suffix("")
            raise StreamError(
                f"slice {slice_.slice_id} was altered, its rows do not match the digest in "
                f"{slice_.path}; restore {stem}.* from a backup or DVC, or delete them and ingest "
                "again"
            )

    def verify(self, *, skip: Collection[str] = ()) -> list[str]:
        """A line for each damaged slice or list of forgotten documents, and for a damaged index.
        `skip`: slices that a purge is rewriting.
        """
        problems = list[str]()
        # 1. the lists of forgotten documents
        try:
            Forgotten.read(self.path)
            if (self.path / DOC_IDS).exists() and not (self.path / SKETCHES).exists():
                problems.append(
                    f"{self.path / SKETCHES} is missing next to {DOC_IDS}, so near-copies of "
                    "forgotten documents are not recognised: restore it from a backup or DVC"
                )
        except StreamError as error:
            problems.append(str(error))
        # 2. the slices
        sound = list[Slice]()
        for manifest in sorted(self.path.glob("*/[0-9]*.json")):
            try:
                slice_ = read_manifest(manifest)
                if slice_.slice_id not in skip:
                    self.check(slice_)
                    sound.append(slice_)
            except StreamError as error:
                problems.append(str(error))
        # 3. the index
        return problems + index_problems(self.path, sound)

    @contextmanager
    def opened(self, *, read_only: bool = False) -> Iterator[SliceIndex]:
        """The index, under the lock of the store; what was added is saved unless an error occurs.
        `read_only`: nothing is written. Raises StreamError.
        """
        with self.locked(make=not read_only):
            index = SliceIndex(self.path, Forgotten.read(self.path), read_only=read_only)
            try:
                yield index
                index.save()
            finally:
                index.close()

    @contextmanager
    def locked(self, *, make: bool = True) -> Iterator[None]:
        """Hold the lock of the store; `make`: also make the folder, which has no lock otherwise.
        Raises StreamError in place of OSError.
        """
        lock = self.path / ".lock"
        try:
            if make:
                self.path.mkdir(parents=True, exist_ok=True)
            if not self.path.exists():
                yield
                return
            with (
                _TURNS[self.path.absolute()],
                filelock.FileLock(lock, timeout=self.lock_timeout),
            ):
                yield
        except filelock.Timeout:
            raise StreamError(
                f"{self.path} is being written by another process (cmt ingest, cmt update or a "
                f"flow run), which holds {lock}; waited {self.lock_timeout:g} s, run the command "
                "again when it has ended"
            ) from None
        except OSError as error:
            raise StreamError(
                f"cannot write {error.filename or self.path}: {error.strerror or error}"
            ) from error


def _rows_without(slice_: Slice, doc_ids: Collection[str]) -> tuple[pa.Table, pa.Table]:
    """The documents and questions of a slice, without `doc_ids` and the questions about them."""
    documents, questions = (read_rows(slice_, name) for name in ("documents", "questions"))
    return (
        rows_without(documents, "doc_id", doc_ids),
        rows_without(questions, "doc_id", doc_ids),
    )
