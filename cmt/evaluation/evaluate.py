"""What is asked after a round, and how the answers score.

Every question is asked as of its own date, so what was true then is right, even if an article superseded it later.
"""

import hashlib
import heapq
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from cmt.answering.prompting import Prediction, closed_book, rag
from cmt.common.progress import OnProgress
from cmt.config import Params
from cmt.evaluation.answer_record import AnswerRecord, RecordedAnswer
from cmt.evaluation.metrics import Floats, Scores, mark, recall_at_k, summarise

if TYPE_CHECKING:
    from cmt.answering.answerer import Answerer
    from cmt.bank.bank import Bank
    from cmt.lm.decoding import Complete
    from cmt.lm.model import FrozenLM
    from cmt.stream.store import Slice, SliceStore

RECORD_SCHEMA = pa.schema(
    [
        pa.field("question_id", pa.string(), nullable=False),
        pa.field("doc_id", pa.string(), nullable=False),
        pa.field("question", pa.string(), nullable=False),
        pa.field("golds", pa.list_(pa.string()), nullable=False),
        pa.field("asked_at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("cmt", pa.string(), nullable=False),
        pa.field("cmt_f1", pa.float64(), nullable=False),
        pa.field("sources", pa.list_(pa.string()), nullable=False),
        pa.field("recalled", pa.bool_(), nullable=False),
        pa.field("confidence", pa.float64(), nullable=False),
        pa.field("closed", pa.string()),
        pa.field("closed_f1", pa.float64()),
        pa.field("rag", pa.string()),
        pa.field("rag_f1", pa.float64()),
    ]
)


@dataclass(frozen=True)
class SystemScores:
    """One way of answering: its name, its scores, and the wall-clock seconds it took.

    Answers that a cache or record had already took none.
    """

    system: str
    scores: Scores
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Scores 0–100 with two decimals, recall 0–1 with four."""
        scores = self.scores
        return {
            "row": self.system,
            "em": round(scores.em, 2),
            "em_prefix": round(scores.em_prefix, 2),
            "f1": round(scores.f1, 2),
            "ci": [round(bound, 2) for bound in scores.ci],
            "recall": None if scores.recall is None else round(scores.recall, 4),
            "n": scores.n,
            "seconds": round(self.seconds, 2),
        }


@dataclass(frozen=True)
class Evaluation:
    """The rows `cmt` and, if asked for and possible, `closed` and `rag`; a record a question in RECORD_SCHEMA.

    The records keep the order of the questions; columns of a row that was not run are null.
    """

    systems: tuple[SystemScores, ...]
    records: pa.Table

    def system(self, name: str) -> SystemScores | None:
        """The row of that name, or None when it was not run."""
        return next((system for system in self.systems if system.system == name), None)

    def to_json(self) -> dict[str, Any]:
        """The rows, and the memory's `scores` by themselves; ready for json."""
        rows = [system.to_json() for system in self.systems]
        return {"scores": {name: rows[0][name] for name in ("em", "em_prefix", "f1", "recall")}, "rows": rows}


@dataclass(frozen=True)
class _Run:
    """What one way of answering said; `depth`: how many retrieved documents count for recall, None without any."""

    name: str
    predictions: Sequence[Prediction]
    depth: int | None
    seconds: float


def round_questions(*, store: "SliceStore", slice_: "Slice", earlier: int, seed: int) -> pa.Table:
    """The questions of `slice_`, then `earlier` of the slices before it (all, when there are fewer), each by date.

    Each question draws its lot from the seed and its own id: neither the order of rows nor later slices change it, and
    most of a sample stays from round to round.
    """
    order = [known.slice_id for known in store.slices()]
    before = order[: order.index(store.slice(slice_.slice_id).slice_id)]
    own = store.questions(slice_)
    past = pa.concat_tables([own.slice(0, 0), *(store.questions(store.slice(name)) for name in before)])
    lots = [
        hashlib.sha256(f"{seed}\0{name}\0{question}".encode()).digest()
        for name, question in zip(past["question_id"].to_pylist(), past["question"].to_pylist(), strict=True)
    ]
    drawn = heapq.nsmallest(earlier, range(len(lots)), key=lots.__getitem__)
    return pa.concat_tables([_by_date(own), _by_date(_rows(past, drawn))])


def evaluate(
    *,
    answerer: "Answerer",
    lm: "FrozenLM",
    bank: "Bank",
    questions: pa.Table,
    params: Params,
    baselines: bool,
    complete: "Complete | None" = None,
    record: AnswerRecord | None = None,
    on_progress: OnProgress | None = None,
) -> Evaluation:
    """Ask `questions` (QUESTION_SCHEMA) of the memory and, with `baselines`, of the LM closed-book and by RAG top-1.

    `on_progress` is called for every answer: one a question, three with `baselines`. "Not in memory" counts as an empty
    answer.
    What the cache behind `complete` and `record` have of an earlier evaluation is not asked again.
    """
    # texts of like length waste no padding, and the fixed order makes the intervals repeatable
    order = _by_length(questions)
    asked = _rows(questions, order)
    texts, moments = asked["question"].to_pylist(), asked["asked_at"].to_pylist()
    started = time.perf_counter()
    if record:
        replies = record.answer(answerer, texts, as_of=moments, on_progress=on_progress)
    else:
        replies = [
            RecordedAnswer.of(answer) for answer in answerer.answer(texts, as_of=moments, on_progress=on_progress)
        ]
    runs = [_Run("cmt", replies, params.selection.top_k, time.perf_counter() - started)]
    if baselines:
        runs += _baselines(lm, bank, texts, moments, params=params, complete=complete, on_progress=on_progress)
    golds = asked["answers"].to_pylist()
    marks = [mark([prediction.text for prediction in run.predictions], golds) for run in runs]
    recalled = [_recalled(run, asked["doc_id"].to_pylist()) for run in runs]
    rows = tuple(
        SystemScores(run.name, summarise(marks_, recalled=hits, seed=params.seed), run.seconds)
        for run, marks_, hits in zip(runs, marks, recalled, strict=True)
    )
    records = _records(asked, runs, [marks_.f1 for marks_ in marks], recalled[0] or [], replies)
    back = sorted(range(len(order)), key=order.__getitem__)
    return Evaluation(rows, _rows(records, back))


def _baselines(
    lm: "FrozenLM",
    bank: "Bank",
    texts: Sequence[str],
    moments: Sequence[datetime],
    *,
    params: Params,
    complete: "Complete | None",
    on_progress: OnProgress | None,
) -> list[_Run]:
    """The rows `closed` and, where the bank keeps text, `rag`; the LM itself, or its cache, speaks."""
    ways: tuple[tuple[str, Callable[..., list[Prediction] | None], int | None], ...] = (
        ("closed", partial(closed_book, lm, texts), None),
        ("rag", partial(rag, lm, bank, texts, moments), 1),
    )
    runs = []
    for name, ask, depth in ways:
        started = time.perf_counter()
        predictions = ask(
            max_new_tokens=params.answering.max_new_tokens,
            batch_size=params.answering.batch_size,
            complete=complete,
            on_progress=on_progress,
        )
        if predictions is not None:
            runs.append(_Run(name, predictions, depth, time.perf_counter() - started))
        elif on_progress:
            on_progress(len(texts))
    return runs


def _recalled(run: _Run, golds: Sequence[str]) -> list[bool] | None:
    if run.depth is None:
        return None
    depth = run.depth
    return [
        bool(recall_at_k(prediction.doc_ids, gold, depth))
        for prediction, gold in zip(run.predictions, golds, strict=True)
    ]


def _records(
    asked: pa.Table,
    runs: Sequence[_Run],
    f1s: Sequence[Floats],
    recalled: Sequence[bool],
    replies: Sequence[RecordedAnswer],
) -> pa.Table:
    columns: dict[str, Any] = {name: asked[name] for name in ("question_id", "doc_id", "question", "asked_at")}
    columns |= {
        "golds": asked["answers"],
        "sources": [prediction.doc_ids for prediction in runs[0].predictions],
        "recalled": recalled,
        "confidence": [reply.confidence for reply in replies],
    }
    for run, values in zip(runs, f1s, strict=True):
        columns |= {run.name: [prediction.text for prediction in run.predictions], f"{run.name}_f1": values}
    absent = [None] * asked.num_rows
    return pa.table([columns.get(name, absent) for name in RECORD_SCHEMA.names], schema=RECORD_SCHEMA)


def _rows(table: pa.Table, places: Sequence[int]) -> pa.Table:
    return table.take(pa.array(places, pa.int64()))  # an empty list alone has no type that take() accepts


def _by_length(questions: pa.Table) -> list[int]:
    keys = list(zip(*(questions[name].to_pylist() for name in ("question", "asked_at", "question_id")), strict=True))
    return sorted(range(len(keys)), key=lambda row: (len(keys[row][0]), keys[row]))


def _by_date(questions: pa.Table) -> pa.Table:
    return questions.sort_by([("asked_at", "ascending"), ("question_id", "ascending"), ("question", "ascending")])
