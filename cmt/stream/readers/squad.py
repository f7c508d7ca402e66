"""SQuAD 1.1 in its official JSON layout (Rajpurkar et al. 2016), plain, .gz or .xz.

Each unique context is a document, each qa a question. SQuAD has no dates: all rows get the day of its release,
or the `published_at` or `date` of their article.
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
    for number, (title, dated, paragraph) in enumerate(_paragraphs(articles), 1):
        text = paragraph.get("context") if isinstance(paragraph, dict) else None
        if not isinstance(text, str):
            reason = f"paragraph {number} is not in SQuAD's layout: it has no context"
            yield Rejected(file, number, reason, raw_text(paragraph))
            continue
        doc_id = document_id(text)
        document = {"doc_id": doc_id, "published_at": dated, "title": title, "text": text, "source": "SQuAD 1.1"}
        yield RawRow("document", file, number, document)
        questions = paragraph.get("qas")
        for qa in questions if isinstance(questions, list) else []:
            n_questions += 1
            if not isinstance(qa, dict):
                yield Rejected(file, n_questions, "a question is not in SQuAD's layout: no JSON object", raw_text(qa))
                continue
            values = {"question_id": qa.get("id"), "doc_id": doc_id, "asked_at": dated}
            values |= {name: qa.get(name) for name in ("question", "answers")}
            yield RawRow("question", file, n_questions, values)


def _paragraphs(articles: list[Any]) -> Iterator[tuple[Any, Any, Any]]:
    """Yield (title, date, paragraph); an article without paragraphs is yielded as one, which is rejected."""
    for article in articles:
        if isinstance(article, dict) and isinstance(article.get("paragraphs"), list):
            title = article.get("title")
            for paragraph in article["paragraphs"]:
                dated = article.get("published_at") or article.get("date") or RELEASED_AT
                yield title.replace("_", " ") if isinstance(title, str) else title, dated, paragraph
        else:
            yield None, RELEASED_AT, article
