"""Ingest: records of files, folders or other sources → new slices in the store, and the quarantine
of rejected rows.

1. `validate`: each row by itself; it gets its publisher and its date.
2. `identify`, under the lock of the store: each document gets its doc_id for good, and each link
   the doc_id that it means. Forgotten documents are refused.
3. `admit`: near-copies, duplicates and rows that the authority does not allow are refused; the rest
   becomes a slice for each period.

`cmt.sources.sync` changes the dates of its documents between the steps 2 and 3.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from glob import glob
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow as pa

from cmt.common.arrow import rows_of, rows_with
from cmt.common.digests import sha256_hex
from cmt.config import Column, StreamParams
from cmt.errors import StreamError
from cmt.stream._index import SliceIndex
from cmt.stream.admission._forgotten import reject_forgotten, reject_waiting
from cmt.stream.admission._identity import publisher_of, resolve_addresses, split_ids
from cmt.stream.admission._near_copies import excess_near_duplicates
from cmt.stream.admission._revisions import dated_by_change
from cmt.stream.admission._waiting import WaitingRow, by_publisher, read_waiting, write_waiting
from cmt.stream.admission.authority import Authority, check_publisher, is_file
from cmt.stream.admission.intake import IDENTITY, NEW, StoredRows, select, versions_of
from cmt.stream.admission.report import IngestReport, file_publishers, notices
from cmt.stream.columns import Columns, Kind
from cmt.stream.limits import Limits
from cmt.stream.periods import newest_apart, period_unit, split
from cmt.stream.quarantine import write_quarantine
from cmt.stream.readers.detection import records
from cmt.stream.rows import UNPUBLISHED, RawRows, ValidatedRows, collect, concat, validate_rows
from cmt.stream.schema import Checks, Notes, Rejected, one_line
from cmt.stream.slices import Slice
from cmt.stream.store import SliceStore
from cmt.text.date_formats import DateReader
from cmt.text.display import FILE_PREFIX, counted
from cmt.timeline import Version, in_memory, related

log = logging.getLogger(__name__)

_PREVIEWED = 3  # documents of a dry run


@dataclass(frozen=True)
class Options:
    """How an ingest treats its rows."""

    params: StreamParams = field(default_factory=StreamParams)
    now: datetime | None = None  # rows dated after it are rejected; None: the clock of `params`
    publisher: str | None = None  # of all rows, see `publisher_of`
    newest: bool = False
    """Whether the newest documents become a slice of their own, if the last one is large."""
    waits: bool = False
    """Whether rows dated up to AHEAD of the clock wait for a later ingest."""
    dry_run: bool = False  # write nothing


@dataclass(frozen=True)
class Candidates:
    """Valid rows with their publishers and dates, and rejected ones."""

    documents: ValidatedRows
    questions: ValidatedRows
    unread: Sequence[Rejected] = ()  # rejected by the readers
    waiting: Sequence[WaitingRow] = ()  # to wait from now on
    waited: Sequence[WaitingRow] = ()  # that waited before


def source_paths(sources: Sequence[Path | str]) -> list[Path]:
    """The paths of files and folders; a pattern such as `news/*.csv` gives its matches. Raises
    StreamError.
    """
    paths: list[Path] = []
    for source in sources:
        found = (
            [Path(source)]
            if Path(source).exists()
            else [Path(name) for name in sorted(glob(str(source)))]
        )
        if not found and re.search(r"[*?[]", str(source)):
            raise StreamError(f"no file matches {source}")
        paths += found or [Path(source)]  # which does not exist, as its reader says
    return list(dict.fromkeys(paths))


def ingest(
    store: SliceStore,
    path: Path | Sequence[Path],
    *,
    file_format: str | None = None,
    columns: Mapping[Column, str] | None = None,
    published_at: str | None = None,
    options: Options | None = None,
) -> IngestReport:
    """Read every row of the files and folders `path`, and add the new ones to `store` as slices;
    rejected rows go to the quarantine, and rows dated ahead of the computer's clock wait.

    `columns`: column of the schema → column of the source, in addition to `stream.columns`.
    `published_at`: the date of rows without one. Repeating an ingest adds nothing. Raises
    ConfigError for an unknown format or period, or a bad publisher; StreamError if a path cannot be
    read, if every row is rejected, if the store is damaged or cannot be written, or if another
    process is writing to it.
    """
    # 1. read the files
    options = options or Options()
    options = replace(options, waits=options.params.clock == "system")
    period_unit(options.params.period)
    chosen = {**options.params.columns, **(columns or {})}
    limits, notes = Limits(options.params.model_copy(update={"columns": chosen})), Notes()
    matching = Columns(chosen)
    paths = [path] if isinstance(path, Path) else path
    sources, unread, n_rows = list[tuple[str, RawRows]](), list[Rejected](), 0
    for one in paths:
        read = records(one, format=file_format, limits=limits, notes=notes)
        raw = collect(read, matching, published_at=published_at)
        sources.append((one.resolve().name, raw))
        unread += raw.rejected
        n_rows += len(raw.documents) + len(raw.questions)
    name = f"{paths[0]}" + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")
    if not (n_rows or any(row.raw for row in unread)):
        raise _unreadable(name, unread)
    # 2. validate and admit their rows
    digest = sha256_hex(*(raw.digest for _, raw in sources))
    file_name = Path(name).resolve().name.encode("utf-8", "replace")
    short_name = file_name[:100].decode("utf-8", "ignore")  # a file system limits bytes
    quarantine = f"{short_name}-{digest[:16]}.jsonl"
    rows = validate(sources, notes, options)
    with store.opened(read_only=options.dry_run) as index:
        rows = identify(store, index, rows, options)
        report = admit(store, index, rows, matching, notes, quarantine=quarantine, options=options)
    log.info("%s: %s", name, report.summary())  # the other lines of a report may quote rows
    if report.rejected_fraction == 1 and not (report.waiting or options.dry_run):
        raise _nothing_taken(name, report)
    return report


def _unreadable(name: str, unread: Sequence[Rejected]) -> StreamError:
    """The error for files that have neither a row nor a rejected one that the quarantine can show:
    its first reason.
    """
    first = unread[0] if unread else Rejected(name, 1, f"{name} {UNPUBLISHED}")
    place = "" if first.file in first.reason else f"{first.file}:{first.row}: "
    return StreamError(f"{place}{first.reason}")


def _nothing_taken(name: str, report: IngestReport) -> StreamError:
    """The error for files whose rows are all rejected."""
    first = report.rejected[0]
    return StreamError(
        f"{name}: none of its {counted(len(report.rejected), 'row')} can be taken"
        f"{f', see {report.quarantine}' if report.quarantine else ''}; "
        f"the first: {first.file}:{first.row}: {first.reason}"
    )


def validate(sources: Sequence[tuple[str, RawRows]], notes: Notes, options: Options) -> Candidates:
    """The valid rows of `sources`, each with its publisher."""
    named = None if options.publisher is None else check_publisher(options.publisher)
    return _merged([_validated(raw, name, named, notes, options) for name, raw in sources])


def _validated(
    raw: RawRows, origin: str, named: str | None, notes: Notes, options: Options
) -> Candidates:
    params = options.params
    dates = DateReader(ZoneInfo(params.timezone), params.day_first)
    checks = Checks(options.now or params.now(), Limits(params), dates, notes=notes)
    documents, questions = validate_rows(raw, checks)
    # 1. the publishers
    trusted = params.trust_source
    publishers = list[str]()
    for claimed in documents.table["source"].to_pylist():
        publishers.append(publisher_of(claimed, named=named, origin=origin, trusted=trusted))
    documents = documents.with_column("source", publishers)
    if not options.waits:
        return Candidates(documents, questions, raw.rejected)
    # 2. the rows that wait
    waiting, kept, unnoted = (
        list[WaitingRow](),
        list[ValidatedRows](),
        replace(checks, notes=Notes()),
    )
    parts: tuple[tuple[Kind, ValidatedRows], ...] = (
        ("document", documents),
        ("question", questions),
    )
    for kind, part in parts:
        rejected = list[Rejected]()
        for row in part.rejected:
            if row.early is None:
                rejected.append(row)
                continue
            claimed = one_line(row.early, "source", unnoted)
            who = publisher_of(claimed, named=named, origin=origin, trusted=trusted)
            waiting.append(WaitingRow(kind, who, row.file, row.row, row.early))
        kept.append(replace(part, rejected=rejected))
    return Candidates(kept[0], kept[1], raw.rejected, waiting)


def _merged(parts: Sequence[Candidates]) -> Candidates:
    """The rows of all `parts`, at least one."""
    if len(parts) == 1:
        return parts[0]
    unread, waiting = list[Rejected](), list[WaitingRow]()
    for part in parts:
        unread += part.unread
        waiting += part.waiting
    documents = concat([part.documents for part in parts])
    return Candidates(documents, concat([part.questions for part in parts]), unread, waiting)


def identify(
    store: SliceStore, index: SliceIndex, rows: Candidates, options: Options
) -> Candidates:
    """`rows` and those that waited, with the ids by which the store knows them, without forgotten
    documents. Raises StreamError if the store is cut by another period.
    """
    # 1. the rows that waited for their date
    unit = period_unit(options.params.period)
    for other_unit in index.units() - {unit}:
        raise StreamError(
            f"{store.path} is cut by {other_unit}, not by {unit}: set stream.period back, or name "
            "another folder in stream.path"
        )
    waited = read_waiting(store.quarantine) if options.waits else []
    if waited:
        groups = by_publisher(waited)
        before = [_validated(raw, who, who, Notes(), options) for who, raw in groups]
        rows = _merged([rows, *before])
    # 2. the ids
    documents, questions = split_ids(rows.documents, rows.questions, index.find)
    documents, questions = resolve_addresses(documents, questions, index.find)
    # 3. the dates of texts that were changed in place
    dates = DateReader(ZoneInfo(options.params.timezone), options.params.day_first)
    now = options.now or options.params.now()
    documents = dated_by_change(documents, index.find, dates=dates, now=now)
    # 4. forgotten documents
    forgotten, unread, waiting = index.forgotten, [*rows.unread], [*rows.waiting]
    if forgotten.doc_ids:
        documents, questions = reject_forgotten(documents, questions, forgotten)
        unread = [forgotten.conceal(row) for row in unread]
    if waiting:
        each_once = {row.line: row for row in waiting}
        waiting, refused = reject_waiting(each_once.values(), forgotten)
        unread = [*refused, *unread]
    return Candidates(documents, questions, unread, waiting, waited)


def admit(
    store: SliceStore,
    index: SliceIndex,
    rows: Candidates,
    columns: Columns,
    notes: Notes,
    *,
    quarantine: str,
    options: Options,
) -> IngestReport:
    """Add the rows that are new and allowed as slices, and write the others to the quarantine.

    `columns`, `notes`: what matched the rows and what the readers noted, for the report.
    `quarantine`: the name of the file of rejected rows.
    """
    # 1. select the rows
    params, dry_run = options.params, options.dry_run
    excess = excess_near_duplicates(
        rows.documents.table, period=params.period, limit=params.max_near_duplicates
    )
    documents = rows.documents.without(excess)
    stored = stored_rows(index, documents.table, rows.questions.table)
    intake = select(
        documents,
        rows.questions,
        unread=rows.unread,
        stored=stored,
        authority=Authority(params.authority),
    )
    files = index.publishers(FILE_PREFIX)
    parts = list(split(intake.documents, intake.questions, period=params.period))
    parts = newest_apart(parts) if options.newest else parts
    # 2. quarantine rejected rows first, so that an ingest that fails shows why; then write a slice
    #    for each period
    rejected_file, slices = None, list[Slice]()
    if not dry_run:
        rejected_file = write_quarantine(
            store.quarantine, name=quarantine, rejected=intake.rejected
        )
        if rows.waiting != rows.waited:
            write_waiting(store.quarantine, [*rows.waited, *rows.waiting])
        slices = [index.add(*part) for part in parts]
        if rows.waiting != rows.waited:
            write_waiting(store.quarantine, rows.waiting)
    # 3. report
    lines = [*notices(documents, intake, columns, notes, waiting=len(rows.waiting))]
    if added_files := {*filter(is_file, intake.documents["source"].to_pylist())}:
        lines += file_publishers(added_files, files | added_files)
    return IngestReport(
        slices=tuple(slices),
        accepted=intake.documents.num_rows,
        versions=intake.versions,
        repeats=intake.repeats,
        duplicates=intake.duplicates,
        questions=intake.questions.num_rows,
        question_duplicates=intake.question_duplicates,
        rejected=intake.rejected,
        quarantine=rejected_file,
        clock=None if params.clock == "system" else params.clock,
        waiting=len(rows.waiting),
        matched=columns.matched(notes),
        columns=columns.chosen(),
        files=tuple((name, *read) for name, read in notes.files.items()) if dry_run else (),
        notices=tuple(lines),
        parts=tuple((label, part.num_rows, asked.num_rows) for label, part, asked in parts),
        preview=tuple(intake.documents.slice(0, _PREVIEWED).to_pylist()) if dry_run else (),
        dry_run=dry_run,
    )


def stored_rows(index: SliceIndex, documents: pa.Table, questions: pa.Table) -> StoredRows:
    """The rows of the store that decide which of `documents` and `questions` are new."""
    # 1. the versions that depend on a row
    find_new = in_memory(versions_of(documents))
    named = (documents["doc_id"], documents["supersedes"], questions["doc_id"])
    doc_ids = {name for column in named for name in column.to_pylist() if name}
    versions = list[Version]()
    for version in related(doc_ids, lambda *keys: (*index.find(*keys), *find_new(*keys))):
        if version.slice_id != NEW:
            versions.append(version)
    # 2. the rows of the store that a duplicate would equal
    stored = StoredRows(versions)
    new_ids, asked = set(documents["doc_id"].to_pylist()), questions["question_id"].to_pylist()
    slice_ids = {version.slice_id for version in versions if version.doc_id in new_ids}
    for table in index.read(slice_ids, "documents", IDENTITY):
        stored.documents.update(rows_of(rows_with(table, "doc_id", new_ids), *IDENTITY))
    for table in index.read(index.slices_asking(asked), "questions", ("question_id", "question")):
        same = rows_with(table, "question_id", asked)
        stored.questions.update(rows_of(same, "question_id", "question"))
    return stored
