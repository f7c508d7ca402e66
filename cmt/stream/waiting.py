"""Rows dated up to a day after the clock, which a later ingest takes; in the quarantine, where a purge looks."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from cmt.errors import StreamError
from cmt.stream.columns import Kind
from cmt.stream.rows import RawRow, RawRows
from cmt.stream.storage import write_lines

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
            vars(self), ensure_ascii=False, default=lambda v: v.isoformat() if isinstance(v, date) else str(v)
        )


def read_waiting(folder: Path) -> list[WaitingRow]:
    """The waiting rows. Raises StreamError if the file is damaged."""
    path = folder / FILE
    try:
        return [WaitingRow(**json.loads(line)) for line in path.read_text("utf-8").split("\n") if line]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError) as error:
        raise StreamError(
            f"{path} cannot be read ({error}): repair or delete it; its rows are in their sources"
        ) from None


def write_waiting(folder: Path, rows: Iterable[WaitingRow]) -> None:
    """Replace the waiting rows, each content once. Raises OSError."""
    write_lines(folder / FILE, dict.fromkeys(row.line for row in rows))


def by_publisher(rows: Iterable[WaitingRow]) -> Iterator[tuple[str, RawRows]]:
    groups = defaultdict[str, RawRows](RawRows)
    for row in rows:
        group = groups[row.publisher]
        (group.documents if row.kind == "document" else group.questions).append(RawRow(row.file, row.row, row.values))
    return iter(groups.items())
