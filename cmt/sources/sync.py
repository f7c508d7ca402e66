"""Synchronise the stream with a source: new items are ingested, changed ones become corrections or
new versions, and vanished ones stay, expire or are forgotten.

Each batch is fetched, then ingested, then recorded. After a kill in between, the next sync repeats
the batch, and its documents are duplicates. Items are compared by their fingerprints, so neither
the clock nor the order of a listing matters.
"""

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import chain
from operator import attrgetter
from pathlib import Path

from cmt.common.digests import sha256_hex
from cmt.common.progress import NullProgress, Progress
from cmt.common.secrets import mask_secrets
from cmt.config import SourceParams, StreamParams
from cmt.errors import CmtError, StreamError
from cmt.sources._state import Entry, SourceState
from cmt.sources.connector import Connector, Item, Unchanged
from cmt.stream.admission.ingest import Options, admit, identify, validate
from cmt.stream.admission.report import IngestReport
from cmt.stream.columns import MODIFIED_AT, Columns, Record
from cmt.stream.limits import LONGEST
from cmt.stream.quarantine import read_lines, write_quarantine
from cmt.stream.rows import RawRow, RawRows, ValidatedRows, collect
from cmt.stream.schema import Notes, Rejected, is_blank
from cmt.stream.slices import read_rows
from cmt.stream.store import SliceStore
from cmt.timeline import Version

log = logging.getLogger(__name__)

_BATCH_ROWS, _BATCH_CHARACTERS = (
    10_000,
    50_000_000,
)  # after either of them a batch is ingested and recorded
STALLED = 900.0  # seconds without an item after which the others are left to the next sync
_PROBLEMS = 20  # that a report has in words
_WITHDRAWN_ROWS = "withdrawn documents"  # in place of the key of an item

DocIds = Mapping[str, tuple[str, ...]]  # key of an item → its documents
Place = tuple[str, int]  # file and number of a row; the file is the key of an item


class VanishedError(StreamError):
    """More of a source vanished than `max_vanished` allows."""


@dataclass
class SyncReport:
    """What a sync found and did."""

    source: str
    dry_run: bool = False
    listed: int = 0
    new: int = 0
    changed: int = 0  # number of items with another fingerprint, or that are read again
    vanished: int = 0
    documents: int = 0
    versions: int = 0
    undated: int = 0  # number of documents that got the date of their item, such as of a file
    expired: int = 0
    forgotten: int = 0
    refused: int = 0  # number of rows in the quarantine, of items that were read now
    failed: int = 0
    slices: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)  # the first of them, a line each
    quarantine: Path | None = None

    def summary(self) -> str:
        """The result in one line."""
        parts = (
            f"{count:,} {name.removesuffix('s') if count == 1 else name}"
            for name, count in self.counts().items()
            if count
        )
        return ", ".join(parts) or "nothing there"

    def counts(self) -> dict[str, int]:
        """Its counts by name, in the order of a table."""
        return {name: value for name, value in vars(self).items() if type(value) is int}

    def add(self, taken: IngestReport, files: Collection[str]) -> None:
        """Add the slices of an ingest, and its refused rows of `files`."""
        self.slices += [slice_.slice_id for slice_ in taken.slices]
        self.quarantine = taken.quarantine
        for row in taken.rejected:
            if row.file in files:
                self.refused += 1
                named = row.reason.startswith((f"{row.file} ", f"{row.file}:", f"{row.file}/"))
                self.add_problem(row.reason if named else f"{row.file}:{row.row}: {row.reason}")

    def add_problem(self, line: str) -> None:
        """Add a line, unless there are enough."""
        if len(self.problems) < _PROBLEMS:
            self.problems.append(line)


@dataclass(frozen=True)
class Sync:
    """The stream and one source."""

    source: SourceParams
    connector: Connector
    store: SliceStore
    folder: Path
    stream: StreamParams
    forget: Callable[[Collection[str]], object]
    conceal: Callable[[str], str] = mask_secrets  # hides credentials in a text that is shown
    settled: Callable[[str, str | None], bool] | None = None
    """settled(key, fingerprint): whether the item is stable enough to sync now; fingerprint None:
    the item vanished. An item that is not stable waits for a later sync.
    """
    # whether the newest documents become a slice of their own, if the last one is large
    newest: bool = False
    siblings: Collection[str] = ()  # names of the other sources with the publisher of this one
    progress: Progress = field(default_factory=NullProgress)

    def run(
        self, *, dry_run: bool = False, everything: bool = False, accept_vanished: bool = False
    ) -> SyncReport:
        """Synchronise; with `dry_run` only compare.

        `everything`: fetch all items, even unchanged ones. `accept_vanished`: continue however much
        vanished. Raises VanishedError if too much vanished, and StreamError if the source cannot be
        listed, or the store not be written.
        """
        with SourceState.locked(self.folder / f"{self.source.name}.parquet") as state:
            report = SyncReport(self.source.name, dry_run)
            # 1. List.
            self._mark_lost(state, everything=everything)
            items = self._list(state)
            for problem in self.connector.problems:
                report.add_problem(self.conceal(problem))
            if items is None:
                report.listed = len(state.entries)
                return report
            # 2. Compare.
            todo, vanished, waiting = self._compare(state, items, report)
            deletes = self.source.on_delete != "keep"
            if deletes and not accept_vanished:
                self._check_vanished("items", len(vanished), len(state.entries))
            if dry_run:
                return report
            # 3. Fetch, ingest and record.
            final = self._take(todo, state, report, vanished)
            # 4. What vanished. To forget is for good, and an item that failed or waits may have the
            #    document.
            uncertain = self.source.on_delete == "forget" and (report.failed or waiting)
            if deletes and (vanished or final) and not uncertain:
                self._remove(vanished, final, state, report, accepted=accept_vanished)
            # 5. Record from where the next listing continues.
            state.cursor = {} if report.failed or report.refused else self.connector.cursor
            state.slices = self.store.digests()
            state.write()
            log.info("source %s: %s", self.source.name, report.summary())
            return report

    def _compare(
        self, state: SourceState, items: Mapping[str, Item], report: SyncReport
    ) -> tuple[list[Item], list[str], int]:
        """The items to fetch, oldest first; the keys that vanished; and the number of items that
        are not settled. Counts them in `report`.
        """
        todo = list[Item]()
        for key, item in items.items():
            known = state.entries.get(key)
            if not (known and item.fingerprint and known.fingerprint == item.fingerprint):
                todo.append(item)
        vanished = list[str]()
        if self.connector.complete:
            vanished = [key for key in state.entries if key not in items]
        different = len(todo) + len(vanished)
        if self.settled:
            todo = [item for item in todo if self.settled(item.key, item.fingerprint)]
            vanished = [key for key in vanished if self.settled(key, None)]
        report.listed, report.vanished = len(items), len(vanished)
        report.new = sum(item.key not in state.entries for item in todo)
        report.changed = len(todo) - report.new
        todo.sort(key=lambda item: (item.order or datetime.min.replace(tzinfo=UTC), item.key))
        return todo, vanished, different - len(todo) - len(vanished)

    def _mark_lost(self, state: SourceState, *, everything: bool) -> None:
        """Mark the items to read again: those whose documents the stream has lost, or
        `everything`.
        """
        if not everything and (not state.entries or self.store.digests().issuperset(state.slices)):
            return
        stored = set(self.store.forgotten())
        for slice_ in self.store.slices():
            stored.update(read_rows(slice_, "documents", columns=("doc_id",))["doc_id"].to_pylist())
        for key, entry in state.entries.items():
            if everything or not stored.issuperset(entry.doc_ids):
                state.entries[key] = entry._replace(fingerprint="")
                state.cursor = {}

    def _list(self, state: SourceState) -> dict[str, Item] | None:
        """The items of the source by their keys; None if nothing has changed."""
        self.progress.stage("list")
        self.connector.cursor = dict(state.cursor)
        try:
            return {item.key: item for item in self.connector.list()}
        except Unchanged:
            return None
        except Exception as error:  # of a connector of another package, too
            raise StreamError(
                self.conceal(f"source {self.source.name} cannot be listed: {_message(error)}")
            ) from error

    def _check_vanished(self, what: str, gone: int, known: int) -> None:
        if gone > self.source.max_vanished * known:
            raise VanishedError(
                f"source {self.source.name}: {gone:,} of {known:,} known {what} vanished, more "
                "than max_vanished "
                f"({self.source.max_vanished:.0%}): the listing may be partial. None of them was "
                "removed; if they are "
                f"gone, run `cmt sync {self.source.name} --accept-vanished`"
            )

    def _take(
        self, todo: list[Item], state: SourceState, report: SyncReport, vanished: list[str]
    ) -> dict[str, Entry]:
        """Take the items `todo`; return the entries that are final once the documents that they
        lost are removed.
        """
        self.progress.stage("fetch", len(todo))
        final, notes = dict[str, Entry](), Notes()
        read = {item.key for item in todo}.union(vanished)
        rejected = [row for row in self._quarantined() if row.file not in read]
        for batch in self._batches(todo, report):
            # 1. Ingest. The quarantine has the refused rows of all items of the source.
            before = {
                item.key: state.entries.get(item.key, Entry()).doc_ids for item in batch.items
            }
            batch.rows.rejected.extend(rejected)
            taken, doc_ids_of = self._ingest(batch, state, notes)
            rejected = list(taken.rejected)
            report.documents += taken.accepted
            report.versions += taken.versions
            report.undated += len(batch.undated)
            report.add(taken, {item.key for item in batch.items})
            # 2. Record.
            final |= self._record(batch.items, state, rejected, before, doc_ids_of)
            state.write()
        write_quarantine(self.store.quarantine, name=self._quarantine, rejected=rejected)
        for change, count in notes.changes.items():
            if "left out" in change:
                report.add_problem(
                    self.conceal(f"{count:,} × {change}, such as {notes.examples[change]}")
                )
        return final

    def _record(
        self,
        items: Sequence[Item],
        state: SourceState,
        rejected: Sequence[Rejected],
        before: DocIds,
        after: DocIds,
    ) -> dict[str, Entry]:
        """Record the documents of items in `state`, given those before and after an ingest; returns
        the entries that are final once the documents that they lost are removed.
        """
        final = dict[str, Entry]()
        refused = {row.file for row in rejected}
        early = {row.file for row in rejected if "is in the future" in row.reason}
        for item in items:
            doc_ids, known = after.get(item.key, ()), before[item.key]
            entry = Entry(item.fingerprint, doc_ids)
            both = entry._replace(doc_ids=_union(known, doc_ids))
            # a document that it lost may be a refused row, or one dated in the future
            if item.key in refused:
                entry = both._replace(fingerprint="") if item.key in early else both
            elif self.source.on_delete != "keep" and not set(doc_ids).issuperset(known):
                final[item.key] = entry
                entry = both._replace(fingerprint="")
            state.entries[item.key] = entry
        return final

    def _batches(self, todo: list[Item], report: SyncReport) -> Iterator["_Batch"]:
        """Fetch the items `todo`. An item that fails is counted in `report` and left out."""
        batch, last = _Batch(), time.monotonic()
        for number, item in enumerate(todo, 1):
            self.progress.advance(1)
            try:
                rows = self._rows(item, self.connector.fetch(item.key), report)
            except Exception as error:  # bad items never stop good ones
                report.failed += 1
                report.add_problem(self.conceal(f"{item.key}: {_message(error)}"))
                if time.monotonic() - last > STALLED:
                    report.failed += len(todo) - number
                    report.add_problem(f"nothing came for {STALLED / 60:g} minutes: given up")
                    break
                continue
            last = time.monotonic()
            if self.connector.dates_changes and item.order:
                rows.documents[:] = [_changed_at(row, item.order) for row in rows.documents]
            batch.add(item, rows, now=self.stream.now())
            if len(batch.rows.documents) >= _BATCH_ROWS or batch.characters >= _BATCH_CHARACTERS:
                yield batch
                batch = _Batch()
        if batch.items:
            yield batch

    def _rows(self, item: Item, records: Iterable[Record], report: SyncReport) -> RawRows:
        """The records of an item with the columns of the schema. The only document of an item is
        named after it.
        """
        numbered = list[Record]()
        for number, one in enumerate(records, 1):
            error = (
                f"{one.where}: {one.error}"
                if one.error and not one.error.startswith(one.where)
                else one.error
            )
            fields = {} if error else one.fields
            numbered.append(
                one._replace(fields=fields, where=f"{item.key} row {number}", error=error)
            )
            for part in one.left_out:
                report.add_problem(
                    self.conceal(f"{item.key}: {part} is not a document and is left out")
                )
        rows = collect(numbered, self._columns)
        if len(rows.documents) == 1:
            own = {"doc_id": f"{self.source.name}/{item.key.lstrip('/')}"}
            if item.key.startswith(("http://", "https://")):
                own = {"doc_id": item.key, "url": item.key}
            if len(own["doc_id"]) > LONGEST["doc_id"]:
                own["doc_id"] = sha256_hex(own["doc_id"])[:16]
            [document] = rows.documents
            values = {name: value for name, value in document.values.items() if not is_blank(value)}
            rows.documents[0] = document._replace(values=own | values)
        return rows

    def _ingest(
        self, batch: "_Batch", state: SourceState, notes: Notes
    ) -> tuple[IngestReport, DocIds]:
        """Ingest a batch, with dates that make each row the current version of its document.

        Returns the report and the documents of each item. `state` gets the documents before they
        are taken or refused, in case their item vanishes after a kill. `notes` counts the values
        left out.
        """
        options = Options(self.stream, publisher=self._publisher, newest=self.newest)
        candidates = validate([(self.source.name, batch.rows)], notes, options)
        with self.store.opened() as index:
            candidates = identify(self.store, index, candidates, options)
            # 1. record the documents
            documents = candidates.documents
            doc_ids = documents.table["doc_id"].to_pylist()
            places = [origin[:2] for origin in documents.origins]
            doc_id_of = dict(zip(places, doc_ids, strict=True))
            coming = _by_file(doc_id_of)
            for item in batch.items:
                known = state.entries.get(item.key, Entry()).doc_ids
                state.entries[item.key] = Entry("", _union(known, coming.get(item.key, ())))
            if batch.items:
                state.write()
            # 2. change their dates
            dates = revised_dates(
                documents, index.find(doc_ids, ()), undated=batch.undated, now=self.stream.now()
            )
            dated = replace(candidates, documents=documents.with_column("published_at", dates))
            # 3. ingest them
            report = admit(
                self.store,
                index,
                dated,
                self._columns,
                notes,
                quarantine=self._quarantine,
                options=options,
            )
            state.slices = index.digests()
        for row in report.rejected:
            doc_id_of.pop((row.file, row.row), None)
        return report, _by_file(doc_id_of)

    def _remove(
        self,
        vanished: list[str],
        final: dict[str, Entry],
        state: SourceState,
        report: SyncReport,
        *,
        accepted: bool,
    ) -> None:
        """Expire or forget the documents of vanished items, and documents that vanished from an
        item.
        """
        # 1. Which.
        listed = {
            key: final.get(key, entry)
            for key, entry in state.entries.items()
            if key not in vanished
        }
        gone = self._gone(state, listed, report)
        if not accepted:
            self._check_vanished("documents", len(gone), len(state.doc_ids))
        # 2. Remove them; a repetition after a kill changes nothing.
        self.progress.stage(self.source.on_delete, len(gone))
        if gone and self.source.on_delete == "forget":
            self.forget(gone)
            report.forgotten = len(gone)
        elif gone:
            now = self.stream.now()
            texts = [
                {"doc_id": name, "published_at": now, "text": withdrawn(name)} for name in gone
            ]
            rows = [
                RawRow(_WITHDRAWN_ROWS, number, values) for number, values in enumerate(texts, 1)
            ]
            undated = {row[:2] for row in rows}  # a repetition keeps the date of the first try
            withdrawals = _Batch(rows=RawRows(rows, rejected=self._quarantined()), undated=undated)
            taken, _ = self._ingest(withdrawals, state, Notes())
            report.add(taken, {_WITHDRAWN_ROWS})
            report.expired = taken.accepted
        # 3. Record.
        state.entries = listed

    def _gone(self, state: SourceState, listed: dict[str, Entry], report: SyncReport) -> list[str]:
        """Return the vanished documents of `state`: no item in `listed` and no sibling has them or
        their texts.

        An item that has the text of an unlisted document, such as a renamed file, takes over its
        doc_id, so that both ids are removed together.
        """
        # 1. The documents that no item has.
        siblings = [
            SourceState.read(self.folder / f"{name}.parquet").doc_ids for name in self.siblings
        ]
        elsewhere = set[str]().union(*siblings)
        unlisted = state.doc_ids.difference(
            elsewhere, *(entry.doc_ids for entry in listed.values())
        )
        # 2. Their texts, and the items and siblings that have these texts.
        versions = sorted(self.store.related(unlisted), key=attrgetter("order"))
        texts = {
            one.doc_id: one.sha256
            for one in versions
            if one.source == self._publisher and one.banked
        }
        keys = {texts.get(doc_id): key for key, entry in listed.items() for doc_id in entry.doc_ids}
        texts_elsewhere = {texts.get(doc_id) for doc_id in elsewhere}
        # 3. A document without a version of this publisher is of another one.
        gone = list[str]()
        for doc_id in sorted(unlisted & texts.keys()):
            if key := keys.get(texts[doc_id]):
                listed[key] = listed[key]._replace(doc_ids=_union(listed[key].doc_ids, (doc_id,)))
            elif texts[doc_id] in texts_elsewhere:
                why = "another source of its publisher has the same text under another doc_id"
                report.add_problem(
                    f"{doc_id} is kept, because {why}; to remove the text, run cmt forget {doc_id}"
                )
            else:
                gone.append(doc_id)
        return gone

    @cached_property
    def _columns(self) -> Columns:
        used = (self.source.key, self.source.updated_at)
        return Columns({**self.stream.columns, **self.source.columns}, used=used)

    @property
    def _publisher(self) -> str:
        return self.source.publisher or self.source.name

    @property
    def _quarantine(self) -> str:
        return f"source-{self.source.name}.jsonl"

    def _quarantined(self) -> list[Rejected]:
        path = self.store.quarantine / self._quarantine
        return read_lines(path, Rejected, remedy="delete it; `cmt sync --all` writes it again")


@dataclass
class _Batch:
    """Items that were fetched, and their rows."""

    items: list[Item] = field(default_factory=list)
    rows: RawRows = field(default_factory=RawRows)
    undated: set[Place] = field(
        default_factory=set
    )  # the documents that got the date of their item
    characters: int = 0

    def add(self, item: Item, rows: RawRows, *, now: datetime) -> None:
        """Add an item. A document without a date gets the date of the item, or `now`."""
        self.items.append(item)
        for row in rows.documents:
            if is_blank(row.values.get("published_at")):
                self.undated.add(row[:2])
                row = row._replace(
                    values={**row.values, "published_at": min(item.order or now, now)}
                )
            self.rows.documents.append(row)
            self.characters += len(str(row.values.get("text", "")))
        self.rows.questions.extend(rows.questions)
        self.rows.rejected.extend(rows.rejected)


def revised_dates(
    documents: ValidatedRows,
    stored: Iterable[Version],
    *,
    undated: Collection[Place],
    now: datetime,
) -> list[datetime]:
    """The dates of `documents` with which the latest row of each document becomes its current
    version.

    - The text of the latest version in the stream keeps the date of that version, if its own date
      is older or is only the date of its item.
    - Another text with an older date than the latest one holds from `now` on.
    - Any other row keeps its own date: with a later one it is a new version, with the same one a
      correction.
    - A row that equals an earlier version in text and date is dated just after the latest version,
      so that the earlier text holds again.
    """
    dates: list[datetime] = documents.table["published_at"].to_pylist()
    hashes = documents.table["sha256"].to_pylist()
    stored = sorted(stored, key=attrgetter("order"))
    known = {(version.doc_id, version.published_at, version.sha256) for version in stored}
    latest = {version.doc_id: version for version in stored if version.banked}
    doc_ids = documents.table["doc_id"].to_pylist()
    last_rows = {doc_ids[row]: row for row in sorted(range(len(doc_ids)), key=dates.__getitem__)}
    for doc_id in last_rows.keys() & latest.keys():
        row, version = last_rows[doc_id], latest[doc_id]
        older = dates[row] < version.published_at
        if version.sha256 == hashes[row] and (older or documents.origins[row][:2] in undated):
            dates[row] = version.published_at
        elif older:
            dates[row] = max(now, version.published_at)
        if version.sha256 != hashes[row] and (doc_id, dates[row], hashes[row]) in known:
            dates[row] = version.published_at + timedelta(microseconds=1)
    return dates


def _changed_at(row: RawRow, date: datetime) -> RawRow:
    """`row` with the date of its change, unless it states one."""
    return row._replace(values={MODIFIED_AT: date, **row.values})


def withdrawn(doc_id: str) -> str:
    """The text of a document's last version, from the moment its source no longer lists it."""
    return f"The document {doc_id} was withdrawn by its source."


def _by_file(found: Mapping[Place, str]) -> DocIds:
    files = defaultdict[str, list[str]](list)
    for (file, _), doc_id in found.items():
        files[file].append(doc_id)
    return {file: _union(doc_ids) for file, doc_ids in files.items()}


def _union(*parts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(chain(*parts)))


def _message(error: Exception) -> str:
    return str(error) if isinstance(error, CmtError) else f"{type(error).__name__}: {error}"
