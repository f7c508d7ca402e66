"""Questions in the words of one sentence."""

from datetime import UTC, datetime

import pyarrow as pa
import pytest

from cmt.questions.plain import plain_questions
from cmt.stream.schema import DOCUMENT_SCHEMA


class Knowledge:
    """What the LM would know of a few words."""

    def kinds(self, names: object) -> dict[str, str]:
        return {"Ines Vell": "person"}

    def infinitive(self, past: str) -> str:
        return {"opened": "open", "reached": "reach"}[past]


def asked(*texts: str) -> list[tuple[str, str]]:
    """Questions and answers on documents with these texts."""
    rows = [
        {
            "doc_id": f"d{n}",
            "published_at": datetime(2031, 1, n, tzinfo=UTC),
            "text": text,
            "sha256": "",
        }
        for n, text in enumerate(texts, 1)
    ]
    made = plain_questions(pa.Table.from_pylist(rows, schema=DOCUMENT_SCHEMA), Knowledge())  # type: ignore[arg-type]
    return [(one.question, one.answer) for one in made]


@pytest.mark.parametrize(
    ("text", "question", "answer"),
    [
        (
            "Ines Vell opened the village school in Saltby.",
            "Who opened the village school in Saltby?",
            "Ines Vell",
        ),
        (
            "The first tram reached Saltby harbour in 1987.",
            "When did the first tram reach Saltby harbour?",
            "1987",
        ),
        (
            "The bridge will open to traffic on 14 June, they say.",
            "When will the bridge open to traffic?",
            "14 June",
        ),
        (
            "Corvale Tramways repaired nine old cars, and sold two.",
            "What repaired nine old cars?",
            "Corvale Tramways",
        ),
    ],
)
def test_a_subject_or_a_date_is_asked_for(text: str, question: str, answer: str) -> None:
    assert (question, answer) in asked(text)


@pytest.mark.parametrize(
    "text",
    [
        "Ines Vell gave them the old village school.",  # who they are is elsewhere
        "Cold hands want a hot bowl of barley broth.",  # no name
        "She opened the village school of Saltby in 1987.",
        "Ines Vell opened it.",
    ],
)
def test_a_question_that_needs_other_sentences_is_not_made(text: str) -> None:
    assert asked(text) == []


def test_each_document_comes_once_before_any_comes_twice() -> None:
    two = (
        "Ines Vell opened the village school in Saltby. Ines Vell sold the harbour mill of Corvale"
        " last week."
    )
    one = "Ines Vell painted the yellow ferry of Saltby."
    assert [question for question, _ in asked(two, one)] == [
        "Who sold the harbour mill of Corvale last week?",
        "Who painted the yellow ferry of Saltby?",
        "Who opened the village school in Saltby?",
    ]
