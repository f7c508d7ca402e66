"""Admission of rows to the stream: each row is validated alone, then compared with the store.

- A row with a known doc_id and text is a duplicate. A new doc_id with the latest text of another document is a
  duplicate too; questions about it, and documents that supersede it, then refer to the document that was kept. The
  exception is an update that supersedes a third document: it is new even if its text was there before, because a price
  may go back to what it was.
- A known doc_id with another text is a correction and becomes a new version, unless the store has a later one.
- Of several versions in one ingest the latest is taken; of two with the same date the first.
- `cmt.stream.authority` decides who may correct or supersede whose documents. Nothing supersedes a younger document.
- Each slice takes a limited number of near-copies (`cmt.stream.near_copies`).
- A question needs its document in the same ingest or in the store. A known question_id is a duplicate.
- A question needs an answer, except for training and measuring (`select_with_unanswerable`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple

import pyarrow as pa

from cmt.common.arrow import replace_column, take
from cmt.common.dates import iso
from cmt.stream.authority import Authority, Statement
from cmt.stream.limits import DEFAULT_LIMITS, Limits
from cmt.stream.near_copies import excess_near_duplicates
from cmt.stream.periods import slice_of_each
from cmt.stream.readers import RawRows
from cmt.stream.readers.files import RawRow
from cmt.stream.schema import Rejected, raw_text, validate_documents, validate_questions


class _Version(NamedTuple):
    """A version of a document among the rows to admit."""

    row: int
    """Index in the table of valid rows."""
    statement: Statement
    supersedes: str | None
    sha256: str


@dataclass
class StoreIndex:
    """What a store has of some documents: a few short strings and two dates for each, no texts.

    Selection gives the same result with all rows of a store as with the rows of the documents that an ingest names, of
    documents with one of its texts, and of the updates of these.
    """

    forgotten: frozenset[str] = frozenset()
    """doc_ids of forgotten documents, which supersede nothing."""
    latest: dict[str, tuple[datetime, str]] = field(default_factory=dict)
    """doc_id → date and sha256 of the latest version."""
    versions: set[tuple[str, str]] = field(default_factory=set)
    """(doc_id, sha256) of every version."""
    texts: dict[str, str] = field(default_factory=dict)
    """sha256 → doc_id of a document with that text."""
    first: dict[str, Statement] = field(default_factory=dict)
    """doc_id → the first version, whose publisher is the publisher of the document."""
    updates: dict[str, list[Statement]] = field(default_factory=dict)
    """doc_id → the documents that supersede it."""
    questions: dict[str, str] = field(default_factory=dict)
    """question_id → question."""

    def add_documents(self, table: pa.Table) -> None:
        """Add the rows of `table` (doc_id, published_at, sha256, source, supersedes); `source` is the publisher."""
        columns = _columns(table, "doc_id", "published_at", "sha256", "source", "supersedes")
        for doc_id, published_at, sha256, publisher, supersedes in columns:
            statement = Statement(doc_id, published_at, publisher)
            self.first.setdefault(doc_id, statement)
            if supersedes and doc_id not in self.forgotten:
                self.updates.setdefault(supersedes, []).append(statement)
            if doc_id not in self.latest or published_at >= self.latest[doc_id][0]:
                self.latest[doc_id] = published_at, sha256
            self.versions.add((doc_id, sha256))
            self.owner(sha256, doc_id)

    def owner(self, sha256: str, doc_id: str) -> str:
        """The document whose latest version has this text; without one, `doc_id` becomes the owner of the text."""
        owner = self.texts.setdefault(sha256, doc_id)
        if owner in self.latest and self.latest[owner][1] != sha256:  # its text was corrected since
            owner = self.texts[sha256] = doc_id
        return owner

    def add_questions(self, table: pa.Table) -> None:
        """Add the rows of `table` (question_id, question)."""
        self.questions.update(_columns(table, "question_id", "question"))


@dataclass(frozen=True)
class ValidatedRows:
    """The valid documents or questions, and the rejected ones."""

    table: pa.Table
    origins: list[RawRow]
    """The raw row of each row of `table`."""
    rejected: list[Rejected]

    def without(self, reasons: Mapping[int, str], *, with_content: bool = True) -> "ValidatedRows":
        """These rows without the rows in `reasons` (row → why), which are rejected with or without their content."""
        if not reasons:
            return self
        kept = [row for row in range(self.table.num_rows) if row not in reasons]
        rejected = [_reject(self.origins[row], reason) for row, reason in reasons.items()]
        if not with_content:
            rejected = [replace(row, raw="") for row in rejected]
        return ValidatedRows(take(self.table, kept), [self.origins[row] for row in kept], self.rejected + rejected)


@dataclass(frozen=True)
class Intake:
    """The new rows of an ingest, and the fate of its other rows."""

    documents: pa.Table
    questions: pa.Table
    duplicates: int
    """Number of duplicate documents."""
    question_duplicates: int
    rejected: tuple[Rejected, ...]
    """By file and row."""


def validate_rows(
    raw: RawRows, *, now: datetime, limits: Limits = DEFAULT_LIMITS, allow_unanswerable: bool = False
) -> tuple[ValidatedRows, ValidatedRows]:
    """Validate each row of `raw` alone; return documents and questions. Rows dated after `now` are rejected.

    With `allow_unanswerable` a question with an empty list of answers is valid.
    """
    validate_document = partial(validate_documents, now=now, limits=limits)
    validate_question = partial(validate_questions, now=now, limits=limits, allow_unanswerable=allow_unanswerable)
    return _validate(raw.documents, validate_document), _validate(raw.questions, validate_question)


def without_floods(documents: ValidatedRows, *, period: str | int, limit: int) -> ValidatedRows:
    """`documents` with at most `limit` near-copies in each slice of a `period`; further ones are rejected."""
    slices = slice_of_each(documents.table, period=period)
    doc_ids = documents.table["doc_id"].to_pylist()
    reasons = {
        row: f"nearly the same text as {doc_ids[near]!r} and others of its slice, which takes {limit}; name the "
        "document that it supersedes, or raise stream.max_near_duplicates"
        for row, near in excess_near_duplicates(documents.table, slices=slices, limit=limit).items()
    }
    return documents.without(reasons)


def select(
    documents: ValidatedRows,
    questions: ValidatedRows,
    *,
    unread: Sequence[Rejected],
    index: StoreIndex,
    authority: Authority | None = None,
) -> Intake:
    """Select the rows that are not in `index` yet, and add them to it. `unread`: the rows that a reader rejected.

    With `authority` the column `source` of `documents` must hold their publishers.
    """
    new_documents, kept_as, duplicates, rejected_documents = _select_documents(documents, index, authority)
    new_questions, question_duplicates, rejected_questions = _select_questions(questions, index, kept_as)
    rejected = (*unread, *documents.rejected, *questions.rejected, *rejected_documents, *rejected_questions)
    return Intake(
        documents=new_documents,
        questions=new_questions,
        duplicates=duplicates,
        question_duplicates=question_duplicates,
        rejected=tuple(sorted(rejected, key=attrgetter("file", "row"))),
    )


def select_with_unanswerable(raw: RawRows, *, now: datetime, limits: Limits = DEFAULT_LIMITS) -> Intake:
    """The valid rows of `raw` without duplicates; rows dated after `now` are rejected.

    A question that its document does not answer (SQuAD 2.0) has an empty list of `answers` and is kept.
    """
    documents, questions = validate_rows(raw, now=now, limits=limits, allow_unanswerable=True)
    return select(documents, questions, unread=raw.rejected, index=StoreIndex())


def _validate(rows: Sequence[RawRow], validate: Callable[..., tuple[pa.Table, list[Rejected]]]) -> ValidatedRows:
    tables = [validate((), file="")[0]]  # an empty table, for a file without rows of this kind
    origins: list[RawRow] = []
    rejected: list[Rejected] = []
    for file, group in groupby(rows, key=attrgetter("file")):
        file_rows = list(group)
        table, file_rejected = validate(((row.row, row.values) for row in file_rows), file=file)
        rejected_numbers = {row.row for row in file_rejected}
        tables.append(table)
        origins += [row for row in file_rows if row.row not in rejected_numbers]
        rejected += file_rejected
    return ValidatedRows(pa.concat_tables(tables), origins, rejected)


def _select_documents(
    documents: ValidatedRows, index: StoreIndex, authority: Authority | None
) -> tuple[pa.Table, dict[str, str], int, list[Rejected]]:
    """Return new rows, doc_id → doc_id that was kept for its text, number of duplicates, rejected rows."""
    # 1. one version of each doc_id
    versions, duplicates, rejected = _latest_versions(documents, authority)
    # 2. only what its publisher may state
    if authority:
        reasons = _refused(versions, index, authority)
        rejected += [_reject(documents.origins[versions.pop(doc_id).row], why) for doc_id, why in reasons.items()]
    # 3. compare it with the store
    new: list[int] = []
    kept_as: dict[str, str] = {}
    for doc_id, version in versions.items():
        published_at, sha256, supersedes = version.statement.published_at, version.sha256, version.supersedes
        latest, latest_sha256 = index.latest.get(doc_id, (None, None))
        owner = index.owner(sha256, doc_id)
        if latest is None and owner != doc_id and kept_as.get(supersedes or "", supersedes) in (None, owner):
            kept_as[doc_id] = owner
            duplicates += 1
        elif latest is None:
            new.append(version.row)
        elif sha256 == latest_sha256 or (published_at <= latest and (doc_id, sha256) in index.versions):
            duplicates += 1
        elif published_at < latest:
            reason = f"doc_id {doc_id!r} is in the store with a later date, {iso(latest)}; date the correction after it"
            rejected.append(_reject(documents.origins[version.row], reason))
        else:
            new.append(version.row)
    # 4. an update of a duplicate supersedes the document that was kept
    table = take(documents.table, sorted(new))
    table = replace_column(table, "supersedes", [kept_as.get(name, name) for name in table["supersedes"].to_pylist()])
    index.add_documents(table)
    return table, kept_as, duplicates, rejected


def _select_questions(
    questions: ValidatedRows, index: StoreIndex, kept_as: dict[str, str]
) -> tuple[pa.Table, int, list[Rejected]]:
    """Return new rows, each with the doc_id under which its document was kept, number of duplicates, rejected rows."""
    new: list[int] = []
    doc_ids: list[str] = []
    rejected: list[Rejected] = []
    rows = _columns(questions.table, "question_id", "doc_id", "question")
    for row, (question_id, doc_id, question) in enumerate(rows):
        kept_doc_id = kept_as.get(doc_id, doc_id)
        known_question = index.questions.get(question_id)
        if known_question == question:
            continue
        if known_question is not None:
            reason = (
                f"question_id {question_id!r} belongs to another question, {known_question[:80]!r}; "
                "give this one another question_id"
            )
            rejected.append(_reject(questions.origins[row], reason))
        elif kept_doc_id not in index.latest:
            reason = f"doc_id {doc_id!r} is neither in this source nor in the store; ingest the document first"
            rejected.append(_reject(questions.origins[row], reason))
        else:
            index.questions[question_id] = question
            new.append(row)
            doc_ids.append(kept_doc_id)
    table = replace_column(take(questions.table, new), "doc_id", doc_ids)
    return table, questions.table.num_rows - len(new) - len(rejected), rejected


def _refused(versions: Mapping[str, _Version], index: StoreIndex, authority: Authority) -> dict[str, str]:
    """doc_id → why its new version is refused. A version that is in the store already is not refused."""
    first_with_text: dict[str, str] = {}
    for doc_id, version in versions.items():
        first_with_text.setdefault(version.sha256, doc_id)

    def documents(doc_id: str | None) -> Iterator[Statement]:
        """The document `doc_id`, and the documents that are kept in its place if it is a duplicate."""
        names = [doc_id]
        if doc_id and doc_id in versions and doc_id not in index.first:
            sha256 = versions[doc_id].sha256
            names += [index.texts.get(sha256), first_with_text[sha256]]
        for name in filter(None, dict.fromkeys(names)):
            if name in index.first:
                yield index.first[name]
            elif name in versions:
                yield versions[name].statement

    refused: dict[str, str] = {}
    for doc_id, version in versions.items():
        if (doc_id, version.sha256) in index.versions:
            continue
        statement = version.statement
        if doc_id in index.first:
            why = authority.why_not_correct(statement, index.first[doc_id])
        else:
            why = authority.why_not_add(statement, index.updates.get(doc_id, ()))
        for target in documents(version.supersedes):
            why = why or authority.why_not_supersede(statement, target)
        if why:
            refused[doc_id] = why
    return refused


def _latest_versions(
    documents: ValidatedRows, authority: Authority | None
) -> tuple[dict[str, _Version], int, list[Rejected]]:
    """Return the latest version of each doc_id, number of duplicates, rejected rows."""
    origins = documents.origins
    latest: dict[str, _Version] = {}
    duplicates = 0
    rejected: list[Rejected] = []
    rows = _columns(documents.table, "doc_id", "published_at", "source", "supersedes", "sha256")
    for row, (doc_id, published_at, publisher, supersedes, sha256) in enumerate(rows):
        version = _Version(row, Statement(doc_id, published_at, publisher), supersedes, sha256)
        other = latest.setdefault(doc_id, version)
        if other is version:
            continue
        if sha256 == other.sha256:
            duplicates += 1
        elif published_at == other.statement.published_at:
            where = f"{origins[other.row].file}:{origins[other.row].row}"
            reason = f"doc_id {doc_id!r} has another text and the same date in {where}; give a correction a later date"
            rejected.append(_reject(origins[row], reason))
        else:
            earlier, later = (version, other) if published_at < other.statement.published_at else (other, version)
            why = authority.why_not_correct(later.statement, earlier.statement) if authority else None
            if why:
                latest[doc_id] = earlier
                rejected.append(_reject(origins[later.row], why))
                continue
            latest[doc_id] = later
            where = f"{origins[later.row].file}:{origins[later.row].row}"
            reason = f"an earlier version of doc_id {doc_id!r}; {where} has a later one, which was taken"
            rejected.append(_reject(origins[earlier.row], reason))
    return latest, duplicates, rejected


def _reject(origin: RawRow, reason: str) -> Rejected:
    return Rejected(origin.file, origin.row, reason, raw_text(origin.values))


def _columns(table: pa.Table, *names: str) -> Iterator[tuple[Any, ...]]:
    """The rows of these columns."""
    return zip(*(table.column(name).to_pylist() for name in names), strict=True)
