"""An answerer that reads one word; a tiny LM gives no right answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from unittest.mock import patch

from cmt.answering.answer import Answer, Source
from cmt.answering.answerer import Answerer
from cmt.answering.judge import Statement
from cmt.common.progress import OnProgress
from cmt.retrieval.selector import Selection
from cmt.text.display import without_publisher
from cmt.workspace import Workspace


@dataclass(kw_only=True, eq=False)
class WordReader(Answerer):
    """Answers with the first word, behind the publisher, of the best hit of the full-text
    search.
    """

    asked: list[str] = field(default_factory=list)  # the questions asked of the bank, in order

    def answer(
        self,
        questions: Sequence[str],
        *,
        as_of: Sequence[datetime | None],
        selections: Sequence[Selection] | None = None,
        closed_book: bool = False,
        on_progress: OnProgress | None = None,
    ) -> list[Answer]:
        self.asked += questions
        pairs = zip(questions, as_of, strict=True)
        return [
            _read(text, self.bank.full_text(text=text, k=4, as_of=date).to_pylist())
            for text, date in pairs
        ]

    def select(
        self, questions: Sequence[str], *, as_of: Sequence[datetime | None]
    ) -> list[Selection]:
        pairs = zip(questions, as_of, strict=True)
        found = [
            self.bank.full_text(text=text, k=4, as_of=date).to_pylist() for text, date in pairs
        ]
        return [Selection([row | {"prior": 0.0} for row in rows]) for rows in found]

    def answer_from(
        self, questions: Sequence[str], memories: Sequence[Sequence[Any]]
    ) -> list[Answer]:
        return [_read(text, rows) for text, rows in zip(questions, memories, strict=True)]

    def statements(
        self, questions: Sequence[str], rows: Sequence[Mapping[str, Any]], *, expand: bool = True
    ) -> list[Statement]:
        return list(map(_statement, rows))


def read_words(workspace: Workspace) -> WordReader:
    """Let `workspace`, which has answered nothing yet, answer with a WordReader; returns it."""
    with patch("cmt.answering.answerer.Answerer", WordReader):  # which the project opens lazily
        reader = workspace.project.answerer
    assert isinstance(reader, WordReader)
    return reader


def _read(question: str, rows: Sequence[Any]) -> Answer:
    sources = tuple(
        Source(row["doc_id"], row["title"], row["published_at"], 0.0, 0.0, row["text"])
        for row in rows
    )
    text = _statement(rows[0]).answer if rows else ""
    return Answer(
        question, text, "likely" if rows else "not_in_memory", 0.9, sources, uncalibrated=0.9
    )


def _statement(row: Mapping[str, Any]) -> Statement:
    own = without_publisher(row)
    skipped = len(row["text"]) - len(own)
    last = skipped + len(own.split()[0])
    return Statement(row["text"], skipped, last, 3.0, row["published_at"])
