"""Every way of answering by name, on the same questions: its scores, and beside them what it costs."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cmt.errors import ConfigError
from cmt.evaluation import evaluate
from cmt.evaluation.cost import Cost, peak_memory
from cmt.evaluation.metrics import (
    Abstention,
    Difference,
    Floats,
    abstention,
    calibration_error,
    mark,
    paired_bootstrap,
    recall_at_k,
    reciprocal_ranks,
    summarise,
)
from cmt.evaluation.systems import RAG_SYSTEMS, SYSTEMS, SystemInput, SystemRun
from cmt.evaluation.temporary_bank import missing_compressor
from cmt.evaluation.testbed import ComparisonData

log = logging.getLogger(__name__)


def known_systems(names: Sequence[str]) -> list[str]:
    """`names` without repeats. ConfigError on one that no row has."""
    if unknown := [name for name in names if name not in SYSTEMS]:
        raise ConfigError(f"no row {unknown[0]!r}; there are: {', '.join(SYSTEMS)}")
    return list(dict.fromkeys(names))


@dataclass(frozen=True)
class SystemResult(evaluate.SystemScores):
    """A row of the protocol with its cost; `seconds` are those of answering alone."""

    cost: Cost
    mrr: float | None = None
    """Mean reciprocal rank of the right document, 0–1; None where nothing is retrieved."""
    behind: Difference | None = None
    """How far its F1 (0–100) is behind the memory's, with its 95 % interval; None without the row `cmt`, and for it."""
    abstention: Abstention | None = None
    """Of the memory: how well "not in memory" tells the questions on documents that are not in the bank."""
    calibration: float | None = None
    """Of the memory: expected calibration error of its confidence that the right document is among its sources."""

    def to_json(self) -> dict[str, Any]:
        """As the protocol's rows, with more keys; what does not apply is null."""
        refusing = self.abstention and {
            name: None if share is None else round(share, 4) for name, share in vars(self.abstention).items()
        }
        return super().to_json() | {
            "mrr": None if self.mrr is None else round(self.mrr, 4),
            "behind": None if self.behind is None else [round(value, 2) for value in self.behind],
            "abstention": refusing,
            "calibration": None if self.calibration is None else round(self.calibration, 4),
            "cost": self.cost.to_json(),
        }


class Comparison:
    """All systems on the same questions."""

    def __init__(self, data: ComparisonData) -> None:
        self.data, self.given = data, SystemInput(data)
        self.answerer, self.progress = self.given.answerer, self.given.progress

    def measure(self, names: Sequence[str] = tuple(SYSTEMS)) -> list[SystemResult]:
        """The systems `names`, in their order; those that this bank cannot give are left out with a warning.

        Raises ConfigError on an unknown name.
        """
        results, f1s = [], {}
        for name in known_systems(names):
            reason = self.impossible(name)
            if reason is None and (measured := self._measure(name)):
                results.append(measured[0])
                f1s[name] = measured[1]
            else:
                log.warning("system %s is left out: %s", name, reason or "no text was found")
        return [self._with_difference(result, f1s) for result in results]

    def impossible(self, name: str) -> str | None:
        """Why this bank cannot give a system; None where it can."""
        if name == "mac":
            return missing_compressor(self.answerer.params.baselines.mac, self.answerer.lm)
        text = self.data.testbed.memories["text"]
        return "the bank keeps no text to search" if name in RAG_SYSTEMS and text.null_count == len(text) else None

    def _measure(self, name: str) -> tuple[SystemResult, Floats] | None:
        """The result of one system, and the F1 of each question (n,)."""
        # 1. run it, watching memory
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
        scores = summarise(marks, recalled=self._recalled(run), seed=self.answerer.params.seed)
        result = SystemResult(name, scores, run.seconds, cost=cost, mrr=self._mrr(run))
        # 3. of the memory also how well it abstains
        return (self._with_abstention(result, run) if run.answers else result), marks.f1

    def _recalled(self, run: SystemRun) -> list[bool] | None:
        if (depth := run.recall_depth) is None:
            return None
        pairs = zip(run.predictions, self.given.gold_documents, strict=True)
        return [bool(recall_at_k(prediction.doc_ids, gold, depth)) for prediction, gold in pairs]

    def _mrr(self, run: SystemRun) -> float | None:
        if run.recall_depth is None:
            return None
        ranked = [prediction.doc_ids[: run.recall_depth] for prediction in run.predictions]
        return float(reciprocal_ranks(ranked, self.given.gold_documents).mean())

    def _with_abstention(self, result: SystemResult, run: SystemRun) -> SystemResult:
        """Abstention and calibration, with the questions whose documents are not in the bank asked as well."""
        absent = self.data.absent
        if absent.num_rows:
            self.progress.stage("cmt: absent", absent.num_rows)
        others = self.given.memory().answer(
            absent["question"].to_pylist(), as_of=absent["asked_at"].to_pylist(), on_progress=self.progress.advance
        )
        answers = [*run.answers, *others]
        refused = np.array([not answer.known for answer in answers])
        answerable = np.arange(len(refused)) < len(run.answers)
        calibration = None
        if self.answerer.model.config.aggregator.kind == "windows":  # the others' confidence is a cosine
            confidence = np.array([answer.confidence for answer in answers])
            right = np.array([*(self._recalled(run) or []), *(False for _ in others)])
            calibration = calibration_error(confidence, right)
        return replace(result, abstention=abstention(refused=refused, answerable=answerable), calibration=calibration)

    def _with_difference(self, result: SystemResult, f1s: Mapping[str, Floats]) -> SystemResult:
        if result.system == "cmt" or "cmt" not in f1s:
            return result
        seed = self.answerer.params.seed
        return replace(result, behind=paired_bootstrap(100 * f1s["cmt"], 100 * f1s[result.system], seed=seed))
