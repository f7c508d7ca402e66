"""The history of a question: its values, each with the dates between which it holds
(docs/concepts.md#histories).

    read    ψ reads the memories near the question, including superseded ones, and the memories
       │    that `supersedes` or a recorded change links with the best one
    keep    the statements on the fact of the best one
       │
    walk    by date: equal values become one, another value ends it
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from itertools import repeat, zip_longest
from typing import Any

from cmt.answering._compare import compare
from cmt.answering._fact_links import FactLinks, ReadDocument, near_memories, read_documents
from cmt.answering._related import add_related
from cmt.answering.answerer import Answerer
from cmt.answering.confidence import verdict_of
from cmt.answering.dated_values import DatedValue, FactHistory, HowKnown
from cmt.answering.judge import OPEN, Judge, Statement
from cmt.retrieval.selector import Key, Selection
from cmt.text.answers import same_value
from cmt.text.question_names import NamesFound


def fact_history(answerer: Answerer, question: str, *, as_of: datetime | None) -> FactHistory:
    """The history of the fact that `question` asks for, from the documents published by `as_of`
    (None: by now). A ψ that scores no tokens has none.
    """

    def select_near(key: Key) -> Selection:
        wanted: dict[str, Any] = {"question": question, "key": key, "as_of": as_of}
        selection = near_memories(answerer, **wanted)
        changes, may_change = answerer.changes_of, answerer.may_change
        return add_related(selection, answerer.bank, changes, may_change=may_change, **wanted)

    # 1. read the near memories, and choose the best one
    near = answerer.read(question, select_near, as_of=as_of)
    judge = Judge(answerer.model.cross_encoder)
    compared = compare(near, judge)
    statements = compared.statements or near.statements()  # a single memory is compared with none
    best = _best(statements, compared.shifts)
    if best is None:
        return FactHistory(question, as_of, ())
    names = answerer.find_names(compared, best)
    documents = read_documents(near, statements, names)
    anchor = documents[best]
    if _refused(answerer, anchor, names):
        return FactHistory(question, as_of, ())
    # 2. read what is connected with it
    links = FactLinks(answerer, question, anchor, near.selection.changes)
    others = links.unread({document.row["memory_id"] for document in documents})
    if others:

        def select_connected(key: Key) -> Selection:
            return links.select(others, key, as_of)

        further = answerer.read(question, select_connected, as_of=as_of)
        documents += read_documents(further, further.statements(), names)
    # 3. keep the statements on the fact, and walk them by date
    kept = [document for document in _best_chunks(documents) if links.keeps(document, judge)]
    values = _walk(sorted(kept, key=lambda one: (one.since, one.row["doc_id"])), links, judge)
    return FactHistory(question, as_of, _dated(answerer, values, names, as_of))


def _best(statements: Sequence[Statement], shifts: Sequence[float]) -> int | None:
    """The memory that gives the answer, its score shifted by the comparison; None if ψ scores
    none.
    """
    best, best_score = None, -math.inf
    for memory, (statement, shift) in enumerate(
        zip(statements, shifts or repeat(0.0), strict=False)
    ):
        score = statement.score + statement.prior + shift
        if score > best_score:
            best, best_score = memory, score
    return best


def _refused(answerer: Answerer, anchor: ReadDocument, names: NamesFound) -> bool:
    """Whether the answer to the question would be "not in memory"."""
    calibrated = answerer.calibration.apply(anchor.confidence)
    verdict = verdict_of(anchor.confidence, calibrated, answerer.params.selection, names)
    return verdict == "not_in_memory"


def _best_chunks(documents: Sequence[ReadDocument]) -> list[ReadDocument]:
    """The memory of each version of a document that states a value best."""
    best = dict[tuple[str, datetime], ReadDocument]()
    for document in sorted(documents, key=lambda one: one.statement.score):
        best[document.row["doc_id"], document.published_at] = document
    return list(best.values())


@dataclass
class _Stretch:
    """A value, and the documents that state it one after the other."""

    documents: list[ReadDocument]
    known: HowKnown
    contested: bool = False


def _walk(documents: Sequence[ReadDocument], links: FactLinks, judge: Judge) -> list[_Stretch]:
    """The values by date.

    1. A document that states the value in force is added to it.
    2. Another value replaces it, unless the comparison of both texts says that it does not hold.
    """
    stretches = list[_Stretch]()
    for document in documents:
        if not stretches:
            stretches.append(_Stretch([document], "stated"))
            continue
        before = stretches[-1].documents[-1]
        if same_value(before.value, document.value):
            stretches[-1].documents.append(document)
            continue
        known, holds = links.between(before, document) or "compared", 1.0
        if known == "compared":
            holds = judge.judge(links.question, before.statement, document.statement).holds
        if holds > 0.5:
            stretches.append(_Stretch([document], known, holds <= 1 - OPEN))
    return stretches


def _dated(
    answerer: Answerer, stretches: Sequence[_Stretch], names: NamesFound, as_of: datetime | None
) -> tuple[DatedValue, ...]:
    """The values with the dates between which they hold."""
    ids = {one.row["memory_id"] for stretch in stretches for one in stretch.documents}
    columns = ["memory_id", "superseded_at"]
    ends = dict[str, datetime | None]()
    for row in answerer.bank.rows(columns, ids).to_pylist():
        end = row["superseded_at"]
        ends[row["memory_id"]] = end if end and (as_of is None or end <= as_of) else None
    values = []
    for stretch, following in zip_longest(stretches, stretches[1:]):
        superseded = [ends[one.row["memory_id"]] for one in stretch.documents]
        surest = max(stretch.documents, key=lambda one: one.confidence)
        calibrated = answerer.calibration.apply(surest.confidence)
        limits = answerer.params.selection
        verdict = verdict_of(surest.confidence, calibrated, limits, names)
        values.append(
            DatedValue(
                surest.value,
                stretch.documents[0].since,
                _until(stretch, following, superseded),
                stretch.known,
                round(calibrated, 4),
                "likely" if verdict == "likely" and not stretch.contested else "unsure",
                tuple(one.source for one in stretch.documents),
            )
        )
    return tuple(values)


def _until(
    stretch: _Stretch, following: _Stretch | None, superseded: Sequence[datetime | None]
) -> datetime | None:
    """The first of: the start of the next value, the day after the last one that the text names,
    and the date from which the last document is superseded, unless it is by the next value's, which
    may announce it for later.

    `superseded`: of each document; None: it is not.
    """
    ends = list[datetime]()
    if following:
        ends.append(following.documents[0].since)
    if last := stretch.documents[-1].statement.period.end:
        ends.append(datetime.combine(last + timedelta(days=1), time.min, UTC))
    hidden = [end for end in superseded if end is not None]
    if len(hidden) == len(superseded):
        by_next = following and following.documents[0].published_at == max(hidden)
        if not by_next:
            ends.append(max(hidden))
    return min(ends, default=None)
