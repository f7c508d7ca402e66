"""The questions with the lowest F1, asked again to show the selected memories and the windows that
the LM read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from cmt.answering.answer import Source
from cmt.answering.answerer import Answerer
from cmt.report._highlights import Highlights, passage
from cmt.text.answers import normalise_answer

SHOWN = 12  # maximum number of questions
_SOURCES = 8  # of each question


@dataclass(frozen=True)
class Selected:
    """A source of an answer, with its text in pieces."""

    source: Source
    passage: Highlights
    right: bool  # whether it is the question's gold document


@dataclass(frozen=True)
class Failure:
    """A question whose answer scored less than 1, with the answer and its sources."""

    row: Mapping[str, Any]  # RECORD_SCHEMA
    # answer of the bank in its present state; empty if it is the recorded one or "not in memory"
    answered_now: str
    reason: str
    selected: Sequence[Selected]


def worst_answers(records: pa.Table, answerer: Answerer) -> list[Failure]:
    """The SHOWN questions with the lowest F1 below 1, ties by descending confidence, answered again
    by `answerer`.
    """
    rows = [row for row in records.to_pylist() if row["cmt_f1"] < 1]
    rows = sorted(rows, key=lambda row: (row["cmt_f1"], -row["confidence"], row["question_id"]))[
        :SHOWN
    ]
    answers = answerer.answer(
        [row["question"] for row in rows], as_of=[row["asked_at"] for row in rows]
    )
    failures = []
    for row, answer in zip(rows, answers, strict=True):
        sources = answer.sources[:_SOURCES]
        selected = [
            Selected(source, passage(source), source.doc_id == row["doc_id"]) for source in sources
        ]
        answered_now = answer.text if answer.known and answer.text != row["cmt"] else ""
        failures.append(Failure(row, answered_now, _reason(row, selected), selected))
    return failures


def _reason(row: dict[str, Any], selected: Sequence[Selected]) -> str:
    """The first step at which the question failed: selection, confidence, windows or the LM."""
    gold_passages = [source.passage for source in selected if source.right]
    if not gold_passages:
        return "The right document was not selected."
    if not row["cmt"]:
        return "The right document was selected, but the confidence was below the threshold."
    windows = [window for gold in gold_passages for window in gold.windows]
    read = normalise_answer(" … ".join(windows))
    if windows and not any(normalise_answer(gold) in read for gold in row["golds"]):
        return "The right document was selected, but other windows of it were read."
    return (
        f"The right document was selected{' and read' if windows else ''}, but the LM "
        "answered something else."
    )
