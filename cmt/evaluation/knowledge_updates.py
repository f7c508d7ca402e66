"""What an update does to an answer: before it, after it, and as of the time before it."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from cmt.common.arrow import replace_column, rows_with
from cmt.errors import StreamError
from cmt.evaluation.curve import Curve, Point, point, points_table
from cmt.evaluation.metrics import mark, normalise_answer
from cmt.evaluation.sampling import draw
from cmt.evaluation.testbed import LIMIT, BankTestbed, as_of

KNOWN = 0.5
"""F1 from which on an answer counts as known."""


class _Pair(NamedTuple):
    """The same question about a document and about its update, with different answers: two rows of QUESTION_SCHEMA."""

    old: dict[str, Any]
    new: dict[str, Any]


def knowledge_updates(testbed: BankTestbed, *, limit: int = LIMIT) -> Curve:
    """F1 on questions whose answer an update changes: before it, after it, and after it as of the time before it.

    Documents are banked by their place in a chain of updates, so that an update is not in the bank while the questions
    about the document before it are asked. Raises StreamError if no question has two answers.
    """
    pairs, places = _pairs(testbed, limit), _places_in_chain(testbed)
    testbed.progress.stage("supersession", 3 * len(pairs))
    answered: defaultdict[str, list[pa.Table]] = defaultdict(list)
    old_answers: list[Sequence[str]] = []  # to the questions that `after` asks
    seconds = 0.0
    with testbed.temporary_bank() as bank:
        # 1. bank the documents by their place, and ask what is asked at that time
        answerer = testbed.answerer_for(bank)
        for place in range(max(places.values()) + 1):
            testbed.add(bank, [doc_id for doc_id, document_place in places.items() if document_place == place])
            not_updated = [pair for pair in pairs if places[pair.old["doc_id"]] == place]
            updated = [pair for pair in pairs if places[pair.new["doc_id"]] == place]
            old_answers += [pair.old["answers"] for pair in updated]
            for name, questions in _questions(testbed, not_updated, updated).items():
                records, asked_seconds = testbed.ask(answerer, questions)
                answered[name].append(records)
                seconds += asked_seconds
        # 2. a point for each view of the answers
        points: list[Point] = []
        for x, (series, records) in enumerate(_series(answered, old_answers, pairs).items()):
            if records.num_rows:
                seed = testbed.answerer.params.seed
                measured = point(records, bank=bank, series=series, x=x, seconds=seconds / 3, seed=seed)
                points.append({**measured, "known": _known(records)})
    return Curve("supersession", "Before and after the news", {}, points_table(points), testbed.lineage)


def _places_in_chain(testbed: BankTestbed) -> dict[str, int]:
    """doc_id → place in its chain of updates: 0 for a document that supersedes none in the bank."""
    places: dict[str, int] = {}
    for doc_id in testbed.documents:
        chain = [doc_id]
        older = testbed.documents[doc_id]["supersedes"]
        while older is not None and older in testbed.documents and older not in chain:
            chain.append(older)
            older = testbed.documents[older]["supersedes"]
        places[doc_id] = len(chain) - 1
    return places


def _pairs(testbed: BankTestbed, limit: int) -> list[_Pair]:
    """At most `limit` seeded pairs of questions with equal words, on a document and its update, and no common answer.

    Raises StreamError if there are none.
    """
    by_document: dict[str, list[dict[str, Any]]] = {}
    for row in testbed.asked(testbed.documents).to_pylist():
        by_document.setdefault(row["doc_id"], []).append(row)
    pairs = [
        _Pair(old, new)
        for doc_id, document in testbed.documents.items()
        for new in by_document.get(doc_id, ())
        for old in by_document.get(document["supersedes"] or "", ())
        if normalise_answer(old["question"]) == normalise_answer(new["question"])
        and not _normalised(old["answers"]) & _normalised(new["answers"])
    ]
    if not pairs:
        raise StreamError(
            "no question of the stream has another answer in a document that supersedes its own: `cmt ingest` more"
        )
    return draw(pairs, limit=limit, seed=testbed.answerer.params.seed)


def _questions(testbed: BankTestbed, not_updated: Sequence[_Pair], updated: Sequence[_Pair]) -> dict[str, pa.Table]:
    """What is asked in one state of the bank: the old questions of pairs without their update yet, both of the others.

    `before` and `after` are asked as of the end of the stream, `as of` just before the update.
    """
    just_before = [
        min(pair.old["asked_at"], testbed.documents[pair.new["doc_id"]]["published_at"] - timedelta(microseconds=1))
        for pair in updated
    ]
    asked = {
        "before": ([pair.old for pair in not_updated], [testbed.end] * len(not_updated)),
        "after": ([pair.new for pair in updated], [testbed.end] * len(updated)),
        "as of": ([pair.old for pair in updated], just_before),
    }
    schema = testbed.questions.schema
    return {name: as_of(pa.Table.from_pylist(rows, schema=schema), dates) for name, (rows, dates) in asked.items()}


def _series(
    answered: Mapping[str, Sequence[pa.Table]], old_answers: Sequence[Sequence[str]], pairs: Sequence[_Pair]
) -> dict[str, pa.Table]:
    """Records (RECORD_SCHEMA) by the name of their bar; `old_answers` are those to the questions of `after`."""
    before, after, as_of_before = (pa.concat_tables(answered[name]) for name in ("before", "after", "as of"))
    known = set(before.filter(pc.greater_equal(before["cmt_f1"], KNOWN))["question_id"].to_pylist())
    known_before = [pair.new["question_id"] for pair in pairs if pair.old["question_id"] in known]
    return {
        "before: the old answer": before,
        "after: the new answer": after,
        "after, where the old one was known: the new answer": rows_with(after, "question_id", known_before),
        "after: still the old one (lower is better)": replace_column(after, "golds", old_answers),
        "after, as of before: the old answer": as_of_before,
    }


def _known(records: pa.Table) -> float:
    """Share of known answers, in %."""
    return 100 * float((mark(records["cmt"].to_pylist(), records["golds"].to_pylist()).f1 >= KNOWN).mean())


def _normalised(answers: Iterable[str]) -> set[str]:
    return set(map(normalise_answer, answers))
