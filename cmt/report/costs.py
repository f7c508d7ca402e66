"""The rows of `cmt baselines`, each with its cost: what it left in the state folder, and the quick ones, measured anew.

Fine-tuning a copy of the LM takes longer than everything else of a report: those rows are shown where they were kept.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmt.common.progress import Progress
from cmt.common.storage import write_json
from cmt.errors import StreamError
from cmt.report.curves import LARGE, SAME

if TYPE_CHECKING:
    from cmt.evaluation.comparison import SystemResult
    from cmt.resources import Resources

log = logging.getLogger(__name__)

COST_LABELS = {
    "cmt": "CMT memory",
    "mac": "MAC",
    "closed": "closed-book",
    "full": "the right document",
    "rag-bm25": "BM25-RAG",
    "rag-dense": "dense RAG",
    "rag-hybrid": "hybrid RAG",
    "uniform": "fine-tuned",
    "salient": "fine-tuned, salient spans",
    "camels": "fine-tuned, CaMeLS-style",
}


@dataclass(frozen=True)
class Costs:
    """What is known of the bank as it is now."""

    rows: Sequence[Mapping[str, Any]] = ()
    """As `Row.to_json` has them."""
    missing: Sequence[str] = ()
    """Rows that nobody measured."""
    lineage: Mapping[str, Any] | None = None


def row_label(row: str) -> str:
    """The name of a row for people."""
    way, _, depth = row.rpartition("-")
    return f"{COST_LABELS[way]}, top {depth}" if way in COST_LABELS else COST_LABELS.get(row, row)


def costs(resources: "Resources", *, limit: int, progress: Progress) -> Costs:
    """Every row there is. `limit`: most questions of the rows that are measured now; none is on a large bank."""
    from cmt.evaluation.comparison import Comparison
    from cmt.evaluation.finetuning import TOKEN_WEIGHTS
    from cmt.evaluation.systems import SYSTEMS
    from cmt.evaluation.testbed import ComparisonData

    try:
        data = ComparisonData.of(resources, limit=limit, progress=progress)
    except StreamError as error:
        log.info("the costs are left out: %s", error)
        return Costs(missing=list(SYSTEMS))
    lineage = data.testbed.lineage
    rows = _kept(resources, lineage)
    bench = Comparison(data)
    quick = [name for name in SYSTEMS if name not in TOKEN_WEIGHTS and not bench.impossible(name)]
    if resources.bank.count_rows() < LARGE and not {row["row"] for row in rows}.issuperset(quick):
        rows = keep(resources, bench.measure(quick), lineage)
    known = {row["row"] for row in rows}
    return Costs(rows, [name for name in SYSTEMS if name not in known], lineage)


def keep(resources: "Resources", rows: Sequence["SystemResult"], lineage: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Write `rows` down, with those that were kept of the same bank; all of them, in the order of `ROWS`.

    StreamError when the state folder cannot be written.
    """
    from cmt.evaluation.systems import SYSTEMS

    found = {row["row"]: row for row in _kept(resources, lineage)} | {row.system: row.to_json() for row in rows}
    ordered = [found[name] for name in SYSTEMS if name in found]
    try:
        write_json(_file(resources), {"rows": ordered, "lineage": dict(lineage)})
    except OSError as error:
        raise StreamError(f"cannot write {_file(resources)}: {error.strerror or error}") from error
    return ordered


def _file(resources: "Resources") -> Path:
    return resources.state / "baselines.json"


def _kept(resources: "Resources", lineage: Mapping[str, Any]) -> list[dict[str, Any]]:
    """[] where they are of another bank, or nobody kept them."""
    try:
        raw = json.loads(_file(resources).read_text(encoding="utf-8"))
        same = all(raw["lineage"].get(name) == lineage[name] for name in SAME)
        return [dict(row) for row in raw["rows"]] if same else []
    except FileNotFoundError:
        return []
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        log.warning("%s cannot be read and is left out: %s", _file(resources), error)
        return []
