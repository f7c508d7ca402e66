"""The slice store: what each ingest accepted for each period, immutable and in time order.

`<store>/<period>/<seq>.documents.parquet` and `.questions.parquet` hold the rows; the manifest `<seq>.json`, written
last, makes the slice exist. A document belongs to the period in which it was published, a question to the one in which
it was asked. With a number of documents as period (`every-100`) a question goes with its document.
"""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path

import filelock
import pyarrow as pa

from cmt.common.storage import write_bytes, write_table
from cmt.errors import StreamError
from cmt.stream import readers
from cmt.stream.ingest import Known, check, select
from cmt.stream.periods import period_unit, split, unit_of
from cmt.stream.schema import DOCUMENT_SCHEMA, QUESTION_SCHEMA, Rejected
from cmt.stream.storage import read_table, rows_digest, write_quarantine

log = logging.getLogger(__name__)

FORGOTTEN = "forgotten.json"


@dataclass(frozen=True)
class Slice:
    """The documents and questions that one ingest accepted for one period."""

    slice_id: str
    """`<period>/<seq>`, as 2031-01/0001."""
    period: str
    seq: int
    digest: str
    """sha256 over the sorted rows, not over the files."""
    n_documents: int
    n_questions: int
    path: Path
    """The manifest; the two tables lie beside it."""


@dataclass(frozen=True)
class IngestReport:
    """What became of the rows of one source."""

    slices: tuple[Slice, ...]
    """The new ones."""
    accepted: int
    duplicates: int
    questions: int
    question_duplicates: int
    rejected: tuple[Rejected, ...]
    quarantine: Path | None
    """The file with the rejected rows; None when there are none."""

    def summary(self) -> str:
        """One line for people."""
        again = (
            f"{_count(self.duplicates, 'document')} and {_count(self.question_duplicates, 'question')} already there"
        )
        new = f"{_count(self.accepted, 'document')} and {_count(self.questions, 'question')} taken"
        into = f"{new} into {_count(len(self.slices), 'slice')}" if self.slices else "nothing new"
        rejected = f"; {_count(len(self.rejected), 'row')} rejected, see {self.quarantine}" if self.rejected else ""
        return f"{into}; {again}{rejected}"


@dataclass(frozen=True)
class SliceStore:
    """A folder of slices, and the folder in which rejected rows are kept."""

    path: Path
    quarantine: Path
    lock_timeout: float = 10.0
    """Seconds to wait for another process that is writing."""

    def ingest(self, *, source: Path, format: str, period: str | int, now: datetime | None = None) -> IngestReport:
        """Check every row of `source`, quarantine the bad ones, and add what is new as slices.

        `now` (default: the system's clock) is the instant after which a date is in the future. Ingesting a source again
        adds nothing. StreamError when the source is unreadable as a whole or has no good row, when the store is damaged
        or cannot be written, or when another process holds it.
        """
        unit = period_unit(period)
        raw = readers.read(source, format)
        documents, questions = check(raw, now=now or datetime.now(UTC))
        with self._writing():
            new = select(documents, questions, unread=raw.rejected, known=self._known(unit))
            name = f"{source.resolve().name[:100]}-{raw.digest[:16]}.jsonl"
            quarantined = write_quarantine(self.quarantine, name=name, rejected=new.rejected)
            if new.hopeless:
                raise StreamError(_hopeless(source, new.rejected, quarantined))
            slices = tuple(self._write(*part) for part in split(new.documents, new.questions, period=period))
        report = IngestReport(
            slices=slices,
            accepted=new.documents.num_rows,
            duplicates=new.duplicates,
            questions=new.questions.num_rows,
            question_duplicates=new.question_duplicates,
            rejected=new.rejected,
            quarantine=quarantined,
        )
        log.info("%s: %s", source, report.summary())
        return report

    def forgotten(self) -> list[str]:
        """Documents of which no bank is to have a memory, sorted. StreamError when the list is damaged."""
        path = self.path / FORGOTTEN
        try:
            found: list[str] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            raise StreamError(f"{path} cannot be read ({error}): restore it from a backup or DVC") from None
        return found

    def forget(self, doc_id: str) -> None:
        """Note that no bank is to have a memory of `doc_id`; its slice, which is immutable, keeps it."""
        with self._writing():
            names = sorted({*self.forgotten(), doc_id})
            write_bytes(self.path / FORGOTTEN, json.dumps(names, indent=1).encode() + b"\n")

    def slices(self) -> list[Slice]:
        """All slices in time order: by period, then by arrival."""
        return sorted(map(_read_manifest, self._manifests()), key=attrgetter("period", "seq"))

    def slice(self, slice_id: str) -> Slice:
        """The slice of that name; StreamError listing what exists."""
        there = {found.slice_id: found for found in self.slices()}
        if slice_id not in there:
            raise StreamError(
                f"no slice {slice_id!r} in {self.path}; there are: {', '.join(there) or 'none, ingest first'}"
            )
        return there[slice_id]

    def documents(self, slice_: Slice) -> pa.Table:
        """The documents of `slice_` in DOCUMENT_SCHEMA, in order of publication."""
        return _read(slice_, "documents")

    def questions(self, slice_: Slice) -> pa.Table:
        """The questions of `slice_` in QUESTION_SCHEMA, in order of asking."""
        return _read(slice_, "questions")

    def all_documents(self) -> pa.Table:
        """The documents of all slices in time order; a corrected doc_id comes once a version, the valid one last."""
        return pa.concat_tables([DOCUMENT_SCHEMA.empty_table(), *map(self.documents, self.slices())])

    def all_questions(self) -> pa.Table:
        """The questions of all slices in time order."""
        return pa.concat_tables([QUESTION_SCHEMA.empty_table(), *map(self.questions, self.slices())])

    def verify(self) -> list[str]:
        """What is wrong with the store: a line for each slice that is missing a file, damaged or altered."""
        problems = []
        for manifest in self._manifests():
            try:
                slice_ = _read_manifest(manifest)
                digest = rows_digest(self.documents(slice_), self.questions(slice_))
            except StreamError as error:
                problems.append(str(error))
                continue
            if digest != slice_.digest:
                problems.append(f"{slice_.slice_id}: the rows are not those of its manifest; restore {manifest.parent}")
        return problems

    def _manifests(self) -> list[Path]:
        return sorted(self.path.glob("*/[0-9]*.json"))

    def _known(self, unit: str) -> Known:
        known = Known()
        for slice_ in self.slices():
            if unit_of(slice_.period) != unit:
                raise StreamError(
                    f"{self.path} is cut by {unit_of(slice_.period)}, not by {unit}: "
                    "set stream.period back, or name another folder in stream.path"
                )
            known.add_documents(_read(slice_, "documents", columns=("doc_id", "published_at", "sha256")))
            known.add_questions(_read(slice_, "questions", columns=("question_id", "question")))
        return known

    def _write(self, period: str, documents: pa.Table, questions: pa.Table) -> Slice:
        folder = self.path / period
        seq = max((int(path.stem) for path in folder.glob("[0-9]*.json")), default=0) + 1
        slice_ = Slice(
            slice_id=f"{period}/{seq:04d}",
            period=period,
            seq=seq,
            digest=rows_digest(documents, questions),
            n_documents=documents.num_rows,
            n_questions=questions.num_rows,
            path=folder / f"{seq:04d}.json",
        )
        write_table(_table_path(slice_, "documents"), documents)
        write_table(_table_path(slice_, "questions"), questions)
        manifest = {key: value for key, value in vars(slice_).items() if key != "path"}
        write_bytes(slice_.path, json.dumps(manifest, indent=2).encode() + b"\n")
        return slice_

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Hold the store; failures of the disk become a StreamError."""
        lock = self.path / ".lock"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(lock, timeout=self.lock_timeout):
                yield
        except filelock.Timeout:
            raise StreamError(
                f"{self.path} is being written by another process (cmt ingest, cmt update or a flow run), "
                f"which holds {lock}; waited {self.lock_timeout:g} s, try again when it has ended"
            ) from None
        except OSError as error:
            raise StreamError(f"cannot write {error.filename or self.path}: {error.strerror or error}") from error


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


def _hopeless(source: Path, rejected: tuple[Rejected, ...], quarantined: Path | None) -> str:
    first = f"{rejected[0].file}:{rejected[0].row}: {rejected[0].reason}"
    return f"{source}: none of its {_count(len(rejected), 'row')} can be taken, see {quarantined}; the first: {first}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
