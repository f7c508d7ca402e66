"""The rows of `cmt baselines`: stored after each run of the command, shown by the report."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from cmt.common.progress import Progress
from cmt.common.storage import read_json, write_json
from cmt.errors import StreamError
from cmt.evaluation.baseline_data import ComparisonData
from cmt.evaluation.baselines import SystemResult, known_systems, measure_systems
from cmt.evaluation.systems import SYSTEMS
from cmt.project import Project

log = logging.getLogger(__name__)
T = TypeVar("T")

IDENTITY = (
    "compressor",
    "lm",
    "params",
    "bank",
)  # stored rows are valid for a bank if these of its lineage are equal


def measure_baselines(
    project: Project, names: Sequence[str] | None, *, limit: int, progress: Progress
) -> tuple[list[SystemResult], Mapping[str, Any]]:
    """Measure the systems `names` (None: all) on at most `limit` questions; store the results.

    Returns them and the lineage of the bank. Raises ConfigError for an unknown name, and
    StreamError if the state folder cannot be written.
    """
    names = known_systems(names or list(SYSTEMS))
    data = ComparisonData.of(project, limit=limit, progress=progress)
    results = measure_systems(data, names)
    store_baselines(project, results, data.lineage)
    return results, data.lineage


def stored_baselines(project: Project, lineage: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The stored rows; none if they were measured on another bank, compressor, LM or parameters."""

    def current_rows(raw: dict[str, Any]) -> list[dict[str, Any]]:
        current = all(raw["lineage"].get(name) == lineage[name] for name in IDENTITY)
        return [dict(row) for row in raw["rows"]] if current else []

    return read_measurements(_file(project), current_rows) or []


def read_measurements(file: Path, parse: Callable[[dict[str, Any]], T]) -> T | None:
    """What `parse` makes of the JSON in `file`; None if it is missing, or with a warning if it
    cannot be read.
    """
    try:
        return parse(read_json(file, dict[str, Any]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        log.warning("%s cannot be read and is ignored: %s", file, error)
        return None


def store_baselines(
    project: Project, results: Sequence[SystemResult], lineage: Mapping[str, Any]
) -> None:
    """Add `results` to the stored rows of the same bank. Raises StreamError if the state folder
    cannot be written.
    """
    rows = {row["row"]: row for row in stored_baselines(project, lineage)}
    rows |= {result.system: result.to_json() for result in results}
    ordered = [rows[name] for name in SYSTEMS if name in rows]
    file = _file(project)
    try:
        write_json(file, {"rows": ordered, "lineage": dict(lineage)})
    except OSError as error:
        raise StreamError(f"cannot write {file}: {error.strerror or error}") from error


def _file(project: Project) -> Path:
    return project.state / "baselines.json"
