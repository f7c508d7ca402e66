"""Ingest: one file or folder → validated rows, the quarantine of rejected ones, and new slices in the store."""

import logging
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from operator import attrgetter
from pathlib import Path
from typing import Any

import pyarrow as pa

from cmt.common.arrow import replace_column, rows_with
from cmt.common.visibility import Find, Version, in_memory, related
from cmt.config import StreamParams
from cmt.errors import StreamError
from cmt.stream import readers
from cmt.stream.admission import (
    NEW,
    RECORD,
    StoreIndex,
    ValidatedRows,
    own_ids,
    select,
    validate_rows,
    versions_of,
    without_floods,
)
from cmt.stream.authority import Authority, check_publisher, publisher_of_each
from cmt.stream.forgotten import Forgotten, reject_forgotten
from cmt.stream.limits import Limits
from cmt.stream.periods import period_unit, split, unit_of
from cmt.stream.schema import Rejected
from cmt.stream.storage import write_quarantine
from cmt.stream.store import Slice, SliceStore, read_rows

log = logging.getLogger(__name__)

Revise = Callable[[ValidatedRows, Find], ValidatedRows]
"""The valid documents of an ingest, what the store has of them → the documents to take."""


@dataclass(frozen=True)
class IngestReport:
    """Result of one ingest."""

    slices: tuple[Slice, ...]
    """The new slices."""
    accepted: int
    """Number of documents that were taken."""
    versions: int
    """Number of these that are new versions of known documents."""
    repeats: int
    """Number of these that repeat the text of another document of their source, for which they stand."""
    duplicates: int
    """Number of documents that were in the store already."""
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
        kinds = [_count(n, noun) for n, noun in ((self.versions, "new version"), (self.repeats, "repeat")) if n]
        notes = f" ({', '.join(kinds)})" if kinds else ""
        new = f"{documents}{notes} and {questions} taken into {_count(len(self.slices), 'slice')}"
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
    params = params or StreamParams()
    period_unit(period)
    raw = readers.read(path, file_format, limits=Limits(params))
    report = ingest_rows(
        store,
        raw,
        origin=path.resolve().name,
        quarantine=f"{path.resolve().name[:100]}-{raw.digest[:16]}.jsonl",
        period=period,
        now=now,
        publisher=publisher,
        params=params,
    )
    log.info("%s: %s", path, report.summary())
    if report.clock:
        log.info("%s", report.clock_notice())
    if not (report.slices or report.duplicates or report.question_duplicates):
        first = report.rejected[0]
        raise StreamError(
            f"{path}: none of its {_count(len(report.rejected), 'row')} can be taken, see {report.quarantine}; "
            f"the first: {first.file}:{first.row}: {first.reason}"
        )
    return report


def ingest_rows(
    store: SliceStore,
    raw: readers.RawRows,
    *,
    origin: str,
    quarantine: str,
    period: str | int,
    now: datetime | None = None,
    publisher: str | None = None,
    params: StreamParams,
    revise: Revise | None = None,
) -> IngestReport:
    """Like `ingest`, for rows that were read already; it raises nothing if every row is rejected.

    `origin`: the name of the file or source. `quarantine`: the name of the file of rejected rows. `revise`: changes
    the valid documents, given what the store has, before they are compared with it.
    """
    unit, limits = period_unit(period), Limits(params)
    named = None if publisher is None else check_publisher(publisher)
    # 1. validate
    documents, questions = validate_rows(raw, now=now or params.now(), limits=limits)
    # 2. determine who published each document
    claimed = documents.table["source"].to_pylist()
    publishers = publisher_of_each(claimed, named=named, origin=origin, trusted=params.trust_source)
    documents = replace(documents, table=replace_column(documents.table, "source", publishers))
    with store.locked():
        _check_unit(store, unit)
        # 3. reject forgotten documents and floods, then select the new rows
        find = store.find_versions()
        named_alike = sorted(find(documents.table["doc_id"].to_pylist(), ()), key=attrgetter("order"))
        owners = {version.doc_id: version.source for version in reversed(named_alike)}
        documents, questions = own_ids(documents, questions, owners=owners)
        documents, questions = reject_forgotten(documents, questions, Forgotten.read(store.path))
        documents = revise(documents, find) if revise else documents
        documents = without_floods(documents, period=period, limit=params.max_near_duplicates)
        index = store_index(store, find, documents.table, questions.table)
        authority = Authority(params.authority)
        intake = select(documents, questions, unread=raw.rejected, index=index, authority=authority)
        # 4. quarantine rejected rows first, so that an ingest that fails shows why
        rejected = write_quarantine(store.quarantine, name=quarantine, rejected=intake.rejected)
        # 5. write one new slice for each period
        slices = tuple(store.add(*part) for part in split(intake.documents, intake.questions, period=period))
    return IngestReport(
        slices=slices,
        accepted=intake.documents.num_rows,
        versions=intake.versions,
        repeats=intake.repeats,
        duplicates=intake.duplicates,
        questions=intake.questions.num_rows,
        question_duplicates=intake.question_duplicates,
        rejected=intake.rejected,
        quarantine=rejected,
        publisher=named,
        clock=None if params.clock == "system" else params.clock,
    )


def store_index(store: SliceStore, find: Find, documents: pa.Table, questions: pa.Table) -> StoreIndex:
    """What decides which of `documents` and `questions` are new; `find`: `SliceStore.find_versions`."""
    new = in_memory(versions_of(documents))

    def find_all(doc_ids: Collection[str], texts: Collection[str]) -> Iterator[Version]:
        yield from find(doc_ids, texts)
        yield from new(doc_ids, texts)

    # 1. the versions that depend on a row
    named = (documents["doc_id"], documents["supersedes"], questions["doc_id"])
    doc_ids = {name for column in named for name in column.to_pylist() if name}
    versions = [version for version in related(doc_ids, find_all) if version.slice_id != NEW]
    # 2. the records of the documents in the store
    own = set(documents["doc_id"].to_pylist())
    slice_ids = {version.slice_id for version in versions if version.doc_id in own}
    records, known_questions = set[tuple[Any, ...]](), dict[str, str]()
    for slice_ in store.slices():
        if slice_.slice_id in slice_ids:
            stored = rows_with(read_rows(slice_, "documents", columns=RECORD), "doc_id", own)
            records.update(zip(*(stored[name].to_pylist() for name in RECORD), strict=True))
        asked = read_rows(slice_, "questions", columns=("question_id", "question"))
        asked = rows_with(asked, "question_id", questions["question_id"])
        known_questions.update(zip(*asked.to_pydict().values(), strict=True))
    return StoreIndex(versions, records, known_questions)


def _check_unit(store: SliceStore, unit: str) -> None:
    """Raise StreamError if the store is cut by another unit than `unit`."""
    for slice_ in store.slices():
        if unit_of(slice_.period) != unit:
            raise StreamError(
                f"{store.path} is cut by {unit_of(slice_.period)}, not by {unit}: "
                "set stream.period back, or name another folder in stream.path"
            )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
