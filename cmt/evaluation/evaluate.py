"""Ask questions of the memory and of two baselines, and score the answers.

Each question is evaluated as of its `asked_at`, so answers that were superseded later still count
as correct.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from cmt.answering.answerer import Answerer
from cmt.answering.prompting import Prediction, closed_book, rag
from cmt.bank.rounds import SCORE_NAMES
from cmt.common.arrow import take
from cmt.common.progress import OnProgress
from cmt.evaluation._answer_record import RecordedAnswer, recorded_answers
from cmt.evaluation.calibration import answer_reliability, likely_shares
from cmt.evaluation.metrics import Floats, Scores, mark, summarise
from cmt.evaluation.sampling import sample_by_hash
from cmt.lm.decoding import Complete
from cmt.retrieval.selector import Selection
from cmt.stream.slices import Slice
from cmt.stream.store import SliceStore

RECORD_SCHEMA = pa.schema(
    [
        pa.field("question_id", pa.string(), nullable=False),
        pa.field("doc_id", pa.string(), nullable=False),
        pa.field("question", pa.string(), nullable=False),
        pa.field("golds", pa.list_(pa.string()), nullable=False),  # the right answers
        pa.field("asked_at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("cmt", pa.string(), nullable=False),  # empty for "not in memory"
        pa.field("cmt_f1", pa.float64(), nullable=False),  # 0–1, as the other two
        pa.field("sources", pa.list_(pa.string()), nullable=False),  # doc_ids, best first
        pa.field(
            "recalled", pa.bool_(), nullable=False
        ),  # doc_id is among the first selection.top_k sources
        pa.field("confidence", pa.float64(), nullable=False),
        pa.field("uncalibrated", pa.float64(), nullable=False),  # the confidence before calibration
        # `Selection.digest` of the memories from which a round gives the answer
        pa.field("selection", pa.string()),
        pa.field("closed", pa.string()),
        pa.field("closed_f1", pa.float64()),
        pa.field("rag", pa.string()),
        pa.field("rag_f1", pa.float64()),
    ]
)
"""One row a question: the memory's answer with its sources, and the baselines' answers, null if
they were not run.
"""


@dataclass(frozen=True)
class SystemScores:
    """The scores of one system, and the wall-clock seconds in which it computed its answers.

    Answers from a cache or a record take no time.
    """

    system: str  # its name; the JSON key is `row`
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

    def by_name(self) -> dict[str, float | None]:
        """The values of SCORE_NAMES, rounded as in `to_json`; empty if the system was asked no
        question.
        """
        values = self.to_json()
        values["f1_low"], values["f1_high"] = values["ci"]
        return {name: values[name] for name in SCORE_NAMES} if self.scores.n else {}


@dataclass(frozen=True)
class Evaluation:
    """The scores of each system and the answers to each question."""

    systems: tuple[
        SystemScores, ...
    ]  # `cmt`, and with baselines `closed` and, if the bank keeps texts, `rag`
    records: pa.Table  # RECORD_SCHEMA, in the order of the questions
    # of given answers, 0–1; None if all were refused, or if the confidence is a cosine
    calibration_error: float | None
    # `likely_shares`; None without questions, or for a cosine
    likely: tuple[float, float | None] | None

    def scores(self) -> dict[str, dict[str, float | None]]:
        """The scores of each system that was asked a question, by system and name."""
        return {system.system: scores for system in self.systems if (scores := system.by_name())}

    def to_json(self) -> dict[str, Any]:
        """`rows` has every system, the memory first; `scores` has only the memory's.

        The memory's row also has `calibration_error`, and the shares `likely` and `likely_right`.
        """
        rows = [system.to_json() for system in self.systems]
        likely, right = self.likely or (None, None)
        shares = {
            "calibration_error": self.calibration_error,
            "likely": likely,
            "likely_right": right,
        }
        rows[0] |= {
            name: None if share is None else round(share, 4) for name, share in shares.items()
        }
        return {
            "scores": {name: rows[0][name] for name in ("em", "em_prefix", "f1", "recall")},
            "rows": rows,
        }


@dataclass(frozen=True)
class _Run:
    """The answers of one system."""

    name: str
    predictions: Sequence[Prediction]
    # number of retrieved documents that count for recall; None if nothing is retrieved
    recall_depth: int | None
    seconds: float


def round_questions(
    *, store: SliceStore, slice_: Slice, own: int, earlier: int, seed: int
) -> pa.Table:
    """A sample of at most `own` questions of `slice_` and `earlier` questions of the slices before
    it, each by date.

    A hash draws the samples, so the order of rows and later slices do not change them, and most
    questions of one round are asked again in the next.
    """
    slices = store.slices()
    before = slices[: slices.index(store.slice(slice_.slice_id))]
    of_slice = store.questions(slice_)
    past = pa.concat_tables([of_slice.slice(0, 0), *map(store.questions, before)])
    columns = ("question_id", "question")
    own_sample = sample_by_hash(of_slice, limit=own, seed=seed, columns=columns)
    earlier_sample = sample_by_hash(past, limit=earlier, seed=seed, columns=columns)
    by_date = [("asked_at", "ascending"), ("question_id", "ascending"), ("question", "ascending")]
    return pa.concat_tables([own_sample.sort_by(by_date), earlier_sample.sort_by(by_date)])


def evaluate(
    answerer: Answerer,
    questions: pa.Table,
    *,
    baselines: bool = False,
    complete: Complete | None = None,
    record: Path | None = None,
    earlier: pa.Table | None = None,
    on_progress: OnProgress | None = None,
) -> Evaluation:
    """Ask `questions` (QUESTION_SCHEMA) of the memory and, with `baselines`, of the LM without
    texts and of RAG with one text.

    "Not in memory" counts as an empty answer. `complete` (a cache in front of the LM) and `record`
    (a folder, see `recorded_answers`) return the answers of an earlier evaluation without computing
    them again. `earlier`: records of the round before, whose answers are kept where they rest on
    the same memories. `on_progress` counts answers: one a question and system.
    """
    # 1. ask the systems, texts of similar length together; the fixed order makes the bootstrap
    #    intervals repeatable
    keys = list(
        zip(
            *(questions[name].to_pylist() for name in ("question", "asked_at", "question_id")),
            strict=True,
        )
    )
    order = sorted(range(len(keys)), key=lambda row: (len(keys[row][0]), keys[row]))
    asked = take(questions, order)
    memory, selections = _ask_memory(answerer, asked, record, earlier, on_progress)
    runs = [memory, *(_ask_baselines(answerer, asked, complete, on_progress) if baselines else ())]
    # 2. score each system
    columns: dict[str, Any] = {
        name: asked[name] for name in ("question_id", "doc_id", "question", "asked_at")
    }
    systems = []
    for run in runs:
        scores, f1 = scored(
            run.predictions, asked, depth=run.recall_depth, seed=answerer.params.seed
        )
        systems.append(SystemScores(run.name, scores, run.seconds))
        columns |= {
            run.name: [prediction.text for prediction in run.predictions],
            f"{run.name}_f1": f1,
        }
    # 3. a record a question, back in the order of the questions
    is_recalled = recalled(
        memory.predictions, asked["doc_id"].to_pylist(), depth=memory.recall_depth
    )
    columns |= {
        "golds": asked["answers"],
        "recalled": is_recalled,
        "sources": [a.doc_ids for a in memory.predictions],
    }
    columns |= {
        name: [getattr(a, name) for a in memory.predictions]
        for name in ("confidence", "uncalibrated")
    }
    if selections:
        columns["selection"] = [selection.digest for selection in selections]
    nulls = [None] * asked.num_rows
    records = pa.table(
        [columns.get(name, nulls) for name in RECORD_SCHEMA.names], schema=RECORD_SCHEMA
    )
    records = take(records, sorted(range(len(order)), key=order.__getitem__))
    # 4. how far the confidence can be trusted
    if not answerer.confidence_is_probability:
        return Evaluation(tuple(systems), records, calibration_error=None, likely=None)
    likely = None
    if records.num_rows:
        confidence, f1 = records["confidence"].to_numpy(), records["cmt_f1"].to_numpy()
        given = pc.not_equal(records["cmt"], "").to_numpy()
        likely = likely_shares(
            confidence, f1, given=given, likely=answerer.params.selection.likely_from
        )
    return Evaluation(tuple(systems), records, answer_reliability(records).error, likely)


def _ask_memory(
    answerer: Answerer,
    asked: pa.Table,
    record: Path | None,
    earlier: pa.Table | None,
    on_progress: OnProgress | None,
) -> tuple[_Run, list[Selection]]:
    """The memory's answers, as RecordedAnswer, and with `earlier` what they rest on."""
    texts, as_of = asked["question"].to_pylist(), asked["asked_at"].to_pylist()
    started = time.perf_counter()
    selections: list[Selection] = []
    if record:
        answers = recorded_answers(record, answerer, texts, as_of=as_of, on_progress=on_progress)
    elif earlier is None:
        answers = [
            RecordedAnswer.of(answer)
            for answer in answerer.answer(texts, as_of=as_of, on_progress=on_progress)
        ]
    else:
        selections = answerer.select(texts, as_of=as_of)
        earlier_rows = {(row["question"], row["asked_at"]): row for row in earlier.to_pylist()}
        kept = [
            _kept_answer(answerer, row, selection) if (row := earlier_rows.get(pair)) else None
            for pair, selection in zip(zip(texts, as_of, strict=True), selections, strict=True)
        ]
        new = [index for index, answer in enumerate(kept) if answer is None]
        if on_progress:
            on_progress(len(kept) - len(new))
        computed = iter(
            answerer.answer(
                [texts[index] for index in new],
                as_of=[as_of[index] for index in new],
                selections=[selections[index] for index in new],
                on_progress=on_progress,
            )
        )
        answers = [answer or RecordedAnswer.of(next(computed)) for answer in kept]
    return _Run(
        "cmt", answers, answerer.params.selection.top_k, time.perf_counter() - started
    ), selections


def _kept_answer(
    answerer: Answerer, row: dict[str, Any], selection: Selection
) -> RecordedAnswer | None:
    """The answer of an earlier `row` (RECORD_SCHEMA); None if `selection` may give another one."""
    threshold, confidence = answerer.params.selection.abstain_below, row["uncalibrated"]
    if row.get("selection") != selection.digest or not (row["cmt"] or confidence < threshold):
        return None
    shown = confidence if confidence < threshold else answerer.calibration.apply(confidence)
    return RecordedAnswer(row["cmt"], tuple(row["sources"]), shown, confidence)


def _ask_baselines(
    answerer: Answerer, asked: pa.Table, complete: Complete | None, on_progress: OnProgress | None
) -> Iterator[_Run]:
    """The answers of the LM without texts and, if the bank keeps texts, of RAG with one text."""
    lm, answering, texts = answerer.lm, answerer.params.answering, asked["question"].to_pylist()
    systems: tuple[tuple[str, Callable[..., list[Prediction] | None], int | None], ...] = (
        ("closed", partial(closed_book, lm, texts), None),
        ("rag", partial(rag, lm, answerer.bank, texts, asked["asked_at"].to_pylist()), 1),
    )
    for name, ask, recall_depth in systems:
        started = time.perf_counter()
        predictions = ask(answering=answering, complete=complete, on_progress=on_progress)
        if predictions is not None:
            yield _Run(name, predictions, recall_depth, time.perf_counter() - started)
        elif on_progress:
            on_progress(len(texts))


def scored(
    answers: Sequence[Prediction], asked: pa.Table, *, depth: int | None, seed: int
) -> tuple[Scores, Floats]:
    """The scores of `answers` to the questions `asked` (QUESTION_SCHEMA), and F1 of each, (n,) in
    0–1.
    """
    marks = mark([answer.text for answer in answers], asked["answers"].to_pylist())
    documents = asked["doc_id"].to_pylist()
    is_recalled = recalled(answers, documents, depth=depth)
    return summarise(marks, documents, recalled=is_recalled, seed=seed), marks.f1


def recalled(
    predictions: Sequence[Prediction], gold_documents: Sequence[str], *, depth: int | None
) -> list[bool] | None:
    """Whether each gold document is among the first `depth` retrieved ones; None if nothing is
    retrieved.
    """
    if depth is None:
        return None
    return [
        gold in prediction.doc_ids[:depth]
        for prediction, gold in zip(predictions, gold_documents, strict=True)
    ]
