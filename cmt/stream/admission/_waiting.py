"""Rows dated up to a day after the clock, which a later ingest adds; in the quarantine, where a
purge finds them.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from cmt.stream.columns import Kind
from cmt.stream.quarantine import read_lines, write_lines
from cmt.stream.rows import RawRow, RawRows

FILE = "waiting.jsonl"  # in the folder of the quarantine


@dataclass(frozen=True)
class WaitingRow:
    kind: Kind
    publisher: str
    file: str
    row: int
    values: Mapping[str, Any]

    @property
    def line(self) -> str:
        """The row as JSON; equal rows have equal lines."""
        return json.dumps(
            vars(self),
            ensure_ascii=False,
            default=lambda v: v.isoformat() if isinstance(v, date) else str(v),
        )


def read_waiting(folder: Path) -> list[WaitingRow]:
    """The waiting rows. Raises StreamError if the file is damaged."""
    return read_lines(
        folder / FILE, WaitingRow, remedy="repair or delete it; its rows are in their sources"
    )


def write_waiting(folder: Path, rows: Iterable[WaitingRow]) -> None:
    """Replace the waiting rows, each content once. Raises OSError."""
    write_lines(folder / FILE, dict.fromkeys(row.line for row in rows))


def by_publisher(rows: Iterable[WaitingRow]) -> Iterator[tuple[str, RawRows]]:
    groups = defaultdict[str, RawRows](RawRows)
    for row in rows:
        group = groups[row.publisher]
        (group.documents if row.kind == "document" else group.questions).append(
            RawRow(row.file, row.row, row.values)
        )
    return iter(groups.items())
