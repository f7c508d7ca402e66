"""SQuAD in its official JSON layout (Rajpurkar et al. 2016): each context is a document, each qa a
question.

SQuAD has no dates: all rows get the day of its release, or the `published_at` or `date` of their
article.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from cmt.stream.columns import Record
from cmt.stream.schema import document_id, raw_text

RELEASED_AT = datetime(2016, 6, 16, tzinfo=UTC)


def rows_of(articles: list[Any], name: str) -> Iterator[Record]:
    """Yield the rows of the value of `data` in a file, documents numbered by paragraph, questions
    by qa, from 1.
    """
    n_questions = 0
    for number, (title, dated, paragraph) in enumerate(_paragraphs(articles), 1):
        text = paragraph.get("context") if isinstance(paragraph, dict) else None
        if not isinstance(text, str):
            reason = f"paragraph {number} is not in SQuAD's layout: it has no context"
            yield Record({"raw": raw_text(paragraph)}, f"{name} row {number}", reason)
            continue
        doc_id = document_id(text)
        document = {
            "doc_id": doc_id,
            "published_at": dated,
            "title": title,
            "text": text,
            "source": "SQuAD 1.1",
        }
        yield Record(document, f"{name} row {number}")
        questions = paragraph.get("qas")
        for qa in questions if isinstance(questions, list) else []:
            n_questions += 1
            where = f"{name} row {n_questions}"
            if not isinstance(qa, dict):
                yield Record(
                    {"raw": raw_text(qa)},
                    where,
                    "a question is not in SQuAD's layout: no JSON object",
                )
                continue
            values = {"question_id": qa.get("id"), "doc_id": doc_id, "asked_at": dated}
            yield Record(values | {key: qa.get(key) for key in ("question", "answers")}, where)


def _paragraphs(articles: list[Any]) -> Iterator[tuple[Any, Any, Any]]:
    """Yield (title, date, paragraph); an article without paragraphs is yielded as one, which is
    rejected.
    """
    for article in articles:
        if isinstance(article, dict) and isinstance(article.get("paragraphs"), list):
            title = article.get("title")
            dated = article.get("published_at") or article.get("date") or RELEASED_AT
            title = title.replace("_", " ") if isinstance(title, str) else title
            yield from ((title, dated, paragraph) for paragraph in article["paragraphs"])
        else:
            yield None, RELEASED_AT, article
