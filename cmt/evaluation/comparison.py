"""Compare systems on the same questions, by scores and by cost."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cmt.common.difference import Difference
from cmt.errors import ConfigError
from cmt.evaluation import evaluate
from cmt.evaluation.calibration import reliability
from cmt.evaluation.comparison_data import ComparisonData
from cmt.evaluation.cost import Cost, peak_memory
from cmt.evaluation.metrics import (
    Abstention,
    Floats,
    abstention,
    mark,
    paired_bootstrap,
    recall_at_k,
    reciprocal_ranks,
    summarise,
)
from cmt.evaluation.systems import RAG_SYSTEMS, SYSTEMS, SystemInput, SystemRun

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


class Comparison:
    """Measures systems on the same questions."""

    def __init__(self, data: ComparisonData) -> None:
        self.data, self.given = data, SystemInput(data)
        self.answerer, self.progress = self.given.answerer, self.given.progress

    def measure(self, names: Sequence[str] = tuple(SYSTEMS)) -> list[SystemResult]:
        """The results of the systems `names`, in that order; impossible ones are left out with a warning.

        Raises ConfigError on an unknown name.
        """
        results: list[SystemResult] = []
        f1: dict[str, Floats] = {}
        for name in known_systems(names):
            reason = self.impossible(name)
            if reason is None and (measured := self._measure(name)):
                results.append(measured[0])
                f1[name] = measured[1]
            else:
                log.warning("system %s is left out: %s", name, reason or "the bank has no texts")
        if "cmt" not in f1:
            return results
        seed = self.answerer.params.seed
        return [
            result
            if result.system == "cmt"
            else replace(result, behind=paired_bootstrap(100 * f1["cmt"], 100 * f1[result.system], seed=seed))
            for result in results
        ]

    def impossible(self, name: str) -> str | None:
        """Why a system cannot be measured on this bank; None if it can."""
        text = self.data.memories["text"]
        return "the bank keeps no text to search" if name in RAG_SYSTEMS and text.null_count == len(text) else None

    def _measure(self, name: str) -> tuple[SystemResult, Floats] | None:
        """The result of one system, and F1 of each question (n,); None if it has no texts to search."""
        # 1. run it and measure memory
        with peak_memory() as peak:
            run = SYSTEMS[name](self.given)
        if run is None:
            return None
        # 2. score it
        marks = mark([prediction.text for prediction in run.predictions], self.data.asked["answers"].to_pylist())
        count = len(self.given.questions)
        cost = Cost(
            adapt_seconds=run.adapt_seconds,
            seconds_per_question=run.seconds / count,
            peak_bytes=peak.resident,
            peak_device_bytes=peak.device,
            stored_bytes=run.stored_bytes,
            tokens_per_question=run.tokens / count,
        )
        scores, mrr = summarise(marks, recalled=self._recalled(run), seed=self.answerer.params.seed), None
        if (depth := run.recall_depth) is not None:
            ranked = [prediction.doc_ids[:depth] for prediction in run.predictions]
            mrr = float(reciprocal_ranks(ranked, self.given.gold_documents).mean())
        result = SystemResult(name, scores, run.seconds, cost=cost, mrr=mrr)
        # 3. for the memory, measure abstention
        return (self._with_abstention(result, run) if run.answers else result), marks.f1

    def _recalled(self, run: SystemRun) -> list[bool] | None:
        """Whether the gold document of each question was retrieved; None if nothing is retrieved."""
        if (depth := run.recall_depth) is None:
            return None
        pairs = zip(run.predictions, self.given.gold_documents, strict=True)
        return [bool(recall_at_k(prediction.doc_ids, gold, depth)) for prediction, gold in pairs]

    def _with_abstention(self, result: SystemResult, run: SystemRun) -> SystemResult:
        """Add abstention and calibration, for which questions without a document in the bank are asked as well."""
        absent = self.data.absent
        if absent.num_rows:
            self.progress.stage("cmt: absent", absent.num_rows)
        absent_answers = self.given.memory().answer(
            absent["question"].to_pylist(), as_of=absent["asked_at"].to_pylist(), on_progress=self.progress.advance
        )
        answers = [*run.answers, *absent_answers]
        refused = np.array([not answer.known for answer in answers])
        answerable = np.arange(len(refused)) < len(run.answers)
        calibration = None
        if self.answerer.confidence_is_probability:
            confidence = np.array([answer.confidence for answer in answers])
            right = np.array([*(self._recalled(run) or []), *(False for _ in absent_answers)])
            calibration = reliability(confidence, right).error
        return replace(result, abstention=abstention(refused=refused, answerable=answerable), calibration=calibration)
