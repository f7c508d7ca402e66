"""The slice store: the rows that each ingest admitted for each period, immutable and in time order.

`<store>/<period>/<seq>.documents.parquet` and `.questions.parquet` hold the rows. The manifest
`<seq>.json` is written last; without it the slice does not exist.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from operator import attrgetter
from pathlib import Path

import filelock
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cmt.common.arrow import is_in, rows_of, rows_with, rows_without
from cmt.common.storage import write_json, write_table
from cmt.errors import StreamError
from cmt.stream.admission.forgotten import DOC_IDS, SKETCHES, Forgotten, Similar, read_doc_ids
from cmt.stream.schema import DOCUMENT_SCHEMA, QUESTION_SCHEMA
from cmt.timeline import Find, Timeline, Version, in_memory, related

_BATCH_ROWS = 10_000
_VERSION_COLUMNS = tuple(name for name in Version._fields if name not in ("slice_id", "banked"))


@dataclass(frozen=True)
class Slice:
    """The documents and questions that one ingest admitted for one period."""

    slice_id: str  # `<period>/<seq>`, such as 2031-01/0001
    period: str
    seq: int
    digest: str  # hex SHA-256 of the sorted rows, not of the files
    n_documents: int
    n_questions: int
    path: Path  # the manifest; both tables are beside it


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
        with self.locked():
            # 1. their texts and sources, and documents with nearly the same text
            documents = self.all_documents()
            all_texts = {doc_id: set(versions) for doc_id, versions in texts.items()}
            sources = defaultdict[str, set[str]](set)
            for doc_id, text, source in rows_of(
                rows_with(documents, "doc_id", texts), "doc_id", "text", "source"
            ):
                all_texts[doc_id].add(text)
                sources[doc_id].add(source)
            forgotten, similar = Forgotten.read(self.path).with_documents(
                all_texts,
                rows_of(documents, "doc_id", "text"),
                sources=None if everywhere else sources,
            )
            # 2. the versions whose names still lead on
            versions = related(texts, self.find_versions())
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

    def copies(self, doc_ids: Collection[str]) -> set[str]:
        """The documents that are only other names of `doc_ids`: all their versions repeat one.
        Raises StreamError.
        """
        versions = related(doc_ids, self.find_versions())
        timeline = Timeline(versions)
        own = {version.doc_id for version in versions if version[:2] not in timeline.repeats}
        repeats = {doc_id for doc_id, _ in timeline.repeats} - own
        return {doc_id for doc_id in repeats if timeline.original(doc_id) in doc_ids}

    def versions(self, slice_: Slice) -> list[Version]:
        """The versions of the documents of `slice_`, without forgotten ones. Raises StreamError."""
        forgotten = set(self.forgotten())
        return [version for version in _versions(slice_) if version.doc_id not in forgotten]

    def forgotten_versions(self) -> list[Version]:
        """The versions of the forgotten documents, see `Forgotten.names`. Raises StreamError."""
        return list(Forgotten.read(self.path).names)

    def find_versions(self) -> Find:
        """Reads all versions once, for `cmt.timeline.related`; of a forgotten document only its
        names.
        """
        tables = []
        for slice_ in self.slices():
            rows = read_rows(slice_, "documents", columns=_VERSION_COLUMNS)
            tables.append(
                rows.append_column("slice_id", pa.array([slice_.slice_id] * len(rows), pa.string()))
            )
        forgotten = Forgotten.read(self.path)
        rows = (
            rows_without(pa.concat_tables(tables), "doc_id", forgotten.doc_ids) if tables else None
        )
        of_forgotten = in_memory(forgotten.names)

        def find(doc_ids: Collection[str], texts: Collection[str]) -> Iterator[Version]:
            if rows is not None:
                named = pc.or_(is_in(rows["doc_id"], doc_ids), is_in(rows["supersedes"], doc_ids))
                found = rows.filter(pc.or_(named, is_in(rows["sha256"], texts)))
                yield from (Version(*row) for row in rows_of(found, *Version._fields[:-1]))
            yield from of_forgotten(doc_ids, texts)

        return find

    def add(self, period: str, documents: pa.Table, questions: pa.Table) -> Slice:
        """Write a new slice of `period`. The caller holds the lock. Raises OSError."""
        seq = (
            max((int(path.stem) for path in (self.path / period).glob("[0-9]*.json")), default=0)
            + 1
        )
        return self._write(period, seq, documents, questions)

    def purged_digest(self, slice_: Slice, doc_ids: Collection[str]) -> str:
        """The digest of `slice_` without the documents `doc_ids` and the questions about them.
        Raises StreamError.
        """
        return rows_digest(*self._without(slice_, doc_ids))

    def purge(self, slice_id: str, doc_ids: Collection[str], *, digest: str) -> None:
        """Rewrite a slice without the documents `doc_ids` and the questions about them.

        `digest`: the digest of the slice afterwards. The manifest is written last. After a kill
        before it the slice does not match its digest; repeating the call completes it. Raises
        StreamError, also if the rest was altered.
        """
        with self.locked():
            slice_ = self.slice(slice_id)
            documents, questions = self._without(slice_, doc_ids)
            if rows_digest(documents, questions) != digest:
                stem = slice_.path.with_suffix("")
                raise StreamError(f"slice {slice_id} was altered: restore {stem}.* from a backup")
            self._write(slice_.period, slice_.seq, documents, questions)

    def slices_containing(self, doc_ids: Collection[str]) -> list[Slice]:
        """The slices with one of the documents `doc_ids` or a question about one. Raises
        StreamError.
        """
        found = []
        for slice_ in self.slices():
            tables = (
                read_rows(slice_, name, columns=("doc_id",)) for name in ("documents", "questions")
            )
            if any(rows_with(table, "doc_id", doc_ids).num_rows for table in tables):
                found.append(slice_)
        return found

    def delete_temp_files(self) -> None:
        """Delete the temporary files of killed writers. Raises StreamError."""
        with self.locked():
            for path in (*self.path.rglob(".*.tmp"), *self.quarantine.glob(".*.tmp")):
                path.unlink()

    def slices(self) -> list[Slice]:
        """All slices, by period and within it by `seq`. Raises StreamError if a manifest is
        damaged.
        """
        return sorted(map(_read_manifest, self._manifests()), key=attrgetter("period", "seq"))

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
                f"slice {slice_.slice_id} was altered, its rows do not match the digest in {slice_.path}; restore "
                f"{stem}.* from a backup or DVC, or delete them and ingest again"
            )

    def verify(self, *, skip: Collection[str] = ()) -> list[str]:
        """A line for each damaged slice or list of forgotten documents. `skip`: slices that a purge
        is rewriting.
        """
        problems = []
        try:
            Forgotten.read(self.path)
            if (self.path / DOC_IDS).exists() and not (self.path / SKETCHES).exists():
                problems.append(
                    f"{self.path / SKETCHES} is missing beside {DOC_IDS}, so near-copies of forgotten documents "
                    "are not recognised: restore it from a backup or DVC"
                )
        except StreamError as error:
            problems.append(str(error))
        for manifest in self._manifests():
            try:
                slice_ = _read_manifest(manifest)
                if slice_.slice_id not in skip:
                    self.check(slice_)
            except StreamError as error:
                problems.append(str(error))
        return problems

    def _manifests(self) -> list[Path]:
        return sorted(self.path.glob("*/[0-9]*.json"))

    def _write(self, period: str, seq: int, documents: pa.Table, questions: pa.Table) -> Slice:
        slice_ = Slice(
            slice_id=f"{period}/{seq:04d}",
            period=period,
            seq=seq,
            digest=rows_digest(documents, questions),
            n_documents=documents.num_rows,
            n_questions=questions.num_rows,
            path=self.path / period / f"{seq:04d}.json",
        )
        write_table(slice_.path.with_suffix(".documents.parquet"), documents)
        write_table(slice_.path.with_suffix(".questions.parquet"), questions)
        fields = {key: value for key, value in vars(slice_).items() if key != "path"}
        write_json(slice_.path, fields | {"has_publishers": True})
        return slice_

    def _without(self, slice_: Slice, doc_ids: Collection[str]) -> tuple[pa.Table, pa.Table]:
        documents, questions = read_rows(slice_, "documents"), read_rows(slice_, "questions")
        return rows_without(documents, "doc_id", doc_ids), rows_without(
            questions, "doc_id", doc_ids
        )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of the store while writing. Turns OSError into StreamError."""
        lock = self.path / ".lock"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(lock, timeout=self.lock_timeout):
                yield
        except filelock.Timeout:
            raise StreamError(
                f"{self.path} is being written by another process (cmt ingest, cmt update or a flow run), "
                f"which holds {lock}; waited {self.lock_timeout:g} s, run the command again when it has ended"
            ) from None
        except OSError as error:
            raise StreamError(
                f"cannot write {error.filename or self.path}: {error.strerror or error}"
            ) from error


def rows_digest(documents: pa.Table, questions: pa.Table) -> str:
    """Hex SHA-256 of the sorted rows of both tables, independent of row order and file format."""
    digest = hashlib.sha256()
    for name, table in (("documents", documents), ("questions", questions)):
        digest.update(f"{name} {table.num_rows}\n".encode())
        schema = pa.schema(
            [f.with_type(pa.int64()) if pa.types.is_timestamp(f.type) else f for f in table.schema]
        )
        lines = list[bytes]()  # each row as a JSON list, with instants as microseconds since 1970
        for batch in table.cast(schema).to_batches(max_chunksize=_BATCH_ROWS):
            rows = zip(*(column.to_pylist() for column in batch.columns), strict=True)
            lines += [json.dumps(row, ensure_ascii=False).encode() for row in rows]
        for line in sorted(lines):
            digest.update(line + b"\n")
    return digest.hexdigest()


def read_rows(slice_: Slice, table: str, *, columns: tuple[str, ...] | None = None) -> pa.Table:
    """The `documents` or `questions` of a slice, or some of their `columns`. Raises StreamError if
    they are damaged.
    """
    path, stem = slice_.path.with_suffix(f".{table}.parquet"), slice_.path.with_suffix("")
    remedy = f"restore it from a backup or DVC, or delete {stem}.* and ingest again"
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            schema, rows = file.schema_arrow, file.read(columns=list(columns) if columns else None)
    except FileNotFoundError:
        raise StreamError(f"{path} is missing; {remedy}") from None
    except (
        pa.ArrowException,
        OSError,
        ValueError,
    ) as error:  # ValueError: of names that are no UTF-8
        raise StreamError(f"{path} is damaged ({' '.join(str(error).split())}); {remedy}") from None
    if not schema.equals(DOCUMENT_SCHEMA if table == "documents" else QUESTION_SCHEMA):
        raise StreamError(f"{path} has other columns than this version of cmt writes; {remedy}")
    return rows


@lru_cache(maxsize=1024)
def _versions(slice_: Slice) -> tuple[Version, ...]:
    """The versions of a slice; rounds ask for those of waiting slices again and again."""
    rows = read_rows(slice_, "documents", columns=_VERSION_COLUMNS).to_pylist()
    return tuple(Version(**row, slice_id=slice_.slice_id) for row in rows)


def _read_manifest(path: Path) -> Slice:
    try:
        content = json.loads(path.read_bytes())
        if not content.pop("has_publishers", False):
            raise ValueError("its documents have no publishers")
        return Slice(**content, path=path)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        remedy = f"restore it, or delete {path.with_suffix('')}.* and ingest again"
        raise StreamError(f"{path} is not the manifest of a slice ({error}); {remedy}") from None
