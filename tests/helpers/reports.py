"""Shared by the tests of the report: hostile text, a parsed page, records, and an answerer that
returns them.
"""

from collections import Counter
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import pyarrow as pa

from cmt.answering.answer import Answer, Source, Span
from cmt.evaluation.evaluate import RECORD_SCHEMA

MOMENT = datetime(2031, 2, 25, 7, tzinfo=UTC)
HOSTILE = '<script>alert("1")</script><img src=//evil.example/x onerror=alert(2)>'
VOID = {"meta", "img", "br", "hr", "input", "link", "source"}


class ParsedPage(HTMLParser):
    """Elements, attributes and visible text of a page; an assertion fails if tags do not match."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: Counter[str] = Counter()
        self.attributes: list[tuple[str, str]] = []
        self.texts: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def values(self, *names: str) -> list[str]:
        """The values of all attributes with these names."""
        return [value for name, value in self.attributes if name in names]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def record(name: str, **values: Any) -> dict[str, Any]:
    """A row of RECORD_SCHEMA: the question "What is <name>?", answered "red" instead of "blue"."""
    row = {
        "question_id": name,
        "doc_id": f"doc-{name}",
        "question": f"What is {name}?",
        "golds": ["blue"],
        "asked_at": MOMENT,
        "cmt": "red",
        "cmt_f1": 0.0,
        "sources": [f"doc-{name}"],
        "recalled": True,
        "confidence": 0.5,
        "uncalibrated": 0.5,
    }
    return row | values


def record_table(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=RECORD_SCHEMA)


class OneSourceAnswerer:
    """A stand-in for an Answerer: answers "red" from the document of each question, with
    windows.
    """

    def __init__(self, spans: tuple[Span, ...] = ()) -> None:
        self.spans = spans

    def answer(self, questions: list[str], *, as_of: list[datetime]) -> list[Answer]:
        assert as_of == [MOMENT] * len(questions)
        return [
            Answer(question, "red", "likely", 0.5, (self._source(question),), uncalibrated=0.5)
            for question in questions
        ]

    def _source(self, question: str) -> Source:
        name = question.removeprefix("What is ").removesuffix("?")
        return Source(
            f"doc-{name}", None, MOMENT, 0.5, 0.9, "A sky of blue over grass.", self.spans
        )
