"""Selection of what is new in a source: rows are validated one by one, then compared with the store.

- The same doc_id and text again is a duplicate. A new doc_id with a text that is the latest of another document is a
  duplicate too; questions about it, and documents that supersede it, refer to the document that was kept. The exception
  is an update that supersedes a third document: it is new even if its text was there before, because a price may go
  back to what it was.
- A known doc_id with another text is a correction and becomes a new version, unless the store has a later one.
- Of several versions in one source the latest is taken; of two with the same date the first.
- A question needs its document in the source or in the store. A known question_id is a duplicate.
- A question needs an answer, except for training and measuring (`select_with_unanswerable`).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple

import pyarrow as pa

from cmt.common.dates import iso
from cmt.stream.readers import RawRows
from cmt.stream.readers.files import RawRow
from cmt.stream.schema import Rejected, raw_text, validate_documents, validate_questions


class _Version(NamedTuple):
    """A version of a document in a source."""

    row: int
    """Index in the table of valid rows."""
    published_at: datetime
    sha256: str


@dataclass
class Known:
    """Index of a store in memory: two short strings and a date for each document, no texts."""

    latest: dict[str, tuple[datetime, str]] = field(default_factory=dict)
    """doc_id → date and sha256 of the latest version."""
    versions: set[tuple[str, str]] = field(default_factory=set)
    """(doc_id, sha256) of every version."""
    texts: dict[str, str] = field(default_factory=dict)
    """sha256 → doc_id of a document with that text."""
    questions: dict[str, str] = field(default_factory=dict)
    """question_id → question."""

    def add_documents(self, table: pa.Table) -> None:
        """Add the rows of `table` (doc_id, published_at, sha256)."""
        for doc_id, published_at, sha256 in _columns(table, "doc_id", "published_at", "sha256"):
            if doc_id not in self.latest or published_at >= self.latest[doc_id][0]:
                self.latest[doc_id] = published_at, sha256
            self.versions.add((doc_id, sha256))
            self.owner(sha256, doc_id)

    def owner(self, sha256: str, doc_id: str) -> str:
        """The document whose latest version has this text; if there is none, `doc_id` becomes its owner."""
        owner = self.texts.setdefault(sha256, doc_id)
        if owner in self.latest and self.latest[owner][1] != sha256:  # its text was corrected since
            owner = self.texts[sha256] = doc_id
        return owner

    def add_questions(self, table: pa.Table) -> None:
        """Add the rows of `table` (question_id, question)."""
        self.questions.update(_columns(table, "question_id", "question"))


@dataclass(frozen=True)
class Checked:
    """The valid rows of one kind, and the rejected ones."""

    table: pa.Table
    origins: list[RawRow]
    """The source row of each row of `table`."""
    rejected: list[Rejected]


@dataclass(frozen=True)
class Intake:
    """The new rows of a source, and what became of its other rows."""

    documents: pa.Table
    questions: pa.Table
    duplicates: int
    """Number of documents left out as duplicates."""
    question_duplicates: int
    rejected: tuple[Rejected, ...]
    """By file and row."""

    @property
    def all_rejected(self) -> bool:
        """Whether every row was rejected."""
        return not any((self.documents.num_rows, self.questions.num_rows, self.duplicates, self.question_duplicates))


def check(raw: RawRows, *, now: datetime, allow_unanswerable: bool = False) -> tuple[Checked, Checked]:
    """Validate each row of `raw` by itself; return documents and questions. Rows dated after `now` are rejected.

    With `allow_unanswerable` a question with an empty list of answers is valid.
    """
    validate_each_question = partial(validate_questions, allow_unanswerable=allow_unanswerable)
    return _check(raw.documents, validate_documents, now), _check(raw.questions, validate_each_question, now)


def select(documents: Checked, questions: Checked, *, unread: Sequence[Rejected], known: Known) -> Intake:
    """Select the rows that are not in `known` yet, and add them to it. `unread` are the rows that a reader rejected."""
    new_documents, kept_as, duplicates, rejected_documents = _select_documents(documents, known)
    new_questions, question_duplicates, rejected_questions = _select_questions(questions, known, kept_as)
    rejected = (*unread, *documents.rejected, *questions.rejected, *rejected_documents, *rejected_questions)
    return Intake(
        documents=new_documents,
        questions=new_questions,
        duplicates=duplicates,
        question_duplicates=question_duplicates,
        rejected=tuple(sorted(rejected, key=attrgetter("file", "row"))),
    )


def select_with_unanswerable(raw: RawRows, *, now: datetime) -> Intake:
    """The valid rows of `raw` without duplicates; rows dated after `now` are rejected.

    A question with an empty list of answers, which its document does not answer (SQuAD 2.0), is kept without `answers`.
    """
    return select(*check(raw, now=now, allow_unanswerable=True), unread=raw.rejected, known=Known())


def _check(rows: Sequence[RawRow], validate: Callable[..., tuple[pa.Table, list[Rejected]]], now: datetime) -> Checked:
    tables = [validate((), file="", now=now)[0]]  # an empty table, for a source without rows of this kind
    origins: list[RawRow] = []
    rejected: list[Rejected] = []
    for file, group in groupby(rows, key=attrgetter("file")):
        file_rows = list(group)
        table, file_rejected = validate(((row.row, row.values) for row in file_rows), file=file, now=now)
        rejected_numbers = {row.row for row in file_rejected}
        tables.append(table)
        origins += [row for row in file_rows if row.row not in rejected_numbers]
        rejected += file_rejected
    return Checked(pa.concat_tables(tables), origins, rejected)


def _select_documents(checked: Checked, known: Known) -> tuple[pa.Table, dict[str, str], int, list[Rejected]]:
    """Return new rows, doc_id → doc_id that was kept for its text, number of duplicates, rejected rows."""
    # 1. one version of each doc_id in this source
    versions, duplicates, rejected = _latest_versions(checked)
    # 2. compare it with the store
    new: list[int] = []
    kept_as: dict[str, str] = {}
    supersedes = checked.table["supersedes"].to_pylist()
    for doc_id, (index, published_at, sha256) in versions.items():
        latest, latest_sha256 = known.latest.get(doc_id, (None, None))
        owner = known.owner(sha256, doc_id)
        if latest is None and owner != doc_id and kept_as.get(supersedes[index], supersedes[index]) in (None, owner):
            kept_as[doc_id] = owner
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
    # 3. what supersedes a duplicate supersedes the document that was kept
    table = _take(checked.table, new)
    table = _replace_column(table, "supersedes", [kept_as.get(name, name) for name in table["supersedes"].to_pylist()])
    known.add_documents(table)
    return table, kept_as, duplicates, rejected


def _select_questions(checked: Checked, known: Known, kept_as: dict[str, str]) -> tuple[pa.Table, int, list[Rejected]]:
    """Return new rows, each with the doc_id under which its document was kept, number of duplicates, rejected rows."""
    new: list[int] = []
    doc_ids: list[str] = []
    rejected: list[Rejected] = []
    rows = _columns(checked.table, "question_id", "doc_id", "question")
    for index, (question_id, doc_id, question) in enumerate(rows):
        kept_doc_id = kept_as.get(doc_id, doc_id)
        known_question = known.questions.get(question_id)
        if known_question == question:
            continue
        if known_question is not None:
            reason = (
                f"question_id {question_id!r} belongs to another question, {known_question[:80]!r}; "
                "give this one another question_id"
            )
            rejected.append(_reject(checked.origins[index], reason))
        elif kept_doc_id not in known.latest:
            reason = f"doc_id {doc_id!r} is neither in this source nor in the store; ingest the document first"
            rejected.append(_reject(checked.origins[index], reason))
        else:
            known.questions[question_id] = question
            new.append(index)
            doc_ids.append(kept_doc_id)
    table = _replace_column(_take(checked.table, new), "doc_id", doc_ids)
    return table, checked.table.num_rows - len(new) - len(rejected), rejected


def _latest_versions(checked: Checked) -> tuple[dict[str, _Version], int, list[Rejected]]:
    """Return the latest version of each doc_id, number of duplicates, rejected rows."""
    origins = checked.origins
    latest: dict[str, _Version] = {}
    duplicates = 0
    rejected: list[Rejected] = []
    for index, (doc_id, published_at, sha256) in enumerate(_columns(checked.table, "doc_id", "published_at", "sha256")):
        version = _Version(index, published_at, sha256)
        other = latest.setdefault(doc_id, version)
        if other is version:
            continue
        if sha256 == other.sha256:
            duplicates += 1
        elif published_at == other.published_at:
            reason = f"doc_id {doc_id!r} has another text and the same date in {_where(origins[other.row])}"
            rejected.append(_reject(origins[index], f"{reason}; give a correction a later date"))
        else:
            earlier, later = (version, other) if published_at < other.published_at else (other, version)
            latest[doc_id] = later
            where = _where(origins[later.row])
            reason = f"an earlier version of doc_id {doc_id!r}; {where} has a later one, which was taken"
            rejected.append(_reject(origins[earlier.row], reason))
    return latest, duplicates, rejected


def _where(origin: RawRow) -> str:
    return f"{origin.file}:{origin.row}"


def _reject(origin: RawRow, reason: str) -> Rejected:
    return Rejected(origin.file, origin.row, reason, raw_text(origin.values))


def _take(table: pa.Table, rows: Sequence[int]) -> pa.Table:
    """These rows of `table`, in the order of `table`."""
    wanted = set(rows)
    return table.filter(pa.array([index in wanted for index in range(table.num_rows)], pa.bool_()))


def _replace_column(table: pa.Table, name: str, values: Sequence[str | None]) -> pa.Table:
    """`table` with `values` in its string column `name`."""
    place = table.schema.get_field_index(name)
    return table.set_column(place, table.schema.field(place), pa.array(values, pa.string()))


def _columns(table: pa.Table, *names: str) -> Iterator[tuple[Any, ...]]:
    """The rows of these columns."""
    return zip(*(table.column(name).to_pylist() for name in names), strict=True)
