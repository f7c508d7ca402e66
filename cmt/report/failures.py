"""The questions that went worst, asked again: what was selected for them, and which windows of it were read."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from cmt.evaluation.metrics import normalise_answer
from cmt.report.highlights import Highlights, passage

if TYPE_CHECKING:
    from cmt.answering.answer import Answer, Source
    from cmt.answering.answerer import Answerer

SHOWN = 12
_SOURCES = 8


@dataclass(frozen=True)
class Selected:
    """A source of an answer, and its text with what was read of it."""

    source: "Source"
    passage: Highlights
    right: bool
    """Whether it is the question's own document."""


@dataclass(frozen=True)
class Failure:
    """A question, what it should have been answered and what it was."""

    question: str
    asked_at: datetime
    doc_id: str
    golds: Sequence[str]
    said: str
    """"" when the memory said that it does not know."""
    f1: float
    confidence: float
    again: str
    """What is answered now, where that is something else."""
    reason: str
    selected: Sequence[Selected]


def worst_answers(records: pa.Table, answerer: "Answerer", *, shown: int = SHOWN) -> list[Failure]:
    """The questions with the lowest F1, of like ones those answered with more confidence first; perfect ones never."""
    rows = [row for row in records.to_pylist() if row["cmt_f1"] < 1]
    rows = sorted(rows, key=lambda row: (row["cmt_f1"], -row["confidence"], row["question_id"]))[:shown]
    answers = answerer.answer([row["question"] for row in rows], as_of=[row["asked_at"] for row in rows])
    return [_failure(row, answer) for row, answer in zip(rows, answers, strict=True)]


def _failure(row: dict[str, Any], answer: "Answer") -> Failure:
    selected = [Selected(one, passage(one), one.doc_id == row["doc_id"]) for one in answer.sources[:_SOURCES]]
    now = answer.text if answer.known else ""
    return Failure(
        question=row["question"],
        asked_at=row["asked_at"],
        doc_id=row["doc_id"],
        golds=row["golds"],
        said=row["cmt"],
        f1=100 * row["cmt_f1"],
        confidence=row["confidence"],
        again=now if now != row["cmt"] else "",
        reason=_reason(row, selected),
        selected=selected,
    )


def _reason(row: dict[str, Any], selected: Sequence[Selected]) -> str:
    right = [one for one in selected if one.right]
    if not right:
        return "The right document was not selected."
    if not row["cmt"]:
        return "The right document was selected, and the confidence was below the threshold."
    read = [window for one in right for window in one.passage.windows]
    if read and not _says(" … ".join(read), row["golds"]):
        return "The right document was selected, and other windows of it were read."
    return f"The right document was selected{' and read' if read else ''}, and the LM answered something else."


def _says(text: str, golds: Sequence[str]) -> bool:
    return any(normalise_answer(gold) in normalise_answer(text) for gold in golds)
