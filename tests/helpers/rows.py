"""Invented rows for the tests of the stream, as files and tables."""

import csv
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cmt.stream.admission.report import IngestReport
from cmt.stream.rows import RawRow, RawRows, ValidatedRows, validate_rows
from cmt.stream.schema import Checks
from cmt.stream.store import SliceStore

NOW = datetime(2031, 12, 31, 23, 59, 59, tzinfo=UTC)
"""The instant after which the tests' dates count as future."""

Row = dict[str, Any]
Ingest = Callable[..., IngestReport]  # the fixture `ingest` of tests/stream


def make_document(doc_id: str = "ferry", **changes: Any) -> Row:
    """A valid document, with `changes`."""
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
    """A valid question, with `changes`."""
    row = {
        "question_id": question_id,
        "doc_id": doc_id,
        "question": f"When does it sail ({question_id})?",
        "answers": ["noon", "at noon"],
        "asked_at": "2031-01-03T06:00:00Z",
    }
    return row | changes


def write_lines(path: Path, rows: Iterable[Mapping[str, Any] | str]) -> Path:
    """Write `rows` as JSON lines; a string is written unchanged."""
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> Path:
    """Write `header` and `rows` as CSV."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])
    return path


def validated(*rows: Row, checks: Checks | None = None) -> tuple[ValidatedRows, ValidatedRows]:
    """Documents and questions of the file rows.jsonl, validated."""
    raw = RawRows()
    for number, row in enumerate(rows, 1):
        (raw.questions if "question" in row else raw.documents).append(
            RawRow("rows.jsonl", number, row)
        )
    return validate_rows(raw, checks or Checks(NOW))


def doc_ids(store: SliceStore) -> list[str]:
    """The doc_id of each document row of `store`, in the order of time."""
    return list(store.all_documents()["doc_id"].to_pylist())


def valid_documents(raw: RawRows) -> list[Row]:
    """The validated documents of `raw`; fails if one is rejected."""
    documents, _ = validate_rows(raw, Checks(NOW))
    assert not documents.rejected
    return list(documents.table.to_pylist())


def valid_questions(raw: RawRows) -> list[Row]:
    """The validated questions of `raw`; fails if one is rejected."""
    _, questions = validate_rows(raw, Checks(NOW))
    assert not questions.rejected
    return list(questions.table.to_pylist())
