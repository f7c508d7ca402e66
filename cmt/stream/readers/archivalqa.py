"""ArchivalQA (Wang et al. 2022) as CaMeLS pairs it with the New York Times corpus: CSV, one question a row.

The document is the answering paragraph (`ans_paragraph`, with `para_id` as doc_id). `date` is a plain date: the
document is published at the start of that day in UTC. Its questions, which have no date, are asked at the end of it.
"""

from collections.abc import Iterator

from cmt.stream.limits import Limits
from cmt.stream.readers.files import Record
from cmt.stream.readers.tabular import read_csv

COLUMNS = ("question", "answer", "para_id", "ans_paragraph", "title", "date")


def read(data: bytes, name: str, limits: Limits) -> Iterator[Record]:
    """Yield a document and a question for each row, numbered by line. Raises StreamError without these columns."""
    for row in read_csv(data, name, limits, required=COLUMNS):
        if row.error:
            yield row
            continue
        values = row.fields
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
        yield Record(document, row.where)
        yield Record(question, row.where)
