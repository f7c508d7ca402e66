"""What of a source is new to the store: checked row by row, then held against what is there.

- The same doc_id and text again is a duplicate, and so is a new doc_id with a text that is another document's latest;
  questions about it go to the document that was kept, and so does what supersedes it. But news that supersede a third
  document are news even in words that were there before: a price may go back to what it was.
- A known doc_id with another text is a correction and becomes a new version, unless the store has a later one.
- Within one source the later version wins; of two with one date the first is kept.
- A question needs its document, in the source or in the store. A known question_id is a duplicate.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from typing import Any

import pyarrow as pa

from cmt.common.dates import iso
from cmt.stream.readers import RawRows
from cmt.stream.readers.files import RawRow
from cmt.stream.schema import Rejected, raw_text, validate_documents, validate_questions


@dataclass
class Known:
    """What the store holds, in memory: two short strings and a date a document, no texts."""

    latest: dict[str, tuple[datetime, str]] = field(default_factory=dict)
    """doc_id → date and sha256 of its latest version."""
    versions: set[tuple[str, str]] = field(default_factory=set)
    """(doc_id, sha256) of every version."""
    texts: dict[str, str] = field(default_factory=dict)
    """sha256 → a doc_id that brought it."""
    questions: dict[str, str] = field(default_factory=dict)
    """question_id → question."""

    def add_documents(self, table: pa.Table) -> None:
        """Take note of the rows of `table` (doc_id, published_at, sha256)."""
        for doc_id, published_at, sha256 in _columns(table, "doc_id", "published_at", "sha256"):
            if doc_id not in self.latest or published_at >= self.latest[doc_id][0]:
                self.latest[doc_id] = published_at, sha256
            self.versions.add((doc_id, sha256))
            self.owner(sha256, doc_id)

    def owner(self, sha256: str, doc_id: str) -> str:
        """The document whose latest version has that text; `doc_id` where there is none, which has it from now on."""
        owner = self.texts.setdefault(sha256, doc_id)
        if owner in self.latest and self.latest[owner][1] != sha256:
            owner = self.texts[sha256] = doc_id
        return owner

    def add_questions(self, table: pa.Table) -> None:
        """Take note of the rows of `table` (question_id, question)."""
        self.questions.update(
            (question_id, question) for question_id, question in _columns(table, "question_id", "question")
        )


@dataclass(frozen=True)
class Checked:
    """The rows of one kind that passed the check, and the others."""

    table: pa.Table
    origins: list[RawRow]
    """The source row of each row of `table`."""
    rejected: list[Rejected]


@dataclass(frozen=True)
class Intake:
    """What of a source is new, and what became of its other rows."""

    documents: pa.Table
    questions: pa.Table
    duplicates: int
    question_duplicates: int
    rejected: tuple[Rejected, ...]
    """By file and row."""

    @property
    def hopeless(self) -> bool:
        """Whether every row was rejected."""
        taken = (self.documents.num_rows, self.questions.num_rows, self.duplicates, self.question_duplicates)
        return not any(taken)


def check(raw: RawRows, *, now: datetime) -> tuple[Checked, Checked]:
    """The documents and the questions of `raw`, each row checked by itself; later than `now` is rejected."""
    return _checked(raw.documents, validate_documents, now), _checked(raw.questions, validate_questions, now)


def select(documents: Checked, questions: Checked, *, unread: Sequence[Rejected], known: Known) -> Intake:
    """What of the checked rows is new to `known`, which takes note of it; `unread` are the reader's rejects."""
    new, kept, duplicates, refused = _select_documents(documents, known)
    asked, question_duplicates, unanswered = _select_questions(questions, known, kept)
    rejected = (*unread, *documents.rejected, *questions.rejected, *refused, *unanswered)
    return Intake(
        documents=new,
        questions=asked,
        duplicates=duplicates,
        question_duplicates=question_duplicates,
        rejected=tuple(sorted(rejected, key=attrgetter("file", "row"))),
    )


def _checked(
    rows: Sequence[RawRow], validate: Callable[..., tuple[pa.Table, list[Rejected]]], now: datetime
) -> Checked:
    tables = [validate((), file="", now=now)[0]]  # the schema, for a source without rows of this kind
    origins: list[RawRow] = []
    rejected: list[Rejected] = []
    for file, group in groupby(rows, key=attrgetter("file")):
        members = list(group)
        table, bad = validate(((row.row, row.values) for row in members), file=file, now=now)
        numbers = {row.row for row in bad}
        tables.append(table)
        origins += [row for row in members if row.row not in numbers]
        rejected += bad
    return Checked(pa.concat_tables(tables), origins, rejected)


def _select_documents(checked: Checked, known: Known) -> tuple[pa.Table, dict[str, str], int, list[Rejected]]:
    """New rows · doc_id → kept doc_id of those dropped because their text is there already · duplicates · rejects."""
    winners, duplicates, rejected = _winners(checked)
    new: list[int] = []
    kept: dict[str, str] = {}
    supersedes = checked.table["supersedes"].to_pylist()
    for doc_id, (index, published_at, sha256) in winners.items():
        latest, latest_sha256 = known.latest.get(doc_id, (None, None))
        owner = known.owner(sha256, doc_id)
        if latest is None and owner != doc_id and kept.get(supersedes[index], supersedes[index]) in (None, owner):
            kept[doc_id] = owner
            duplicates += 1
        elif latest is None:
            new.append(index)
        elif sha256 == latest_sha256 or (published_at <= latest and (doc_id, sha256) in known.versions):
            duplicates += 1
        elif published_at < latest:
            reason = f"doc_id {doc_id!r} is in the store with a later date, {iso(latest)}; date the correction after it"
            rejected.append(_reject(checked.origins[index], reason))
        else:
            new.append(index)
    selected = _pick(checked.table, new)
    selected = _with(selected, "supersedes", [kept.get(name, name) for name in selected["supersedes"].to_pylist()])
    known.add_documents(selected)
    return selected, kept, duplicates, rejected


def _select_questions(checked: Checked, known: Known, kept: dict[str, str]) -> tuple[pa.Table, int, list[Rejected]]:
    """New rows, each with the doc_id under which its document was kept · duplicates · rejects."""
    new: list[int] = []
    doc_ids: list[str] = []
    rejected: list[Rejected] = []
    rows = _columns(checked.table, "question_id", "doc_id", "question")
    for index, (question_id, doc_id, question) in enumerate(rows):
        target = kept.get(doc_id, doc_id)
        there = known.questions.get(question_id)
        if there == question:
            continue
        if there is not None:
            reason = f"question_id {question_id!r} belongs to another question, {there[:80]!r}; give this one its own"
            rejected.append(_reject(checked.origins[index], reason))
        elif target not in known.latest:
            reason = f"doc_id {doc_id!r} is neither in this source nor in the store; ingest the document first"
            rejected.append(_reject(checked.origins[index], reason))
        else:
            known.questions[question_id] = question
            new.append(index)
            doc_ids.append(target)
    selected = _with(_pick(checked.table, new), "doc_id", doc_ids)
    return selected, checked.table.num_rows - len(new) - len(rejected), rejected


def _winners(checked: Checked) -> tuple[dict[str, tuple[int, datetime, str]], int, list[Rejected]]:
    """doc_id → index, date and hash of the row it is taken from · duplicates · rejects."""
    origins = checked.origins
    winners: dict[str, tuple[int, datetime, str]] = {}
    duplicates = 0
    rejected: list[Rejected] = []
    for index, (doc_id, published_at, sha256) in enumerate(_columns(checked.table, "doc_id", "published_at", "sha256")):
        first, first_at, first_sha256 = winners.setdefault(doc_id, (index, published_at, sha256))
        if first == index:
            continue
        if sha256 == first_sha256:
            duplicates += 1
        elif published_at == first_at:
            reason = f"doc_id {doc_id!r} has another text and the same date in {_where(origins[first])}"
            rejected.append(_reject(origins[index], f"{reason}; give a correction a later date"))
        elif published_at < first_at:
            rejected.append(_earlier(origins[index], doc_id, later=origins[first]))
        else:
            winners[doc_id] = index, published_at, sha256
            rejected.append(_earlier(origins[first], doc_id, later=origins[index]))
    return winners, duplicates, rejected


def _earlier(origin: RawRow, doc_id: str, *, later: RawRow) -> Rejected:
    return _reject(origin, f"an earlier version of doc_id {doc_id!r}; {_where(later)} has a later one, which was taken")


def _where(origin: RawRow) -> str:
    return f"{origin.file}:{origin.row}"


def _reject(origin: RawRow, reason: str) -> Rejected:
    return Rejected(origin.file, origin.row, reason, raw_text(origin.values))


def _pick(table: pa.Table, rows: Sequence[int]) -> pa.Table:
    chosen = set(rows)
    return table.filter(pa.array([index in chosen for index in range(table.num_rows)], pa.bool_()))


def _with(table: pa.Table, name: str, values: Sequence[str | None]) -> pa.Table:
    """`table` with other texts in its column `name`."""
    place = table.schema.get_field_index(name)
    return table.set_column(place, table.schema.field(place), pa.array(values, pa.string()))


def _columns(table: pa.Table, *names: str) -> Iterator[tuple[Any, ...]]:
    return zip(*(table.column(name).to_pylist() for name in names), strict=True)
