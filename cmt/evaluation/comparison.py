"""Compare systems on the same questions, by scores and by cost."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cmt.common.difference import Difference
from cmt.common.peak_memory import peak_memory
from cmt.errors import ConfigError
from cmt.evaluation import evaluate
from cmt.evaluation.calibration import reliability
from cmt.evaluation.comparison_data import ComparisonData
from cmt.evaluation.cost import Cost
from cmt.evaluation.metrics import (
    Abstention,
    Floats,
    abstention,
    mark,
    paired_bootstrap,
    reciprocal_ranks,
    summarise,
)
from cmt.evaluation.systems import SYSTEMS, SystemRun

log = logging.getLogger(__name__)


def known_systems(names: Sequence[str]) -> list[str]:
    """`names` without duplicates. Raises ConfigError on a name that is not in SYSTEMS."""
    if unknown := [name for name in names if name not in SYSTEMS]:
        raise ConfigError(f"no row {unknown[0]!r}; there are: {', '.join(SYSTEMS)}")
    return list(dict.fromkeys(names))


@dataclass(frozen=True)
class SystemResult(evaluate.SystemScores):
    """The scores and the cost of a system; `seconds` covers answering alone."""

    cost: Cost
    mrr: float | None = None
    """Mean reciprocal rank of the gold document, 0–1; None if nothing is retrieved."""
    behind: Difference | None = None
    """F1 (0–100) of the memory minus F1 of the system, with its 95 % interval; None for `cmt`, and without it."""
    abstention: Abstention | None = None
    """Only for the memory: abstention on questions about documents that are not in the bank."""
    calibration: float | None = None
    """Only for the memory: expected calibration error of the confidence that a source is the gold document."""

    def to_json(self) -> dict[str, Any]:
        """The keys of `SystemScores.to_json` and five more; a value that does not apply is null."""
        shares = self.abstention and {
            name: None if share is None else round(share, 4) for name, share in vars(self.abstention).items()
        }
        return super().to_json() | {
            "mrr": None if self.mrr is None else round(self.mrr, 4),
            "behind": None if self.behind is None else [round(value, 2) for value in self.behind],
            "abstention": shares,
            "calibration": None if self.calibration is None else round(self.calibration, 4),
            "cost": self.cost.to_json(),
        }


def measure_systems(data: ComparisonData, names: Sequence[str] = tuple(SYSTEMS)) -> list[SystemResult]:
    """The results of the systems `names` on the same questions, in that order.

    A system that needs texts is left out with a warning if the bank has none. Raises ConfigError on an unknown name.
    """
    # 1. measure each system
    results: list[SystemResult] = []
    f1: dict[str, Floats] = {}
    for name in known_systems(names):
        if measured := _measure(data, name):
            results.append(measured[0])
            f1[name] = measured[1]
        else:
            log.warning("system %s is left out: the bank has no texts", name)
    if "cmt" not in f1:
        return results
    # 2. the difference of each baseline from the memory
    seed = data.answerer.params.seed
    return [
        result
        if result.system == "cmt"
        else replace(result, behind=paired_bootstrap(100 * f1["cmt"], 100 * f1[result.system], seed=seed))
        for result in results
    ]


def _measure(data: ComparisonData, name: str) -> tuple[SystemResult, Floats] | None:
    """The result of one system, and F1 of each question (n,); None if it has no texts to search."""
    # 1. run it and measure memory
    with peak_memory() as peak:
        run = SYSTEMS[name](data)
    if run is None:
        return None
    # 2. score it
    marks = mark([prediction.text for prediction in run.predictions], data.asked["answers"].to_pylist())
    count, depth = len(data.questions), run.recall_depth
    cost = Cost(
        adapt_seconds=run.adapt_seconds,
        seconds_per_question=run.seconds / count,
        peak_bytes=peak.resident,
        peak_device_bytes=peak.device,
        stored_bytes=run.stored_bytes,
        tokens_per_question=run.tokens / count,
    )
    recalled = evaluate.recalled(run.predictions, data.gold_documents, depth=depth)
    scores, mrr = summarise(marks, recalled=recalled, seed=data.answerer.params.seed), None
    if depth is not None:
        ranked = [prediction.doc_ids[:depth] for prediction in run.predictions]
        mrr = float(reciprocal_ranks(ranked, data.gold_documents).mean())
    result = SystemResult(name, scores, run.seconds, cost=cost, mrr=mrr)
    # 3. for the memory, measure abstention
    return (_with_abstention(data, result, run, recalled or []) if run.answers else result), marks.f1


def _with_abstention(
    data: ComparisonData, result: SystemResult, run: SystemRun, recalled: Sequence[bool]
) -> SystemResult:
    """Add abstention and calibration, for which questions without a document in the bank are asked as well."""
    absent = data.absent
    if absent.num_rows:
        data.progress.stage("cmt: absent", absent.num_rows)
    absent_answers = data.answerer.answer(
        absent["question"].to_pylist(), as_of=absent["asked_at"].to_pylist(), on_progress=data.progress.advance
    )
    answers = [*run.answers, *absent_answers]
    refused = np.array([not answer.known for answer in answers])
    answerable = np.arange(len(refused)) < len(run.answers)
    calibration = None
    if data.answerer.confidence_is_probability:
        confidence = np.array([answer.confidence for answer in answers])
        right = np.array([*recalled, *(False for _ in absent_answers)])
        calibration = reliability(confidence, right).error
    return replace(result, abstention=abstention(refused=refused, answerable=answerable), calibration=calibration)
