"""The published protocol in the report: tables of the file that `benchmarks/paper_protocol.py`
writes.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cmt.report.baselines import read_measurements
from cmt.text.display import format_optional

FILE = "metrics/protocol.json"  # below the folder of params.yaml


def read_protocol(root: Path) -> dict[str, Any] | None:
    """The protocol in FILE below `root`; None if the file is missing or cannot be read.

    `documents`: their number. `rows`: the cells of each system. `parts`: part, name and value of
    further results.
    """

    def tables(raw: dict[str, Any]) -> dict[str, Any]:
        parts = {name: part for name, part in raw.items() if isinstance(part, dict)}
        return {
            "documents": int(raw["documents"]),
            "rows": [_cells(row) for row in raw["rows"]],
            "parts": [
                [name, key, f"{value:,.4g}"]
                for name, part in parts.items()
                for key, value in part.items()
            ],
        }

    return read_measurements(root / FILE, tables)


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
