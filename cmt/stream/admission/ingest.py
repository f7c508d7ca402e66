"""Ingest: records of files, folders or other sources → new slices in the store, and the quarantine
of rejected rows.
"""

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from glob import glob
from operator import attrgetter
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc

from cmt.common.arrow import rows_of, rows_with
from cmt.common.digests import sha256_hex
from cmt.config import Column, StreamParams
from cmt.errors import StreamError
from cmt.stream.admission.authority import Authority, check_publisher, publisher_of
from cmt.stream.admission.forgotten import Forgotten, reject_forgotten, reject_waiting
from cmt.stream.admission.intake import (
    IDENTITY,
    NEW,
    Intake,
    StoreIndex,
    resolve_addresses,
    select,
    split_ids,
    versions_of,
)
from cmt.stream.admission.near_copies import excess_near_duplicates
from cmt.stream.admission.waiting import WaitingRow, by_publisher, read_waiting, write_waiting
from cmt.stream.columns import Columns, Kind
from cmt.stream.languages import SAMPLE, language_notice
from cmt.stream.limits import Limits
from cmt.stream.periods import newest_apart, period_unit, split, unit_of
from cmt.stream.quarantine import write_quarantine
from cmt.stream.readers import records
from cmt.stream.readers.squad import RELEASED_AT
from cmt.stream.rows import UNPUBLISHED, RawRows, ValidatedRows, collect, concat, validate_rows
from cmt.stream.schema import Checks, Notes, Rejected, one_line
from cmt.stream.store import Slice, SliceStore, read_rows
from cmt.text.date_formats import DateReader
from cmt.text.display import counted
from cmt.text.shingles import shingles, words
from cmt.timeline import Find, in_memory, related

log = logging.getLogger(__name__)

_PREVIEWED = 3  # documents of a dry run
_MOST_COMPARED = 1_000  # pairs of texts that tell whether ids are row numbers
_QUOTED = r"""(?<!\w)'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
_VALUES = re.compile(rf"""{_QUOTED}|\{{.*\}}|\[.*\]|\d(?:[\d,.:TZ+-]*[\dZ])?""")
"""The values in a reason; reasons of one kind differ only in them."""


@dataclass(frozen=True)
class IngestReport:
    """Result of one ingest, counted as in `Intake`."""

    slices: tuple[Slice, ...]
    accepted: int
    versions: int
    repeats: int
    duplicates: int
    questions: int
    question_duplicates: int
    rejected: tuple[Rejected, ...]
    quarantine: Path | None  # the file with the rejected rows; None if no row was rejected
    clock: (
        str | None
    )  # the instant at which `stream.clock` is fixed; None if the computer's clock counts
    waiting: int = 0
    # the columns that were matched and the forms of their dates; blank for those of the schema
    matched: str = ""
    columns: Mapping[Column, str] = field(default_factory=dict)
    files: tuple[tuple[str, str, str], ...] = ()
    """Of a dry run, name, format and encoding of each file; a blank encoding is declared by the
    file itself.
    """
    notices: tuple[str, ...] = ()
    parts: tuple[
        tuple[str, int, int], ...
    ] = ()  # period, documents, questions of each slice, also of a dry run
    preview: tuple[Mapping[str, Any], ...] = ()
    dry_run: bool = False

    def summary(self) -> str:
        """The result in one line."""
        documents = counted(self.accepted, "document")
        questions = counted(self.questions, "question")
        kinds = [
            counted(n, noun)
            for n, noun in ((self.versions, "new version"), (self.repeats, "repeat"))
            if n
        ]
        notes = f" ({', '.join(kinds)})" if kinds else ""
        taken = "would be taken" if self.dry_run else "taken"
        new = f"{documents}{notes} and {questions} {taken} into {counted(len(self.parts), 'slice')}"
        documents = counted(self.duplicates, "document")
        questions = counted(self.question_duplicates, "question")
        rejected = f"; {counted(len(self.rejected), 'row')} rejected" if self.rejected else ""
        rejected += f", see {self.quarantine}" if self.quarantine else ""
        return f"{new if self.parts else 'nothing new'}; {documents} and {questions} already there{rejected}"

    @property
    def rejected_fraction(self) -> float:
        """Rejected rows ÷ all rows, 0–1."""
        rows = (
            self.accepted
            + self.duplicates
            + self.questions
            + self.question_duplicates
            + len(self.rejected)
        )
        return len(self.rejected) / rows if rows else 0.0

    def first_reasons(self, limit: int) -> list[str]:
        """A line for each of the `limit` commonest kinds of reason."""
        return [
            f"{row.file}:{row.row}: {row.reason}"
            + (f" (and {count - 1:,} more)" if count > 1 else "")
            for _, count, row in self.reasons()[:limit]
        ]

    def reasons(self) -> list[tuple[str, int, Rejected]]:
        """Each kind of reason, its values left out, with its number of rows and its first row; the
        commonest first.
        """
        first = {without_values(row.reason): row for row in reversed(self.rejected)}
        counts = Counter(without_values(row.reason) for row in self.rejected)
        return [(kind, count, first[kind]) for kind, count in counts.most_common()]


def without_values(reason: str) -> str:
    """`reason` without quoted text, lists and numbers, for places where a purge does not look for
    texts.
    """
    return _VALUES.sub("…", reason)


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
    now: datetime | None = None,
    publisher: str | None = None,
    params: StreamParams | None = None,
    columns: Mapping[Column, str] | None = None,
    published_at: str | None = None,
    dry_run: bool = False,
    newest: bool = False,
) -> IngestReport:
    """Read every row of the files and folders `path`, and ingest them as `ingest_rows` does.

    `columns`: column of the schema → column of the source, beside `params.columns`. `published_at`:
    the date of rows without one. `newest`: see `ingest_rows`. Repeating an ingest adds nothing.
    Raises ConfigError for an unknown format or period, or a bad `publisher`; StreamError if a path
    cannot be read, if every row is rejected, if the store is damaged or cannot be written, or if
    another process is writing to it.
    """
    params = params or StreamParams()
    paths = [path] if isinstance(path, Path) else path
    notes = Notes()
    period_unit(params.period)
    limits, matching, sources = Limits(params), Columns({**params.columns, **(columns or {})}), []
    for one in paths:
        found = records(one, format=file_format, limits=limits, notes=notes)
        sources.append((one.resolve().name, collect(found, matching, published_at=published_at)))
    name = f"{paths[0]}" + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")
    unread = [row for _, raw in sources for row in raw.rejected]
    if not any(raw.documents or raw.questions for _, raw in sources) and not any(
        row.raw for row in unread
    ):
        first = unread[0] if unread else Rejected(name, 1, f"{name} {UNPUBLISHED}")
        raise StreamError(
            first.reason
            if first.file in first.reason
            else f"{first.file}:{first.row}: {first.reason}"
        )
    digest = sha256_hex(*(raw.digest for _, raw in sources))
    file_name = Path(name).resolve().name.encode("utf-8", "replace")
    report = ingest_rows(
        store,
        sources,
        # a file system limits bytes
        quarantine=f"{file_name[:100].decode('utf-8', 'ignore')}-{digest[:16]}.jsonl",
        columns=matching,
        notes=notes,
        params=params,
        now=now,
        publisher=publisher,
        wait=True,
        dry_run=dry_run,
        newest=newest,
    )
    log.info("%s: %s", name, report.summary())  # the other lines of a report may quote rows
    if report.rejected_fraction == 1 and not (report.waiting or dry_run):
        first = report.rejected[0]
        raise StreamError(
            f"{name}: none of its {counted(len(report.rejected), 'row')} can be taken"
            f"{f', see {report.quarantine}' if report.quarantine else ''}; "
            f"the first: {first.file}:{first.row}: {first.reason}"
        )
    return report


def ingest_rows(
    store: SliceStore,
    sources: Sequence[tuple[str, RawRows]],
    *,
    quarantine: str,
    columns: Columns,
    notes: Notes,
    params: StreamParams,
    now: datetime | None = None,
    publisher: str | None = None,
    revise: Callable[[ValidatedRows, Find], ValidatedRows] | None = None,
    wait: bool = False,
    dry_run: bool = False,
    newest: bool = False,
) -> IngestReport:
    """Validate rows, quarantine rejected ones, and add new ones to `store` as slices; all may be
    rejected.

    `sources`: each file or source with its rows. Rows dated after `now` (default: the clock of
    `params`) are rejected; with `wait` those up to AHEAD of the computer's clock wait for a later
    ingest. `publisher`: see `publisher_of`. `quarantine`: the name of the file of rejected rows.
    `columns`, `notes`: what matched the rows and what the readers noted, for the report. `revise`:
    changes the valid documents, given what the store has. `newest`: the newest documents become a
    slice of their own, if the last one is large. A dry run writes nothing.
    """
    unit = period_unit(params.period)
    named = None if publisher is None else check_publisher(publisher)
    dates = DateReader(ZoneInfo(params.timezone), params.day_first)
    checks = Checks(now or params.now(), Limits(params), dates, notes=notes)
    # 1. validate, and determine who published each document
    wait = wait and params.clock == "system"
    rows = [
        _validated(one, checks, publisher=named, origin=name, params=params, wait=wait)
        for name, one in sources
    ]
    with nullcontext() if dry_run and not store.path.exists() else store.locked():
        for other in {unit_of(slice_.period) for slice_ in store.slices()} - {unit}:
            raise StreamError(
                f"{store.path} is cut by {other}, not by {unit}: set stream.period back, or name another folder in "
                "stream.path"
            )
        # 2. rows that waited, and rows that wait from now on
        waited = read_waiting(store.quarantine) if wait else []
        unnoted = replace(checks, notes=Notes())
        rows += [
            _validated(one, unnoted, publisher=who, origin=who, params=params, wait=True)
            for who, one in by_publisher(waited)
        ]
        forgotten = Forgotten.read(store.path)
        early = {row.line: row for _, _, part in rows for row in part}
        waiting, unread = reject_waiting(early.values(), forgotten)
        documents = concat([part[0] for part in rows])
        questions = concat([part[1] for part in rows])
        # 3. reject forgotten documents and floods, then select the new rows
        find = store.find_versions()
        named_alike = sorted(
            find(documents.table["doc_id"].to_pylist(), ()), key=attrgetter("order")
        )
        owners = {version.doc_id: version.source for version in reversed(named_alike)}
        documents, questions = split_ids(documents, questions, owners=owners)
        documents, questions = resolve_addresses(documents, questions, find)
        documents, questions = reject_forgotten(documents, questions, forgotten)
        documents = revise(documents, find) if revise else documents
        excess = excess_near_duplicates(
            documents.table, period=params.period, limit=params.max_near_duplicates
        )
        documents = documents.without(excess)
        index = store_index(store, find, documents.table, questions.table)
        unread += [forgotten.conceal(row) for _, one in sources for row in one.rejected]
        intake = select(
            documents, questions, unread=unread, index=index, authority=Authority(params.authority)
        )
        parts = list(split(intake.documents, intake.questions, period=params.period))
        parts = newest_apart(parts) if newest else parts
        # 4. quarantine rejected rows first, so that an ingest that fails shows why; then write a
        #    slice for each period
        rejected_file, slices = None, list[Slice]()
        if not dry_run:
            rejected_file = write_quarantine(
                store.quarantine, name=quarantine, rejected=intake.rejected
            )
            if waiting != waited:
                write_waiting(store.quarantine, [*waited, *waiting])
            slices = [store.add(*part) for part in parts]
            if waiting != waited:
                write_waiting(store.quarantine, waiting)
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
        waiting=len(waiting),
        matched=columns.matched(notes),
        columns=columns.chosen(),
        files=tuple((name, *read) for name, read in notes.files.items()) if dry_run else (),
        notices=tuple(_notices(documents, intake, columns, notes, waiting=len(waiting))),
        parts=tuple((label, part.num_rows, asked.num_rows) for label, part, asked in parts),
        preview=tuple(intake.documents.slice(0, _PREVIEWED).to_pylist()) if dry_run else (),
        dry_run=dry_run,
    )


def _validated(
    raw: RawRows,
    checks: Checks,
    *,
    publisher: str | None,
    origin: str,
    params: StreamParams,
    wait: bool,
) -> tuple[ValidatedRows, ValidatedRows, list[WaitingRow]]:
    """The valid documents with their publishers, the valid questions, and with `wait` the rows that
    wait.
    """
    # 1. the publishers
    documents, questions = validate_rows(raw, checks)
    published_by = partial(
        publisher_of, named=publisher, origin=origin, trusted=params.trust_source
    )
    publishers = [published_by(claimed) for claimed in documents.table["source"].to_pylist()]
    documents = documents.with_column("source", publishers)
    # 2. the rows that wait
    waiting = list[WaitingRow]()
    parts: dict[Kind, ValidatedRows] = {"document": documents, "question": questions}
    for kind, part in parts.items() if wait else ():
        for row in part.rejected:
            if row.early is not None:
                claim = one_line(row.early, "source", replace(checks, notes=Notes()))
                waiting.append(WaitingRow(kind, published_by(claim), row.file, row.row, row.early))
        parts[kind] = replace(part, rejected=[row for row in part.rejected if row.early is None])
    return parts["document"], parts["question"], waiting


def _notices(
    documents: ValidatedRows, intake: Intake, columns: Columns, notes: Notes, *, waiting: int
) -> Iterator[str]:
    odd = [
        f"{name} ({encoding})"
        for name, (_, encoding) in notes.files.items()
        if encoding not in ("", "utf-8")
    ]
    if odd:
        yield f"not UTF-8: {', '.join(odd[:_PREVIEWED])}" + (
            f" and {len(odd) - 3:,} more" if len(odd) > 3 else ""
        )
    yield from columns.notices(notes)
    if undated := pc.sum(pc.equal(intake.documents["published_at"], RELEASED_AT)).as_py():
        yield f"{counted(undated, 'document')} of SQuAD without a date, dated {RELEASED_AT.date()}: see --published-at"
    if intake.dangling:
        doc_id, target = intake.dangling[0]
        links = (
            "link of supersedes leads" if len(intake.dangling) == 1 else "links of supersedes lead"
        )
        yield f"{len(intake.dangling):,} {links} to no document, such as {target!r} in {doc_id!r}"
    if waiting:
        yield f"{counted(waiting, 'row')} dated ahead of the clock: a later ingest takes them when their time has come"
    texts = intake.documents["text"]
    sample = [texts[row].as_py() for row in range(0, len(texts), len(texts) // SAMPLE + 1)]
    if notice := language_notice(sample, sampled=len(texts) > SAMPLE):
        yield notice
    yield from _shared_ids(documents)


def _shared_ids(documents: ValidatedRows) -> Iterator[str]:
    """A notice if two files name texts without a common run of words by one doc_id, such as the
    number of a row.
    """
    first, compared = dict[str, tuple[str, str]](), 0
    for origin, (doc_id, text) in zip(
        documents.origins, rows_of(documents.table, "doc_id", "text"), strict=True
    ):
        file, other = first.setdefault(doc_id, (origin.file, text))
        if file == origin.file or text == other:
            continue
        compared += 1
        if different := shingles(words(text)).isdisjoint(shingles(words(other))):
            yield (
                f"doc_ids with different texts in several files, such as {doc_id!r} in {file} and {origin.file}: each "
                "text replaces the one before it; if the ids are row numbers, leave them out with --map doc_id="
            )
        if different or compared == _MOST_COMPARED:
            return


def store_index(
    store: SliceStore, find: Find, documents: pa.Table, questions: pa.Table
) -> StoreIndex:
    """The rows of `store` that decide which of `documents` and `questions` are new."""
    # 1. the versions that depend on a row
    new = in_memory(versions_of(documents))
    named = (documents["doc_id"], documents["supersedes"], questions["doc_id"])
    doc_ids = {name for column in named for name in column.to_pylist() if name}
    found = related(doc_ids, lambda names, texts: (*find(names, texts), *new(names, texts)))
    versions = [version for version in found if version.slice_id != NEW]
    # 2. the rows of the store that a duplicate would equal
    own = set(documents["doc_id"].to_pylist())
    slice_ids = {version.slice_id for version in versions if version.doc_id in own}
    known_documents, known_questions = set[tuple[Any, ...]](), dict[str, str]()
    for slice_ in store.slices():
        if slice_.slice_id in slice_ids:
            stored = rows_with(read_rows(slice_, "documents", columns=IDENTITY), "doc_id", own)
            known_documents.update(rows_of(stored, *IDENTITY))
        asked = read_rows(slice_, "questions", columns=("question_id", "question"))
        asked = rows_with(asked, "question_id", questions["question_id"])
        known_questions.update(rows_of(asked, "question_id", "question"))
    return StoreIndex(versions, known_documents, known_questions)
