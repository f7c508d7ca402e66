"""ArchivalQA (Wang et al. 2022) as CaMeLS pairs it with the New York Times corpus: a CSV, a question a row.

The document is the answering paragraph (`ans_paragraph`, named by `para_id`). `date` is a day, so both the document and
its questions stand at midnight UTC of that day; questions have no date of their own.
"""

from collections.abc import Iterator
from pathlib import Path

from cmt.stream.readers.files import RawRow, read_csv
from cmt.stream.schema import Rejected

COLUMNS = ("question", "answer", "para_id", "doc_id", "para_num", "ans_paragraph", "ans_text", "title", "date", "year")


def read(path: Path) -> Iterator[RawRow | Rejected]:
    """The rows of one file, counted by line; a paragraph that answers several questions comes as often."""
    for row in read_csv(path, columns=COLUMNS):
        if isinstance(row, Rejected):
            yield row
            continue
        number, values = row
        day = values["date"] and f"{values['date']}T00:00:00Z"
        document = {
            "doc_id": values["para_id"],
            "published_at": day,
            "title": values["title"],
            "text": values["ans_paragraph"],
            "source": "The New York Times",
        }
        question = {"doc_id": values["para_id"], "question": values["question"], "answers": [values["answer"]]}
        yield RawRow("document", path.name, number, document)
        yield RawRow("question", path.name, number, dict(question, asked_at=day))
