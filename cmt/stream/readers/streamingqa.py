"""StreamingQA (Liška et al. 2022): official JSON lines, or the CSV files of CaMeLS (Hu et al. 2023).

Official questions are read as published. The documents are not published: a script of the dataset extracts them from
WMT News Crawl. Write its output as JSON lines of `sorting_key`, `publication_ts` (UTC seconds) and `text`. Put both
files into one folder, or ingest the documents first.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from cmt.stream.limits import Limits
from cmt.stream.readers.files import Record
from cmt.stream.readers.tabular import read_csv, read_json_lines
from cmt.stream.schema import document_id

# the files of CaMeLS have no dates; StreamingQA ends with the year 2020
LAST_DAY = datetime(2020, 12, 31, tzinfo=UTC)


def read(data: bytes, name: str, limits: Limits) -> Iterator[Record]:
    """Yield the rows of one file, numbered by line. Raises StreamError."""
    if name.endswith(".csv"):
        yield from _csv(data, name, limits)
        return
    for row in read_json_lines(data, name, limits):
        if row.error:
            yield row
        else:
            yield row._replace(fields=(_question if "question" in row.fields else _document)(row.fields))


def _question(values: dict[str, Any]) -> dict[str, Any]:
    # without answers_additional, the fourth annotator, whom the authors exclude from the evaluation
    return {
        "question_id": values.get("qa_id"),
        "doc_id": _sorting_key(values.get("evidence_id")),
        "question": values["question"],
        "answers": values.get("answers"),
        "asked_at": values.get("question_ts"),
    }


def _document(values: dict[str, Any]) -> dict[str, Any]:
    return {
        "doc_id": _sorting_key(values.get("sorting_key")),
        "published_at": values.get("publication_ts"),
        "text": values.get("text"),
        "source": "WMT News Crawl",
    }


def _sorting_key(value: Any) -> Any:
    """A WMT sorting key as doc_id: replaces NUL and SOH between its parts, which a doc_id may not contain."""
    return value.replace("\x00\x01", "-").rstrip("-") if isinstance(value, str) else value


def _csv(data: bytes, name: str, limits: Limits) -> Iterator[Record]:
    for row in read_csv(data, name, limits, required=("text", "question", "answers")):
        if row.error:
            yield row
            continue
        values = row.fields
        doc_id = document_id(values["text"])
        yield Record(
            {"doc_id": doc_id, "published_at": LAST_DAY, "text": values["text"], "source": "StreamingQA"}, row.where
        )
        question = {"doc_id": doc_id, "question": values["question"], "asked_at": LAST_DAY}
        yield Record(dict(question, answers=values["answers"].split("\\")), row.where)
