"""Selection of what is new in a source: rows are validated one by one, then compared with the store.

- The same doc_id and text again is a duplicate. A new doc_id with a text that is the latest of another document is a
  duplicate too; questions about it, and documents that supersede it, refer to the document that was kept. The exception
  is an update that supersedes a third document: it is new even if its text was there before, because a price may go
  back to what it was.
- A known doc_id with another text is a correction and becomes a new version, unless the store has a later one.
- Of several versions in one source the latest is taken; of two with the same date the first.
- Who may correct or supersede whose documents says `cmt.stream.authority`. Nothing supersedes what is younger.
- Of a flood of near-copies some are taken (`cmt.stream.near_copies`).
- A question needs its document in the source or in the store. A known question_id is a duplicate.
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
from cmt.stream.near_copies import crowded
from cmt.stream.periods import parts_of
from cmt.stream.readers import RawRows
from cmt.stream.readers.files import RawRow
from cmt.stream.schema import Rejected, raw_text, validate_documents, validate_questions


class _Version(NamedTuple):
    """A version of a document in a source."""

    row: int
    """Index in the table of valid rows."""
    statement: Statement
    supersedes: str | None
    sha256: str

    @property
    def published_at(self) -> datetime:
        return self.statement.published_at


@dataclass
class Known:
    """Index of a store in memory: a few short strings and two dates for each document, no texts.

    What is selected with it is the same if it has only the rows of the documents that the source names, of those with a
    text of the source, and of what supersedes these.
    """

    forgotten: frozenset[str] = frozenset()
    """doc_ids of forgotten documents; what they supersede does not count."""

    latest: dict[str, tuple[datetime, str]] = field(default_factory=dict)
    """doc_id → date and sha256 of the latest version."""
    versions: set[tuple[str, str]] = field(default_factory=set)
    """(doc_id, sha256) of every version."""
    texts: dict[str, str] = field(default_factory=dict)
    """sha256 → doc_id of a document with that text."""
    first: dict[str, Statement] = field(default_factory=dict)
    """doc_id → the first version, whose publisher is that of the document."""
    updates: dict[str, list[Statement]] = field(default_factory=dict)
    """doc_id → the documents that supersede it."""
    questions: dict[str, str] = field(default_factory=dict)
    """question_id → question."""

    def add_documents(self, table: pa.Table, *, has_publishers: bool = True) -> None:
        """Add the rows of `table` (doc_id, published_at, sha256, source, supersedes).

        `has_publishers`: whether `source` is the publisher, see `cmt.stream.authority`.
        """
        columns = _columns(table, "doc_id", "published_at", "sha256", "source", "supersedes")
        for doc_id, published_at, sha256, source, supersedes in columns:
            statement = Statement(doc_id, published_at, source if has_publishers else None)
            self.first.setdefault(doc_id, statement)
            if supersedes and doc_id not in self.forgotten:
                self.updates.setdefault(supersedes, []).append(statement)
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

    def with_sources(self, sources: Sequence[str]) -> "Checked":
        """The same rows with `sources` in the column `source`."""
        return Checked(replace_column(self.table, "source", sources), self.origins, self.rejected)

    def without(self, reasons: Mapping[int, str], *, with_content: bool = True) -> "Checked":
        """The rows of `table` but those in `reasons` (row → why), which are rejected, with their content or without."""
        if not reasons:
            return self
        kept = [row for row in range(self.table.num_rows) if row not in reasons]
        rejected = [_reject(self.origins[row], reason) for row, reason in reasons.items()]
        if not with_content:
            rejected = [replace(row, raw="") for row in rejected]
        return Checked(take(self.table, kept), [self.origins[row] for row in kept], self.rejected + rejected)


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


def check(
    raw: RawRows, *, now: datetime, limits: Limits = DEFAULT_LIMITS, allow_unanswerable: bool = False
) -> tuple[Checked, Checked]:
    """Validate each row of `raw` by itself; return documents and questions. Rows dated after `now` are rejected.

    With `allow_unanswerable` a question with an empty list of answers is valid.
    """
    validate_each_document = partial(validate_documents, now=now, limits=limits)
    validate_each_question = partial(validate_questions, now=now, limits=limits, allow_unanswerable=allow_unanswerable)
    return _check(raw.documents, validate_each_document), _check(raw.questions, validate_each_question)


def without_floods(documents: Checked, *, period: str | int, most: int) -> Checked:
    """`documents`, of each slice of a `period` at most `most` near-copies; the others are rejected."""
    groups = parts_of(documents.table, period=period)
    doc_ids = documents.table["doc_id"].to_pylist()
    reasons = {
        row: f"nearly the same text as {doc_ids[near]!r} and others of its slice, of which {most} are taken; name what "
        "it supersedes, or raise stream.max_near_duplicates"
        for row, near in crowded(documents.table, groups=groups, most=most).items()
    }
    return documents.without(reasons)


def select(
    documents: Checked,
    questions: Checked,
    *,
    unread: Sequence[Rejected],
    known: Known,
    authority: Authority | None = None,
) -> Intake:
    """Select the rows that are not in `known` yet, and add them to it. `unread` are the rows that a reader rejected.

    With `authority` the column `source` of `documents` has to be their publisher.
    """
    new_documents, kept_as, duplicates, rejected_documents = _select_documents(documents, known, authority)
    new_questions, question_duplicates, rejected_questions = _select_questions(questions, known, kept_as)
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

    A question with an empty list of answers, which its document does not answer (SQuAD 2.0), is kept without `answers`.
    """
    return select(*check(raw, now=now, limits=limits, allow_unanswerable=True), unread=raw.rejected, known=Known())


def _check(rows: Sequence[RawRow], validate: Callable[..., tuple[pa.Table, list[Rejected]]]) -> Checked:
    tables = [validate((), file="")[0]]  # an empty table, for a source without rows of this kind
    origins: list[RawRow] = []
    rejected: list[Rejected] = []
    for file, group in groupby(rows, key=attrgetter("file")):
        file_rows = list(group)
        table, file_rejected = validate(((row.row, row.values) for row in file_rows), file=file)
        rejected_numbers = {row.row for row in file_rejected}
        tables.append(table)
        origins += [row for row in file_rows if row.row not in rejected_numbers]
        rejected += file_rejected
    return Checked(pa.concat_tables(tables), origins, rejected)


def _select_documents(
    checked: Checked, known: Known, authority: Authority | None
) -> tuple[pa.Table, dict[str, str], int, list[Rejected]]:
    """Return new rows, doc_id → doc_id that was kept for its text, number of duplicates, rejected rows."""
    # 1. one version of each doc_id in this source
    versions, duplicates, rejected = _latest_versions(checked, authority)
    # 2. whether its publisher may state it
    if authority:
        reasons = _refused(versions, known, authority)
        rejected += [_reject(checked.origins[versions.pop(doc_id).row], reason) for doc_id, reason in reasons.items()]
    # 3. compare it with the store
    new: list[int] = []
    kept_as: dict[str, str] = {}
    for doc_id, version in versions.items():
        index, published_at, sha256, supersedes = version.row, version.published_at, version.sha256, version.supersedes
        latest, latest_sha256 = known.latest.get(doc_id, (None, None))
        owner = known.owner(sha256, doc_id)
        if latest is None and owner != doc_id and kept_as.get(supersedes or "", supersedes) in (None, owner):
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
    # 4. what supersedes a duplicate supersedes the document that was kept
    table = take(checked.table, new)
    table = replace_column(table, "supersedes", [kept_as.get(name, name) for name in table["supersedes"].to_pylist()])
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
    table = replace_column(take(checked.table, new), "doc_id", doc_ids)
    return table, checked.table.num_rows - len(new) - len(rejected), rejected


def _refused(versions: Mapping[str, _Version], known: Known, authority: Authority) -> dict[str, str]:
    """doc_id → why its version in this source may not be taken. What is in the store already is not refused."""
    first_with_text: dict[str, str] = {}
    for doc_id, version in versions.items():
        first_with_text.setdefault(version.sha256, doc_id)

    def documents(doc_id: str | None) -> Iterator[Statement]:
        """The document `doc_id`, and those that stand for it if it is a duplicate."""
        names = [doc_id]
        if doc_id and doc_id in versions and doc_id not in known.first:
            sha256 = versions[doc_id].sha256
            names += [known.texts.get(sha256), first_with_text[sha256]]
        for name in filter(None, dict.fromkeys(names)):
            if name in known.first:
                yield known.first[name]
            elif name in versions:
                yield versions[name].statement

    refused: dict[str, str] = {}
    for doc_id, version in versions.items():
        if (doc_id, version.sha256) in known.versions:
            continue
        statement = version.statement
        if doc_id in known.first:
            why = authority.why_not_correct(statement, known.first[doc_id])
        else:
            why = authority.why_not_add(statement, known.updates.get(doc_id, ()))
        for target in documents(version.supersedes):
            why = why or authority.why_not_supersede(statement, target)
        if why:
            refused[doc_id] = why
    return refused


def _latest_versions(checked: Checked, authority: Authority | None) -> tuple[dict[str, _Version], int, list[Rejected]]:
    """Return the latest version of each doc_id, number of duplicates, rejected rows."""
    origins = checked.origins
    latest: dict[str, _Version] = {}
    duplicates = 0
    rejected: list[Rejected] = []
    rows = _columns(checked.table, "doc_id", "published_at", "source", "supersedes", "sha256")
    for index, (doc_id, published_at, source, supersedes, sha256) in enumerate(rows):
        version = _Version(index, Statement(doc_id, published_at, source), supersedes, sha256)
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
            why = authority.why_not_correct(later.statement, earlier.statement) if authority else None
            if why:
                latest[doc_id] = earlier
                rejected.append(_reject(origins[later.row], why))
                continue
            latest[doc_id] = later
            where = _where(origins[later.row])
            reason = f"an earlier version of doc_id {doc_id!r}; {where} has a later one, which was taken"
            rejected.append(_reject(origins[earlier.row], reason))
    return latest, duplicates, rejected


def _where(origin: RawRow) -> str:
    return f"{origin.file}:{origin.row}"


def _reject(origin: RawRow, reason: str) -> Rejected:
    return Rejected(origin.file, origin.row, reason, raw_text(origin.values))


def _columns(table: pa.Table, *names: str) -> Iterator[tuple[Any, ...]]:
    """The rows of these columns."""
    return zip(*(table.column(name).to_pylist() for name in names), strict=True)
