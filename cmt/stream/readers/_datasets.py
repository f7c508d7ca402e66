"""StreamingQA (Liška et al. 2022) and ArchivalQA (Wang et al. 2022), as published or as in CaMeLS
(Hu et al. 2023).

The documents of StreamingQA are not published: a script of the dataset extracts them from WMT News
Crawl. Write its output as JSON lines of `sorting_key`, `publication_ts` (UTC seconds) and `text`,
into one folder with the questions.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from cmt.stream.columns import Record
from cmt.stream.limits import Limits
from cmt.stream.readers._tabular import read_csv, read_json_lines
from cmt.stream.schema import document_id

_ARCHIVAL = ("question", "answer", "para_id", "ans_paragraph", "title", "date")
_LAST_DAY = datetime(
    2020, 12, 31, tzinfo=UTC
)  # CaMeLS has no dates; StreamingQA ends with the year 2020


def read_streamingqa(data: bytes, name: str, limits: Limits) -> Iterator[Record]:
    """Yield the rows of JSON lines, or of a CSV file of CaMeLS, numbered by line. Raises
    StreamError.
    """
    if name.endswith(".csv"):
        return _split(
            read_csv(data, name, limits, required=("text", "question", "answers")), _camels
        )
    return _split(read_json_lines(data, name, limits), _official)


def read_archivalqa(data: bytes, name: str, limits: Limits) -> Iterator[Record]:
    """Yield the answering paragraph and the question of each row of a CSV file, both of its day.
    Raises StreamError.
    """
    return _split(read_csv(data, name, limits, required=_ARCHIVAL), _archival)


def _split(
    rows: Iterable[Record], split: Callable[[dict[str, Any]], list[dict[str, Any]]]
) -> Iterator[Record]:
    for row in rows:
        for fields in [row.fields] if row.error else split(row.fields):
            yield row._replace(fields=fields)


def _official(values: dict[str, Any]) -> list[dict[str, Any]]:
    key = values.get("evidence_id" if "question" in values else "sorting_key")
    # the parts of a sorting key end with NUL and SOH, which a doc_id may not contain
    doc_id = key.replace("\x00\x01", "-").rstrip("-") if isinstance(key, str) else key
    if "question" not in values:
        document = {"published_at": values.get("publication_ts"), "text": values.get("text")}
        return [document | {"doc_id": doc_id, "source": "WMT News Crawl"}]
    # without answers_additional, the fourth annotator, whom the authors exclude from the evaluation
    question = {
        "question": values["question"],
        "answers": values.get("answers"),
        "asked_at": values.get("question_ts"),
    }
    return [question | {"question_id": values.get("qa_id"), "doc_id": doc_id}]


def _camels(values: dict[str, Any]) -> list[dict[str, Any]]:
    doc_id, answers = document_id(values["text"]), values["answers"].split("\\")
    return [
        {
            "doc_id": doc_id,
            "published_at": _LAST_DAY,
            "text": values["text"],
            "source": "StreamingQA",
        },
        {
            "doc_id": doc_id,
            "question": values["question"],
            "asked_at": _LAST_DAY,
            "answers": answers,
        },
    ]


def _archival(values: dict[str, Any]) -> list[dict[str, Any]]:
    doc_id, date, text = values["para_id"], values["date"], values["ans_paragraph"]
    document = {"doc_id": doc_id, "published_at": date, "title": values["title"], "text": text}
    question = {
        "doc_id": doc_id,
        "asked_at": date,
        "question": values["question"],
        "answers": [values["answer"]],
    }
    return [document | {"source": "The New York Times"}, question]
