"""The rows of `cmt baselines`: stored after each run of the command, shown by the report."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmt.common.storage import read_json, write_json
from cmt.errors import StreamError

if TYPE_CHECKING:
    from cmt.evaluation.comparison import SystemResult
    from cmt.resources import Resources

log = logging.getLogger(__name__)

IDENTITY = ("compressor", "lm", "params", "bank")
"""Keys of a lineage. Stored rows are valid for a bank if all four are equal."""


@dataclass(frozen=True)
class Baselines:
    """The rows of `cmt baselines` for the bank in its present state."""

    rows: Sequence[Mapping[str, Any]] = ()
    """As `SystemResult.to_json` writes them."""
    missing: Sequence[str] = ()
    """Names of the systems without a row."""
    lineage: Mapping[str, Any] | None = None


def stored_baselines(resources: "Resources", lineage: Mapping[str, Any]) -> Baselines:
    """The stored rows; none if they were measured on another bank, compressor, LM or parameters."""
    from cmt.evaluation.systems import SYSTEMS

    rows = _stored_rows(resources, lineage)
    measured = {row["row"] for row in rows}
    return Baselines(rows, [name for name in SYSTEMS if name not in measured], lineage)


def store_baselines(resources: "Resources", results: Sequence["SystemResult"], lineage: Mapping[str, Any]) -> None:
    """Add `results` to the stored rows of the same bank. Raises StreamError if the state folder cannot be written."""
    from cmt.evaluation.systems import SYSTEMS

    rows = {row["row"]: row for row in _stored_rows(resources, lineage)}
    rows |= {result.system: result.to_json() for result in results}
    ordered = [rows[name] for name in SYSTEMS if name in rows]
    file = _file(resources)
    try:
        write_json(file, {"rows": ordered, "lineage": dict(lineage)})
    except OSError as error:
        raise StreamError(f"cannot write {file}: {error.strerror or error}") from error


def _file(resources: "Resources") -> Path:
    return resources.state / "baselines.json"


def _stored_rows(resources: "Resources", lineage: Mapping[str, Any]) -> list[dict[str, Any]]:
    try:
        raw = read_json(_file(resources), dict[str, Any])
        current = all(raw["lineage"].get(name) == lineage[name] for name in IDENTITY)
        return [dict(row) for row in raw["rows"]] if current else []
    except FileNotFoundError:
        return []
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        log.warning("%s cannot be read and is ignored: %s", _file(resources), error)
        return []
