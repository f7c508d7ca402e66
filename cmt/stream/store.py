"""The slice store: the rows that each ingest accepted for each period, immutable and in time order.

`<store>/<period>/<seq>.documents.parquet` and `.questions.parquet` hold the rows. The manifest `<seq>.json` is written
last; without it the slice does not exist. A document belongs to the period in which it was published, a question to
the period in which it was asked. If the period is a number of documents (`every-100`), a question goes with its
document.
"""

import json
import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import reduce
from operator import attrgetter
from pathlib import Path

import filelock
import pyarrow as pa
import pyarrow.compute as pc

from cmt.common.arrow import is_in, rows_without
from cmt.common.storage import write_json, write_table
from cmt.config import StreamParams
from cmt.errors import StreamError
from cmt.stream import readers
from cmt.stream.authority import Authority, check_publisher, publishers
from cmt.stream.forgotten import Forgotten, Similar, leave_out
from cmt.stream.ingest import Known, check, select, without_floods
from cmt.stream.limits import Limits
from cmt.stream.periods import period_unit, split, unit_of
from cmt.stream.schema import DOCUMENT_SCHEMA, QUESTION_SCHEMA, Rejected
from cmt.stream.storage import read_table, rows_digest, write_quarantine

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Slice:
    """The documents and questions that one ingest accepted for one period."""

    slice_id: str
    """`<period>/<seq>`, such as 2031-01/0001."""
    period: str
    """Label of the period."""
    seq: int
    """Number of the slice in its period, from 1."""
    digest: str
    """Hex SHA-256 of the sorted rows, not of the files."""
    n_documents: int
    n_questions: int
    path: Path
    """The manifest; the two tables are beside it."""
    has_publishers: bool = False
    """Whether the column `source` is the publisher (`cmt.stream.authority`), and not what the file said."""


@dataclass(frozen=True)
class IngestReport:
    """Result of ingesting one source."""

    slices: tuple[Slice, ...]
    """The new slices."""
    accepted: int
    """Number of new documents."""
    duplicates: int
    """Number of documents that were left out as duplicates."""
    questions: int
    """Number of new questions."""
    question_duplicates: int
    """Number of questions that were left out as duplicates."""
    rejected: tuple[Rejected, ...]
    quarantine: Path | None
    """The file with the rejected rows; None if no row was rejected."""
    publisher: str | None
    """The name that the ingest was given."""
    clock: str | None
    """The instant at which `stream.clock` is fixed; None if it is the computer's."""

    def summary(self) -> str:
        """The result in one line."""
        documents, questions = _count(self.accepted, "document"), _count(self.questions, "question")
        new = f"{documents} and {questions} taken into {_count(len(self.slices), 'slice')}"
        documents, questions = _count(self.duplicates, "document"), _count(self.question_duplicates, "question")
        rejected = f"; {_count(len(self.rejected), 'row')} rejected, see {self.quarantine}" if self.rejected else ""
        return f"{new if self.slices else 'nothing new'}; {documents} and {questions} already there{rejected}"

    def clock_notice(self) -> str:
        """What a fixed clock means, in one line."""
        return f"the clock is fixed (stream.clock): what is dated after {self.clock} is rejected"


@dataclass(frozen=True)
class SliceStore:
    """A folder of slices, and the folder of rejected rows."""

    path: Path
    quarantine: Path
    lock_timeout: float = 10.0
    """Seconds to wait for another process that is writing to the store."""

    def ingest(
        self,
        *,
        source: Path,
        format: str,
        period: str | int,
        now: datetime | None = None,
        publisher: str | None = None,
        params: StreamParams | None = None,
    ) -> IngestReport:
        """Validate every row of `source`, quarantine the rejected ones, and add what is new as slices.

        Dates after `now` (default: that of the clock of `params`) are rejected. `publisher`: who published the
        documents, see `cmt.stream.authority`. `params`: limits, trust, authority and clock. Ingesting a source again
        adds nothing. Raises ConfigError for an unknown format or period, or a bad `publisher`; StreamError if the
        source cannot be read, if every row is rejected, if the store is damaged or cannot be written, or if another
        process is writing to it.
        """
        unit, params, limits = period_unit(period), params or StreamParams(), Limits.of(params or StreamParams())
        given = None if publisher is None else check_publisher(publisher)
        # 1. read and validate
        raw = readers.read(source, format, limits=limits)
        documents, questions = check(raw, now=now or params.now(), limits=limits)
        # 2. who published it
        claimed = documents.table["source"].to_pylist()
        sources = publishers(claimed, given=given, path=source, trusted=params.trust_source)
        documents = documents.with_sources(sources)
        with self._lock():
            # 3. leave out what was forgotten and floods, then select what is new
            documents, questions = leave_out(documents, questions, Forgotten.read(self.path))
            documents = without_floods(documents, period=period, most=params.max_near_duplicates)
            authority = Authority(params.authority)
            known = self._known(unit, documents.table, questions.table)
            intake = select(documents, questions, unread=raw.rejected, known=known, authority=authority)
            # 4. quarantine the rest, so that an ingest that fails shows why
            name = f"{source.resolve().name[:100]}-{raw.digest[:16]}.jsonl"
            quarantine = write_quarantine(self.quarantine, name=name, rejected=intake.rejected)
            if intake.all_rejected:
                first = intake.rejected[0]
                raise StreamError(
                    f"{source}: none of its {_count(len(intake.rejected), 'row')} can be taken, see {quarantine}; "
                    f"the first: {first.file}:{first.row}: {first.reason}"
                )
            # 5. one new slice for each period
            slices = tuple(self._write(*part) for part in split(intake.documents, intake.questions, period=period))
        report = IngestReport(
            slices=slices,
            accepted=intake.documents.num_rows,
            duplicates=intake.duplicates,
            questions=intake.questions.num_rows,
            question_duplicates=intake.question_duplicates,
            rejected=intake.rejected,
            quarantine=quarantine,
            publisher=given,
            clock=None if params.clock == "system" else params.clock,
        )
        log.info("%s: %s", source, report.summary())
        if report.clock:
            log.info("%s", report.clock_notice())
        return report

    def forgotten(self) -> list[str]:
        """doc_ids of the forgotten documents, sorted; no bank keeps a memory of them. Raises StreamError."""
        return Forgotten.read_doc_ids(self.path)

    def left_out(self, documents: pa.Table) -> dict[str, str]:
        """doc_id → reason for those of `documents` (DOCUMENT_SCHEMA) that were forgotten or are nearly a forgotten one.

        `ingest` lets none of them in; this is for slices that another project wrote. Raises StreamError.
        """
        forgotten = Forgotten.read(self.path)
        if not forgotten.doc_ids:
            return {}
        pairs = zip(documents["doc_id"].to_pylist(), documents["text"].to_pylist(), strict=True)
        reasons = {doc_id: forgotten.reason(doc_id, text) for doc_id, text in pairs}
        return {doc_id: reason for doc_id, reason in reasons.items() if reason}

    def forget(self, texts: Mapping[str, Collection[str]]) -> list[Similar]:
        """Add documents to the forgotten ones; returns those with nearly the same text, which stay in the stream.

        `texts`: doc_id → texts that the slices do not have; empty if they have them. The slices are immutable and keep
        the texts until `purge`. Raises StreamError.
        """
        with self._lock():
            documents = self.all_documents().select(["doc_id", "text"])
            pairs = list(zip(*documents.to_pydict().values(), strict=True))
            known = {doc_id: set(versions) for doc_id, versions in texts.items()}
            for doc_id, text in pairs:
                if doc_id in known:
                    known[doc_id].add(text)
            forgotten, similar = Forgotten.read(self.path).adding(known, pairs)
            forgotten.write(self.path)
        return similar

    def purged_digest(self, slice_: Slice, doc_ids: Collection[str]) -> str:
        """The digest of `slice_` without the documents `doc_ids` and the questions about them. Raises StreamError."""
        return rows_digest(*self._without(slice_, doc_ids))

    def purge(self, slice_id: str, doc_ids: Collection[str], *, digest: str) -> None:
        """Write the files of a slice again, without the documents `doc_ids` and the questions about them.

        `digest`: that of the slice afterwards. The manifest is written last. After a kill before it the slice does not
        match its digest; repeating the call completes it. Raises StreamError, also if the rest was altered.
        """
        with self._lock():
            slice_ = self.slice(slice_id)
            documents, questions = self._without(slice_, doc_ids)
            if rows_digest(documents, questions) != digest:
                raise StreamError(
                    f"slice {slice_id} was altered: restore {slice_.path.with_suffix('')}.* from a backup"
                )
            self._write_files(slice_.period, slice_.seq, documents, questions, has_publishers=slice_.has_publishers)

    def holding(self, doc_ids: Collection[str]) -> list[Slice]:
        """The slices with one of the documents `doc_ids` or a question about one. Raises StreamError."""
        wanted = set(doc_ids)

        def holds(slice_: Slice, table: str) -> bool:
            return not wanted.isdisjoint(_read(slice_, table, columns=("doc_id",))["doc_id"].to_pylist())

        return [slice_ for slice_ in self.slices() if holds(slice_, "documents") or holds(slice_, "questions")]

    def delete_temp_files(self) -> None:
        """Delete what writers that were killed left in the folders of the store. Raises StreamError."""
        with self._lock():
            for path in (*self.path.rglob(".*.tmp"), *self.quarantine.glob(".*.tmp")):
                path.unlink()

    def slices(self) -> list[Slice]:
        """All slices, by period and within it by `seq`. Raises StreamError if a manifest is damaged."""
        return sorted(map(_read_manifest, self._manifests()), key=attrgetter("period", "seq"))

    def slice(self, slice_id: str) -> Slice:
        """The slice with this id. Raises StreamError, which lists the existing ones."""
        slices = {slice_.slice_id: slice_ for slice_ in self.slices()}
        if slice_id not in slices:
            raise StreamError(
                f"no slice {slice_id!r} in {self.path}; existing slices: {', '.join(slices) or 'none, ingest first'}"
            )
        return slices[slice_id]

    def documents(self, slice_: Slice) -> pa.Table:
        """The documents of `slice_` in DOCUMENT_SCHEMA, by `published_at`. Raises StreamError if a file is damaged."""
        return _read(slice_, "documents")

    def questions(self, slice_: Slice) -> pa.Table:
        """The questions of `slice_` in QUESTION_SCHEMA, by `asked_at`, without those about forgotten documents.

        Raises StreamError if a file is damaged.
        """
        return without(_read(slice_, "questions"), self.forgotten())

    def all_documents(self) -> pa.Table:
        """The documents of all slices in time order. A corrected document has one row a version, the valid one last."""
        return pa.concat_tables([DOCUMENT_SCHEMA.empty_table(), *map(self.documents, self.slices())])

    def all_questions(self) -> pa.Table:
        """The questions of all slices in time order."""
        tables = [_read(slice_, "questions") for slice_ in self.slices()]
        return without(pa.concat_tables([QUESTION_SCHEMA.empty_table(), *tables]), self.forgotten())

    def check(self, slice_: Slice) -> None:
        """Raise StreamError if a file of `slice_` is missing or damaged, or its rows do not match its digest."""
        if self.purged_digest(slice_, ()) != slice_.digest:
            stem = slice_.path.with_suffix("")
            raise StreamError(
                f"slice {slice_.slice_id} was altered, its rows do not match the digest in {slice_.path}; restore "
                f"{stem}.* from a backup or DVC, or delete them and ingest again"
            )

    def verify(self, *, skip: Collection[str] = ()) -> list[str]:
        """Problems of the store: one line for each slice that lacks a file, is damaged or was altered, and one
        for a damaged list of forgotten documents.

        `skip`: slice_ids that are being written again.
        """
        problems = []
        try:
            Forgotten.read(self.path)
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

    def _known(self, unit: str, documents: pa.Table, questions: pa.Table) -> Known:
        """The index of the rows that decide what of `documents` and `questions` is new; the others are not kept.

        Raises StreamError if the store is cut by another unit than `unit`.
        """
        slices = self.slices()
        for slice_ in slices:
            if unit_of(slice_.period) != unit:
                raise StreamError(
                    f"{self.path} is cut by {unit_of(slice_.period)}, not by {unit}: "
                    "set stream.period back, or name another folder in stream.path"
                )
        # 1. the documents that a row names, and those with a text of `documents`
        named = [documents["doc_id"], documents["supersedes"], questions["doc_id"]]
        for slice_ in slices:
            stored = _read(slice_, "documents", columns=("doc_id", "sha256"))
            named.append(_where(stored, sha256=documents["sha256"])["doc_id"])
        doc_ids = pa.chunked_array([chunk for column in named for chunk in column.chunks], pa.string()).unique()
        # 2. their versions, and what supersedes them
        known = Known(forgotten=frozenset(self.forgotten()))
        columns = ("doc_id", "published_at", "sha256", "source", "supersedes")
        for slice_ in slices:
            stored = _read(slice_, "documents", columns=columns)
            known.add_documents(
                _where(stored, doc_id=doc_ids, supersedes=doc_ids), has_publishers=slice_.has_publishers
            )
            stored = _read(slice_, "questions", columns=("question_id", "question"))
            known.add_questions(_where(stored, question_id=questions["question_id"]))
        return known

    def _write(self, period: str, documents: pa.Table, questions: pa.Table) -> Slice:
        """Add a slice to `period`."""
        seq = max((int(path.stem) for path in (self.path / period).glob("[0-9]*.json")), default=0) + 1
        return self._write_files(period, seq, documents, questions, has_publishers=True)

    def _write_files(
        self, period: str, seq: int, documents: pa.Table, questions: pa.Table, *, has_publishers: bool
    ) -> Slice:
        """Write the files of a slice; the manifest is written last."""
        slice_ = Slice(
            slice_id=f"{period}/{seq:04d}",
            period=period,
            seq=seq,
            digest=rows_digest(documents, questions),
            n_documents=documents.num_rows,
            n_questions=questions.num_rows,
            path=self.path / period / f"{seq:04d}.json",
            has_publishers=has_publishers,
        )
        write_table(_table_path(slice_, "documents"), documents)
        write_table(_table_path(slice_, "questions"), questions)
        manifest = {key: value for key, value in vars(slice_).items() if key != "path"}
        write_json(slice_.path, manifest)
        return slice_

    def _without(self, slice_: Slice, doc_ids: Collection[str]) -> tuple[pa.Table, pa.Table]:
        """Documents and questions of `slice_` but for `doc_ids` and the questions about them."""
        return without(_read(slice_, "documents"), doc_ids), without(_read(slice_, "questions"), doc_ids)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Hold the lock of the store while writing; an OSError becomes a StreamError."""
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
            raise StreamError(f"cannot write {error.filename or self.path}: {error.strerror or error}") from error


def without(rows: pa.Table, doc_ids: Collection[str]) -> pa.Table:
    """The rows of `rows` whose doc_id is not one of `doc_ids`."""
    return rows_without(rows, "doc_id", doc_ids)


def _where(rows: pa.Table, **values: pa.Array | pa.ChunkedArray) -> pa.Table:
    """The rows of which a column has one of its `values`."""
    conditions = [is_in(rows[name], wanted.drop_null()) for name, wanted in values.items()]
    return rows.filter(reduce(pc.or_, conditions))


def _table_path(slice_: Slice, table: str) -> Path:
    return slice_.path.with_name(f"{slice_.path.stem}.{table}.parquet")


def _read(slice_: Slice, table: str, *, columns: tuple[str, ...] | None = None) -> pa.Table:
    schema = DOCUMENT_SCHEMA if table == "documents" else QUESTION_SCHEMA
    return read_table(_table_path(slice_, table), schema=schema, columns=columns)


def _read_manifest(path: Path) -> Slice:
    try:
        return Slice(**json.loads(path.read_bytes()), path=path)
    except (OSError, ValueError, TypeError) as error:
        remedy = f"restore it, or delete {path.with_suffix('')}.* and ingest again"
        raise StreamError(f"{path} is not the manifest of a slice ({error}); {remedy}") from None


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
