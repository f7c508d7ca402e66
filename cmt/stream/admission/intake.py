"""Admission of valid rows to the stream: each row is compared with the store and with the others of
its ingest.

docs/concepts.md lists the possible outcomes for a document. A question needs its document in the
same ingest or in the store; if that document repeats another one, the question is about the other
one. A known question_id is a duplicate.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from operator import attrgetter, itemgetter
from typing import Any

import pyarrow as pa

from cmt.common.arrow import replace_column, rows_of, take
from cmt.stream.admission._precedence import KnownVersions
from cmt.stream.admission.authority import Authority
from cmt.stream.limits import DEFAULT_LIMITS, Limits
from cmt.stream.rows import RawRows, ValidatedRows, reject, validate_rows
from cmt.stream.schema import Checks, Rejected
from cmt.timeline import Timeline, Version

IDENTITY = ("doc_id", "published_at", "sha256", "title", "url", "supersedes")
"""The columns of a document that decide whether the store has it."""
NEW = "new/999999999"  # the slice of the rows of an ingest, later than all others


@dataclass
class StoredRows:
    """The rows of a store that an ingest may repeat or change, without their texts."""

    versions: Iterable[
        Version
    ] = ()  # of the store, on which the visibility of the new rows depends
    documents: set[tuple[Any, ...]] = field(
        default_factory=set
    )  # IDENTITY of the documents that the ingest names
    questions: dict[str, str] = field(default_factory=dict)  # question_id → question


@dataclass(frozen=True)
class Intake:
    """The new rows of an ingest, and the fate of its other rows."""

    documents: pa.Table  # all rows that are not in the store, in their order
    questions: pa.Table
    versions: int
    repeats: int  # number of `documents` that repeat another one of their source
    duplicates: int
    question_duplicates: int
    rejected: tuple[Rejected, ...]
    dangling: tuple[tuple[str, str], ...]
    """doc_id and `supersedes` of the `documents` that supersede an unknown document."""
    timeline: Timeline  # of `documents` and the versions of the index


def select(
    documents: ValidatedRows,
    questions: ValidatedRows,
    *,
    unread: Sequence[Rejected],
    stored: StoredRows,
    authority: Authority | None = None,
) -> Intake:
    """Select the rows that `index` lacks. `unread`: rejected by a reader. `authority` needs
    publishers as `source`.
    """
    # 1. the documents, and what they stand for
    versions = versions_of(documents.table)
    rows, duplicates, rejected_documents = _select_documents(documents, versions, stored, authority)
    taken, new = take(documents.table, rows), [versions[row] for row in rows]
    timeline = Timeline([*stored.versions, *new])
    # 2. the questions, each about the document that its document stood for when it was asked
    before = {version.doc_id for version in stored.versions}
    added = {version.doc_id for version in new}
    known = before | added
    new_questions, question_duplicates, rejected_questions = _select_questions(
        questions, stored, known, timeline
    )
    # 3. the counts
    rejected = (
        *unread,
        *documents.rejected,
        *questions.rejected,
        *rejected_documents,
        *rejected_questions,
    )
    return Intake(
        documents=taken,
        questions=new_questions,
        versions=len(new) - len(added - before),
        repeats=sum(version[:2] in timeline.repeats for version in new),
        duplicates=duplicates,
        question_duplicates=question_duplicates,
        rejected=tuple(sorted(rejected, key=attrgetter("file", "row"))),
        dangling=tuple(
            (v.doc_id, v.supersedes) for v in new if v.supersedes and v.supersedes not in known
        ),
        timeline=timeline,
    )


def versions_of(table: pa.Table) -> list[Version]:
    """The versions that `table` (DOCUMENT_SCHEMA) would add to a store."""
    rows = rows_of(table, "doc_id", "published_at", "source", "sha256", "supersedes")
    return [Version(doc_id, date, NEW, *record) for doc_id, date, *record in rows]


def select_with_unanswerable(
    raw: RawRows, *, now: datetime, limits: Limits = DEFAULT_LIMITS
) -> Intake:
    """The valid rows of `raw`: of each document the latest version, of each text the first
    document.

    Rows dated after `now` are rejected. Questions with an empty list of `answers` are kept (SQuAD
    2.0).
    """
    documents, questions = validate_rows(raw, Checks(now, limits, allow_unanswerable=True))
    intake = select(documents, questions, unread=raw.rejected, stored=StoredRows())
    rows = list(rows_of(intake.documents, "doc_id", "published_at"))
    latest = {doc_id: date for doc_id, date in sorted(rows, key=itemgetter(1))}
    kept = [
        row
        for row, key in enumerate(rows)
        if latest[key[0]] == key[1] and key not in intake.timeline.repeats
    ]
    originals = [
        intake.timeline.original(doc_id) for doc_id in intake.questions["doc_id"].to_pylist()
    ]
    return replace(
        intake,
        documents=take(intake.documents, kept),
        questions=replace_column(intake.questions, "doc_id", originals),
    )


def _select_documents(
    documents: ValidatedRows,
    versions: Sequence[Version],
    stored: StoredRows,
    authority: Authority | None,
) -> tuple[list[int], int, list[Rejected]]:
    """Return the rows to take, the number of rows that are in the store already, and the rejected
    rows.
    """
    rows = list(rows_of(documents.table, *IDENTITY))
    known_versions = KnownVersions(stored.versions, versions)
    known_rows, taken = set(stored.documents), dict[tuple[str, datetime], int]()
    duplicates, rejected = 0, list[Rejected]()
    for row in sorted(range(len(rows)), key=lambda row: versions[row].published_at):
        version, reason = versions[row], None
        is_known, same_date = rows[row] in known_rows, taken.get(version[:2])
        if authority:
            reason = known_versions.refusal(version, authority, is_stored=is_known)
        if not reason and not is_known:
            if same_date is not None:
                where = f"{documents.origins[same_date].file}:{documents.origins[same_date].row}"
                reason = (
                    f"doc_id {version.doc_id!r} has other content at the same date in {where}; "
                    "give one a later date"
                )
            elif ring := known_versions.ring(version):
                reason = (
                    f"documents would supersede each other, two of them at one date: {ring}; "
                    "leave supersedes out"
                )
        if reason:
            rejected.append(reject(documents.origins[row], reason))
        elif is_known:
            duplicates += 1
        else:
            taken[version[:2]] = row
            known_rows.add(rows[row])
            known_versions.add(version)
    return sorted(taken.values()), duplicates, rejected


def _select_questions(
    questions: ValidatedRows, stored: StoredRows, known: Collection[str], timeline: Timeline
) -> tuple[pa.Table, int, list[Rejected]]:
    """Return new rows, number of duplicates, rejected rows. `known`: the doc_ids of the store and
    of the ingest.
    """
    new = list[int]()
    doc_ids = list[str]()
    rejected = list[Rejected]()
    asked = dict(stored.questions)
    rows = rows_of(questions.table, "question_id", "doc_id", "question", "asked_at")
    for row, (question_id, doc_id, question, asked_at) in enumerate(rows):
        known_question = asked.get(question_id)
        if known_question == question:
            continue
        if known_question is not None:
            reason = (
                f"question_id {question_id!r} belongs to another question; give this one another "
                "question_id"
            )
        elif doc_id not in known:
            reason = (
                f"doc_id {doc_id!r} is neither in this source nor in the store; ingest the "
                "document first"
            )
        else:
            asked[question_id] = question
            new.append(row)
            doc_ids.append(timeline.original(doc_id, asked_at))
            continue
        rejected.append(reject(questions.origins[row], reason))
    table = replace_column(take(questions.table, new), "doc_id", doc_ids)
    return table, questions.table.num_rows - len(new) - len(rejected), rejected
