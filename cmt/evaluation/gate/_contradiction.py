"""Whether a new document contradicts the document of a canary, or the reader is mistaken."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from cmt.answering.answerer import Answerer
from cmt.answering.judge import MARGIN, SURE, Judge, Statement, same_fact
from cmt.bank.bank import Bank
from cmt.evaluation.gate.canary import Canary, contradicts
from cmt.questions.gaps import question_on
from cmt.text.answers import same_value
from cmt.text.display import without_publisher


class _Pair(NamedTuple):
    """A canary, and a new document that gives another answer."""

    canary: Canary
    own: list[dict[str, Any]]  # memories of the canary's document
    new: list[dict[str, Any]]  # memories of the new document
    answer: str  # the answer of the new document, read without others


def contradicted(
    answerer: Answerer, regressed: Sequence[Canary], rows: pa.Table, texts: Mapping[str, str]
) -> set[str]:
    """question_ids of the canaries whose new document states another value of the same fact.

    `rows` are the memories of the slice, `texts` its documents by doc_id. The canary's document and
    the new one state the same fact if three answers have a confidence of at least SURE, each from
    one document that is read without others:

    1. The new document answers the canary with another value. Its confidence is at most MARGIN
       below that of the canary's document.
    2. The canary's document gives its own value for a question made from the new document's
       statement.
    3. The new document gives its own value for a question made from the statement in the canary's
       document.
    """
    # 1. The new document answers the canary, with another value.
    questions = [canary.question for canary in regressed]
    own = [current_memories(answerer.bank, canary.doc_id) for canary in regressed]
    new = [
        rows.filter(pc.equal(rows["doc_id"], canary.answered_from)).to_pylist()
        for canary in regressed
    ]
    answers = zip(
        answerer.answer_from(questions, own), answerer.answer_from(questions, new), strict=True
    )
    pairs = []
    for canary, own_rows, new_rows, (own_answer, answer) in zip(
        regressed, own, new, answers, strict=True
    ):
        least = max(SURE, own_answer.uncalibrated - MARGIN)
        is_sure = answer.known and answer.uncalibrated >= least
        if is_sure and contradicts(answer.text, canary.references):
            pairs.append(_Pair(canary, own_rows, new_rows, answer.text))
    # 2. The canary's document answers what the new one states, with a right answer.
    stated = [question_on(texts[pair.canary.answered_from], pair.answer) for pair in pairs]
    own, right = [pair.own for pair in pairs], [pair.canary.references for pair in pairs]
    pairs = _agreeing(answerer, pairs, stated, own, right)
    # 3. The new one answers what the canary's document states, with its own value.
    stated = [stated_question(pair.own, pair.canary.references) for pair in pairs]
    new, right = [pair.new for pair in pairs], [(pair.answer,) for pair in pairs]
    pairs = _agreeing(answerer, pairs, stated, new, right)
    return {pair.canary.question_id for pair in pairs}


def _agreeing(
    answerer: Answerer,
    pairs: Sequence[_Pair],
    questions: Sequence[str | None],
    memories: Sequence[list[dict[str, Any]]],
    references: Sequence[tuple[str, ...]],
) -> list[_Pair]:
    """The pairs whose memories surely answer their question with a reference; a pair without a
    question stays.
    """
    answers = answerer.answer_from([question or "" for question in questions], memories)
    agreeing = []
    for pair, question, answer, right in zip(pairs, questions, answers, references, strict=True):
        is_sure = answer.known and answer.uncalibrated >= SURE
        if question is None or (is_sure and not contradicts(answer.text, right)):
            agreeing.append(pair)
    return agreeing


def stated_question(memories: Sequence[Mapping[str, Any]], values: Sequence[str]) -> str | None:
    """The question that a document answers with one of `values`; None if the bank kept no such text
    of it.
    """
    text = "\n".join(map(without_publisher, memories))
    return next(filter(None, (question_on(text, value) for value in values)), None)


def current_memories(bank: Bank, doc_id: str) -> list[dict[str, Any]]:
    """The current rows of the document `doc_id` in `bank`, with their keys."""
    rows = bank.rows(bank.schema.names, set(bank.documents({doc_id})["memory_id"].to_pylist()))
    current: list[dict[str, Any]] = rows.filter(pc.is_null(rows["superseded_at"])).to_pylist()
    return current


def compare_documents(
    answerer: Answerer,
    question: str,
    earlier: Sequence[Mapping[str, Any]],
    later: Sequence[Mapping[str, Any]],
) -> tuple[Statement, float]:
    """What the later of two documents says about `question`, and P(it changes the answer).

    1. Read each memory of both documents by itself; of each document the best statement counts.
    2. Equal values, a missing value or texts about different facts: the probability is 0.
    3. Otherwise the judge compares the two statements.

    `earlier` and `later` are the rows of each document in the bank, at least one each.
    """
    rows = [*earlier, *later]
    read = list(zip(answerer.statements([question] * len(rows), rows), rows, strict=True))
    old, old_row = max(read[: len(earlier)], key=lambda pair: pair[0].score)
    new, new_row = max(read[len(earlier) :], key=lambda pair: pair[0].score)
    if not old.answer or not new.answer or same_value(old.answer, new.answer):
        return new, 0.0
    if same_fact(question, {**old_row, "text": old.text}, {**new_row, "text": new.text}) == "no":
        return new, 0.0
    return new, Judge(answerer.model.cross_encoder).judge(question, old, new).changed
