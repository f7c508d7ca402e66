"""The published protocol in the report: tables of the file that `benchmarks/paper_protocol.py` writes."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cmt.common.storage import read_json
from cmt.common.text import format_optional

log = logging.getLogger(__name__)

FILE = "metrics/protocol.json"
"""Below the folder of params.yaml."""


@dataclass(frozen=True)
class Protocol:
    """The measurements of the published protocol."""

    documents: int
    """Number of documents that were compressed."""
    rows: Sequence[Sequence[str]]
    """A row a system: name, F1 and its interval, EM, EM of the prefix, recall@1, first token in ms, questions."""
    parts: Sequence[Sequence[str]]
    """Other measurements: name of the part, such as `retention`, name of the value, value."""


def read_protocol(root: Path) -> Protocol | None:
    """The protocol in FILE below `root`; None if the file is missing or cannot be read."""
    try:
        raw = read_json(root / FILE, dict[str, Any])
        parts = {name: part for name, part in raw.items() if isinstance(part, dict)}
        return Protocol(
            documents=int(raw["documents"]),
            rows=[_cells(row) for row in raw["rows"]],
            parts=[[name, key, f"{value:,.4g}"] for name, part in parts.items() for key, value in part.items()],
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        log.warning("%s cannot be read and is ignored: %s", root / FILE, error)
        return None


def _cells(row: Mapping[str, Any]) -> list[str]:
    low, high = row["ci"]
    return [
        row["row"],
        f"{row['f1']:.1f} ({low:.1f} – {high:.1f})",
        f"{row['em']:.1f}",
        f"{row['em_prefix']:.1f}",
        format_optional((row["recall"] or {}).get("1"), ".3f"),
        format_optional(row.get("first_token"), ".0f"),
        f"{row['n']:,}",
    ]
