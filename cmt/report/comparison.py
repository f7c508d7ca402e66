"""The systems side by side: on the questions of one round, and with their costs as `cmt baselines` measures them."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from cmt.common.arrow import take
from cmt.common.difference import Difference
from cmt.common.progress import Progress
from cmt.common.storage import read_json, write_json
from cmt.common.systems import ScoresBySystem, system_label
from cmt.errors import StreamError
from cmt.evaluation.evaluate import answering_order
from cmt.evaluation.metrics import Scores, mark, paired_bootstrap, summarise
from cmt.report.curves import IDENTITY, LARGE
from cmt.report.history import systems_in

if TYPE_CHECKING:
    from cmt.evaluation.comparison import SystemResult
    from cmt.resources import Resources

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SystemSummary:
    """The scores of one system on the questions of a round."""

    name: str
    scores: Scores
    recall: float | None
    """Share of the questions whose gold document the system retrieved, 0–1; None if it retrieves nothing."""
    behind: Difference | None
    """F1 of the memory minus F1 of this system, paired by question, with its 95 % interval; None for the memory."""

    @property
    def label(self) -> str:
        """The name that readers see."""
        return system_label(self.name)


@dataclass(frozen=True)
class Baselines:
    """The rows of `cmt baselines` for the bank in its present state."""

    rows: Sequence[Mapping[str, Any]] = ()
    """As `SystemResult.to_json` writes them."""
    missing: Sequence[str] = ()
    """Names of the systems without a row."""
    lineage: Mapping[str, Any] | None = None


def compare(records: pa.Table, *, scores: ScoresBySystem, seed: int) -> list[SystemSummary]:
    """A summary of every system in `records` (RECORD_SCHEMA), the memory first; recalls are those in `scores`."""
    # in the order in which `evaluate` asks, the bootstrap gives the same intervals as in the round
    records = take(records, answering_order(records))
    summaries = []
    for name in systems_in(records):
        marks = mark(records[name].to_pylist(), records["golds"].to_pylist())
        behind = None
        if name != "cmt":
            behind = paired_bootstrap(100 * records["cmt_f1"].to_numpy(), 100 * marks.f1, seed=seed)
        recall = scores.get(name, {}).get("recall")
        summaries.append(SystemSummary(name, summarise(marks, recalled=None, seed=seed), recall, behind))
    return summaries


def measured_baselines(resources: "Resources", *, limit: int, progress: Progress) -> Baselines:
    """The stored rows of `cmt baselines`; on a bank of fewer than LARGE memories, missing ones are measured.

    `limit` is the maximum number of questions of a system that is measured now.
    """
    from cmt.evaluation.comparison import Comparison
    from cmt.evaluation.systems import SYSTEMS
    from cmt.evaluation.testbed import ComparisonData

    try:
        data = ComparisonData.of(resources, limit=limit, progress=progress)
    except StreamError as error:
        log.info("the report has no baselines: %s", error)
        return Baselines(missing=list(SYSTEMS))
    lineage = data.testbed.lineage
    rows = _stored(resources, lineage)
    comparison = Comparison(data)
    possible = [name for name in SYSTEMS if not comparison.impossible(name)]
    if resources.bank.count_rows() < LARGE and not {row["row"] for row in rows}.issuperset(possible):
        rows = keep(resources, comparison.measure(possible), lineage)
    measured = {row["row"] for row in rows}
    return Baselines(rows, [name for name in SYSTEMS if name not in measured], lineage)


def keep(resources: "Resources", results: Sequence["SystemResult"], lineage: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Add `results` to the stored rows of the same bank; returns all rows, in the order of `SYSTEMS`.

    Raises StreamError if the state folder cannot be written.
    """
    from cmt.evaluation.systems import SYSTEMS

    rows = {row["row"]: row for row in _stored(resources, lineage)}
    rows |= {result.system: result.to_json() for result in results}
    ordered = [rows[name] for name in SYSTEMS if name in rows]
    try:
        write_json(_file(resources), {"rows": ordered, "lineage": dict(lineage)})
    except OSError as error:
        raise StreamError(f"cannot write {_file(resources)}: {error.strerror or error}") from error
    return ordered


def _file(resources: "Resources") -> Path:
    return resources.state / "baselines.json"


def _stored(resources: "Resources", lineage: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The stored rows; none if they were measured on another bank, compressor, LM or parameters."""
    try:
        raw = read_json(_file(resources), dict[str, Any])
        current = all(raw["lineage"].get(name) == lineage[name] for name in IDENTITY)
        return [dict(row) for row in raw["rows"]] if current else []
    except FileNotFoundError:
        return []
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        log.warning("%s cannot be read and is ignored: %s", _file(resources), error)
        return []
