"""SQuAD 1.1 in its official JSON layout (Rajpurkar et al. 2016), plain, .gz or .xz.

Each unique context is a document, each qa a question. SQuAD has no dates: all rows get the day of its release.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cmt.errors import StreamError
from cmt.stream.limits import Limits
from cmt.stream.readers.files import RawRow, read_json
from cmt.stream.schema import Rejected, document_id, raw_text

RELEASED_AT = datetime(2016, 6, 16, tzinfo=UTC)


def read(path: Path, limits: Limits) -> Iterator[RawRow | Rejected]:
    """Yield the rows of one file, documents numbered by paragraph, questions by qa, both from 1. Raises StreamError."""
    content = read_json(path, limits)
    articles = content.get("data") if isinstance(content, dict) else None
    if not isinstance(articles, list):
        raise StreamError(f'{path} is not in SQuAD\'s layout: expected {{"data": [{{"title", "paragraphs"}}]}}')
    yield from rows_of(articles, path.name)


def rows_of(articles: list[Any], file: str) -> Iterator[RawRow | Rejected]:
    """Yield the rows of the value of `data` in a file."""
    n_questions = 0
    for number, (title, paragraph) in enumerate(_paragraphs(articles), 1):
        try:
            rows = list(_rows(file, number, n_questions + 1, title, paragraph))
        except (KeyError, TypeError, AttributeError) as error:
            reason = f"paragraph {number} is not in SQuAD's layout ({type(error).__name__}: {error})"
            yield Rejected(file, number, reason, raw_text(paragraph))
        else:
            n_questions += len(rows) - 1
            yield from rows


def _paragraphs(articles: list[Any]) -> Iterator[tuple[Any, Any]]:
    """Yield (title, paragraph); yield an article without paragraphs as a paragraph, which is then rejected as a row."""
    for article in articles:
        if isinstance(article, dict) and isinstance(article.get("paragraphs"), list):
            title = article.get("title")
            for paragraph in article["paragraphs"]:
                yield title.replace("_", " ") if isinstance(title, str) else title, paragraph
        else:
            yield None, article


def _rows(file: str, number: int, first_question: int, title: Any, paragraph: Any) -> Iterator[RawRow]:
    """Yield the document and the questions of `paragraph`; KeyError, TypeError or AttributeError for another layout."""
    text = paragraph["context"]
    doc_id = document_id(text)
    document = {"doc_id": doc_id, "published_at": RELEASED_AT, "title": title, "text": text, "source": "SQuAD 1.1"}
    yield RawRow("document", file, number, document)
    for index, qa in enumerate(paragraph["qas"], first_question):
        values = {
            "question_id": qa.get("id"),
            "doc_id": doc_id,
            "question": qa["question"],
            "answers": [answer["text"] for answer in qa["answers"]],
            "asked_at": RELEASED_AT,
        }
        yield RawRow("question", file, index, values)
