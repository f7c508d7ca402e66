"""SQuAD 1.1 in its official JSON layout (Rajpurkar et al. 2016), plain, .gz or .xz.

Each unique context is a document, each qa a question. SQuAD has no dates: all stand at the day of its release.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cmt.errors import StreamError
from cmt.stream.readers.files import RawRow, read_json
from cmt.stream.schema import Rejected, document_id, raw_text

RELEASED_AT = datetime(2016, 6, 16, tzinfo=UTC)


def read(path: Path) -> Iterator[RawRow | Rejected]:
    """The documents and questions of one file; documents are counted by paragraph, questions by qa, both from 1."""
    whole = read_json(path)
    articles = whole.get("data") if isinstance(whole, dict) else None
    if not isinstance(articles, list):
        raise StreamError(f'{path} is not in SQuAD\'s layout: expected {{"data": [{{"title", "paragraphs"}}]}}')
    asked = 0
    for number, (title, paragraph) in enumerate(_paragraphs(articles), 1):
        try:
            rows = list(_paragraph(path.name, number, asked, title, paragraph))
        except (KeyError, TypeError, AttributeError) as error:
            reason = f"paragraph {number} is not in SQuAD's layout ({type(error).__name__}: {error})"
            yield Rejected(path.name, number, reason, raw_text(paragraph))
        else:
            asked += len(rows) - 1
            yield from rows


def _paragraphs(articles: list[Any]) -> Iterator[tuple[Any, Any]]:
    for article in articles:
        if isinstance(article, dict) and isinstance(article.get("paragraphs"), list):
            title = article.get("title")
            for paragraph in article["paragraphs"]:
                yield title.replace("_", " ") if isinstance(title, str) else title, paragraph
        else:
            yield None, article


def _paragraph(file: str, number: int, asked: int, title: Any, paragraph: Any) -> Iterator[RawRow]:
    text = paragraph["context"]
    doc_id = document_id(text)
    document = {"doc_id": doc_id, "published_at": RELEASED_AT, "title": title, "text": text, "source": "SQuAD 1.1"}
    yield RawRow("document", file, number, document)
    for index, qa in enumerate(paragraph["qas"], asked + 1):
        values = {
            "question_id": qa.get("id"),
            "doc_id": doc_id,
            "question": qa["question"],
            "answers": [answer["text"] for answer in qa["answers"]],
            "asked_at": RELEASED_AT,
        }
        yield RawRow("question", file, index, values)
