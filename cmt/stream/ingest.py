"""Ingest: one file or folder → validated rows, the quarantine of rejected ones, and new slices in the store."""

import logging
from dataclasses import dataclass, replace
from datetime import datetime
from functools import reduce
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from cmt.common.arrow import is_in, replace_column
from cmt.config import StreamParams
from cmt.errors import StreamError
from cmt.stream import readers
from cmt.stream.admission import StoreIndex, select, validate_rows, without_floods
from cmt.stream.authority import Authority, check_publisher, publisher_of_each
from cmt.stream.forgotten import Forgotten, reject_forgotten
from cmt.stream.limits import Limits
from cmt.stream.periods import period_unit, split, unit_of
from cmt.stream.schema import Rejected
from cmt.stream.storage import write_quarantine
from cmt.stream.store import Slice, SliceStore, read_rows

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class IngestReport:
    """Result of one ingest."""

    slices: tuple[Slice, ...]
    """The new slices."""
    accepted: int
    """Number of new documents."""
    duplicates: int
    """Number of duplicate documents."""
    questions: int
    """Number of new questions."""
    question_duplicates: int
    """Number of duplicate questions."""
    rejected: tuple[Rejected, ...]
    quarantine: Path | None
    """The file with the rejected rows; None if no row was rejected."""
    publisher: str | None
    """The publisher that the caller named."""
    clock: str | None
    """The instant at which `stream.clock` is fixed; None if the computer's clock counts."""

    def summary(self) -> str:
        """The result in one line."""
        documents, questions = _count(self.accepted, "document"), _count(self.questions, "question")
        new = f"{documents} and {questions} taken into {_count(len(self.slices), 'slice')}"
        documents, questions = _count(self.duplicates, "document"), _count(self.question_duplicates, "question")
        rejected = f"; {_count(len(self.rejected), 'row')} rejected, see {self.quarantine}" if self.rejected else ""
        return f"{new if self.slices else 'nothing new'}; {documents} and {questions} already there{rejected}"

    def clock_notice(self) -> str:
        """The effect of a fixed clock, in one line."""
        return f"the clock is fixed (stream.clock): rows dated after {self.clock} are rejected"


def ingest(
    store: SliceStore,
    path: Path,
    *,
    file_format: str,
    period: str | int,
    now: datetime | None = None,
    publisher: str | None = None,
    params: StreamParams | None = None,
) -> IngestReport:
    """Validate every row of the file or folder `path`, quarantine rejected rows, and add new ones to `store` as slices.

    Rows dated after `now` (default: the clock of `params`) are rejected. `publisher`: who published the documents, see
    `cmt.stream.authority`. `params`: limits, trust, authority and clock. Repeating an ingest adds nothing. Raises
    ConfigError for an unknown format or period, or a bad `publisher`; StreamError if `path` cannot be read, if every
    row is rejected, if the store is damaged or cannot be written, or if another process is writing to it.
    """
    unit, params = period_unit(period), params or StreamParams()
    limits = Limits(params)
    named = None if publisher is None else check_publisher(publisher)
    # 1. read and validate
    raw = readers.read(path, file_format, limits=limits)
    documents, questions = validate_rows(raw, now=now or params.now(), limits=limits)
    # 2. determine who published each document
    claimed = documents.table["source"].to_pylist()
    publishers = publisher_of_each(claimed, named=named, path=path, trusted=params.trust_source)
    documents = replace(documents, table=replace_column(documents.table, "source", publishers))
    with store.locked():
        # 3. reject forgotten documents and floods, then select the new rows
        documents, questions = reject_forgotten(documents, questions, Forgotten.read(store.path))
        documents = without_floods(documents, period=period, limit=params.max_near_duplicates)
        index = store_index(store, unit, documents.table, questions.table)
        authority = Authority(params.authority)
        intake = select(documents, questions, unread=raw.rejected, index=index, authority=authority)
        # 4. quarantine rejected rows first, so that an ingest that fails shows why
        name = f"{path.resolve().name[:100]}-{raw.digest[:16]}.jsonl"
        quarantine = write_quarantine(store.quarantine, name=name, rejected=intake.rejected)
        if not any((len(intake.documents), len(intake.questions), intake.duplicates, intake.question_duplicates)):
            first = intake.rejected[0]
            raise StreamError(
                f"{path}: none of its {_count(len(intake.rejected), 'row')} can be taken, see {quarantine}; "
                f"the first: {first.file}:{first.row}: {first.reason}"
            )
        # 5. write one new slice for each period
        slices = tuple(store.add(*part) for part in split(intake.documents, intake.questions, period=period))
    report = IngestReport(
        slices=slices,
        accepted=intake.documents.num_rows,
        duplicates=intake.duplicates,
        questions=intake.questions.num_rows,
        question_duplicates=intake.question_duplicates,
        rejected=intake.rejected,
        quarantine=quarantine,
        publisher=named,
        clock=None if params.clock == "system" else params.clock,
    )
    log.info("%s: %s", path, report.summary())
    if report.clock:
        log.info("%s", report.clock_notice())
    return report


def store_index(store: SliceStore, unit: str, documents: pa.Table, questions: pa.Table) -> StoreIndex:
    """The rows of `store` that decide which of `documents` and `questions` are new.

    Raises StreamError if the store is cut by another unit than `unit`.
    """
    slices = store.slices()
    for slice_ in slices:
        if unit_of(slice_.period) != unit:
            raise StreamError(
                f"{store.path} is cut by {unit_of(slice_.period)}, not by {unit}: "
                "set stream.period back, or name another folder in stream.path"
            )
    # 1. the documents that a row names, and those with a text of `documents`
    named = [documents["doc_id"], documents["supersedes"], questions["doc_id"]]
    for slice_ in slices:
        stored = read_rows(slice_, "documents", columns=("doc_id", "sha256"))
        named.append(_where(stored, sha256=documents["sha256"])["doc_id"])
    doc_ids = pa.chunked_array([chunk for column in named for chunk in column.chunks], pa.string()).unique()
    # 2. their versions, and their updates
    index = StoreIndex(forgotten=frozenset(store.forgotten()))
    columns = ("doc_id", "published_at", "sha256", "source", "supersedes")
    for slice_ in slices:
        stored = read_rows(slice_, "documents", columns=columns)
        index.add_documents(_where(stored, doc_id=doc_ids, supersedes=doc_ids))
        stored = read_rows(slice_, "questions", columns=("question_id", "question"))
        index.add_questions(_where(stored, question_id=questions["question_id"]))
    return index


def _where(rows: pa.Table, **values: pa.Array | pa.ChunkedArray) -> pa.Table:
    """The rows that have one of the `values` of a column in it."""
    conditions = [is_in(rows[name], wanted.drop_null()) for name, wanted in values.items()]
    return rows.filter(reduce(pc.or_, conditions))


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
