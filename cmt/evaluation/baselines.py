"""Compare systems on the same questions, by scores and by cost."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from cmt.common.difference import Difference
from cmt.common.peak_memory import peak_memory
from cmt.errors import ConfigError
from cmt.evaluation.baseline_data import ComparisonData
from cmt.evaluation.evaluate import SystemScores, scored
from cmt.evaluation.metrics import Floats, paired_bootstrap
from cmt.evaluation.systems import SYSTEMS

log = logging.getLogger(__name__)


def known_systems(names: Sequence[str]) -> list[str]:
    """`names` without duplicates. Raises ConfigError on a name that is not in SYSTEMS."""
    if unknown := [name for name in names if name not in SYSTEMS]:
        raise ConfigError(f"no row {unknown[0]!r}; there are: {', '.join(SYSTEMS)}")
    return list(dict.fromkeys(names))


@dataclass(frozen=True)
class Cost:
    """The cost of one system."""

    # wall-clock seconds to process all documents, from the rounds; None if unknown
    adapt_seconds: float | None
    seconds_per_question: float  # wall-clock, in batches of `answering.batch_size`
    # resident memory of the process, with libraries, LM and bank; None except on Linux
    peak_bytes: int | None
    stored_bytes: int  # bytes stored in addition to the frozen LM, without search indexes
    # positions that the LM reads before its answer: examples, texts, soft tokens and prefix
    tokens_per_question: float

    def to_json(self) -> dict[str, Any]:
        """Seconds with four decimals, tokens with one; None is null."""
        digits = {"adapt_seconds": 4, "seconds_per_question": 4, "tokens_per_question": 1}
        return {
            name: round(value, digits[name]) if name in digits and value is not None else value
            for name, value in asdict(self).items()
        }


@dataclass(frozen=True)
class SystemResult(SystemScores):
    """The scores and the cost of a system; `seconds` covers only answering."""

    cost: Cost
    # F1 (0–100) of the memory minus F1 of the system; None for and without `cmt`
    behind: Difference | None = None

    def to_json(self) -> dict[str, Any]:
        """The keys of `SystemScores.to_json`, `behind` and `cost`; a value that does not apply is
        null.
        """
        behind = None if self.behind is None else [round(value, 2) for value in self.behind]
        return super().to_json() | {"behind": behind, "cost": self.cost.to_json()}


def measure_systems(
    data: ComparisonData, names: Sequence[str] = tuple(SYSTEMS)
) -> list[SystemResult]:
    """The results of the systems `names` on the same questions, in that order.

    A system that needs texts is left out with a warning if the bank has none. Raises ConfigError on
    an unknown name.
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
    documents, seed = data.asked["doc_id"].to_pylist(), data.answerer.params.seed
    compared = []
    for result in results:
        if result.system != "cmt":
            ours, theirs = 100 * f1["cmt"], 100 * f1[result.system]
            behind = paired_bootstrap(ours, theirs, documents, seed=seed)
            result = replace(result, behind=behind)
        compared.append(result)
    return compared


def _measure(data: ComparisonData, name: str) -> tuple[SystemResult, Floats] | None:
    """The result of one system, and F1 of each question (n,); None if it has no texts to search."""
    with peak_memory() as peak:
        run = SYSTEMS[name](data)
    if run is None:
        return None
    scores, f1 = scored(
        run.predictions, data.asked, depth=run.recall_depth, seed=data.answerer.params.seed
    )
    count = len(data.questions)
    cost = Cost(
        adapt_seconds=run.adapt_seconds,
        seconds_per_question=run.seconds / count,
        peak_bytes=peak.resident,
        stored_bytes=run.stored_bytes,
        tokens_per_question=run.tokens / count,
    )
    return SystemResult(name, scores, run.seconds, cost=cost), f1
