"""Made-up rows for the tests of the stream."""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

NOW = datetime(2031, 12, 31, 23, 59, 59, tzinfo=UTC)

Row = dict[str, Any]


def make_document(doc_id: str = "ferry", **changes: Any) -> Row:
    row = {
        "doc_id": doc_id,
        "published_at": "2031-01-02T06:00:00Z",
        "title": "A ferry",
        "text": f"The {doc_id} sails at noon.",
        "source": "Courier",
        "supersedes": None,
    }
    return row | changes


def make_question(question_id: str = "q1", doc_id: str = "ferry", **changes: Any) -> Row:
    row = {
        "question_id": question_id,
        "doc_id": doc_id,
        "question": f"When does it sail ({question_id})?",
        "answers": ["noon", "at noon"],
        "asked_at": "2031-01-03T06:00:00Z",
    }
    return row | changes


def write_lines(path: Path, rows: Iterable[Mapping[str, Any] | str]) -> Path:
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path
