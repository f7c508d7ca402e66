"""ArchivalQA (Wang et al. 2022) as CaMeLS pairs it with the New York Times corpus: CSV, one question a row.

The document is the answering paragraph (`ans_paragraph`, with `para_id` as doc_id). `date` is a plain date: the
document is published at the start of that day in UTC. Its questions, which have no date, are asked at the end of it.
"""

from collections.abc import Iterator
from pathlib import Path

from cmt.stream.limits import Limits
from cmt.stream.readers.files import RawRow, read_csv
from cmt.stream.schema import Rejected

COLUMNS = ("question", "answer", "para_id", "doc_id", "para_num", "ans_paragraph", "ans_text", "title", "date", "year")


def read(path: Path, limits: Limits) -> Iterator[RawRow | Rejected]:
    """Yield the rows of one file, numbered by line, with a document for each question. Raises StreamError."""
    for row in read_csv(path, limits, columns=COLUMNS):
        if isinstance(row, Rejected):
            yield row
            continue
        number, values = row
        document = {
            "doc_id": values["para_id"],
            "published_at": values["date"],
            "title": values["title"],
            "text": values["ans_paragraph"],
            "source": "The New York Times",
        }
        question = {
            "doc_id": values["para_id"],
            "question": values["question"],
            "answers": [values["answer"]],
            "asked_at": values["date"],
        }
        yield RawRow("document", path.name, number, document)
        yield RawRow("question", path.name, number, question)
