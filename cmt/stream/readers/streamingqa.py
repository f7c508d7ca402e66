"""StreamingQA (Liška et al. 2022): official JSON lines, or the CSV files of CaMeLS (Hu et al. 2023).

Official questions are read as published. The documents are not published: a script of the dataset extracts them from
WMT News Crawl. Write its output as JSON lines of `sorting_key`, `publication_ts` (UTC seconds) and `text`. Put both
files into one folder, or ingest the documents first.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cmt.stream.limits import Limits
from cmt.stream.readers.files import RawRow, read_csv, read_json_lines
from cmt.stream.schema import Rejected, document_id

# the files of CaMeLS have no dates; StreamingQA ends with the year 2020
LAST_DAY = datetime(2020, 12, 31, tzinfo=UTC)


def read(path: Path, limits: Limits) -> Iterator[RawRow | Rejected]:
    """Yield the rows of one file, numbered by line. Raises StreamError."""
    return _csv(path, limits) if path.suffix == ".csv" else _official(path, limits)


def _official(path: Path, limits: Limits) -> Iterator[RawRow | Rejected]:
    for row in read_json_lines(path, limits):
        if isinstance(row, Rejected):
            yield row
        elif "question" in row[1]:
            yield RawRow("question", path.name, row[0], _question(row[1]))
        else:
            yield RawRow("document", path.name, row[0], _document(row[1]))


def _question(values: dict[str, Any]) -> dict[str, Any]:
    # without answers_additional, the fourth annotator, whom the authors exclude from the evaluation
    return {
        "question_id": values.get("qa_id"),
        "doc_id": _sorting_key(values.get("evidence_id")),
        "question": values["question"],
        "answers": values.get("answers"),
        "asked_at": _instant(values.get("question_ts")),
    }


def _document(values: dict[str, Any]) -> dict[str, Any]:
    return {
        "doc_id": _sorting_key(values.get("sorting_key")),
        "published_at": _instant(values.get("publication_ts")),
        "text": values.get("text"),
        "source": "WMT News Crawl",
    }


def _sorting_key(value: Any) -> Any:
    """A WMT sorting key as doc_id: replaces NUL and SOH between its parts, which a doc_id may not contain."""
    return value.replace("\x00\x01", "-").rstrip("-") if isinstance(value, str) else value


def _instant(value: Any) -> Any:
    """UTC seconds as an instant; any other value unchanged, for the validation to reject."""
    if isinstance(value, int) and not isinstance(value, bool):
        try:
            return datetime.fromtimestamp(value, UTC)
        except (ValueError, OverflowError, OSError):
            return value
    return value


def _csv(path: Path, limits: Limits) -> Iterator[RawRow | Rejected]:
    for row in read_csv(path, limits, columns=("text", "question", "answers")):
        if isinstance(row, Rejected):
            yield row
            continue
        number, values = row
        doc_id = document_id(values["text"])
        document = {"doc_id": doc_id, "published_at": LAST_DAY, "text": values["text"], "source": "StreamingQA"}
        yield RawRow("document", path.name, number, document)
        question = {"doc_id": doc_id, "question": values["question"], "asked_at": LAST_DAY}
        yield RawRow("question", path.name, number, dict(question, answers=values["answers"].split("\\")))
