"""Which of two things has more of something."""

from datetime import UTC, datetime

import pytest

from cmt.answering.answer import Answer
from cmt.answering.by_form import answer_by_form
from cmt.evaluation.temporary_bank import TemporaryBank
from cmt.lm.model import FrozenLM
from tests.helpers.shipped import shipped_bank

AUGUST = datetime(2031, 8, 2, tzinfo=UTC)


@pytest.fixture(scope="module")
def bank(real_lm: FrozenLM) -> TemporaryBank:
    texts = {
        "bright": "The freighter Hester Bright weighs 9,200 tonnes. She sails on Monday.",
        "marigold": "The barge Constant Marigold weighs 8,200 tonnes. She carries gravel.",
        "vale": "The sign painter Otis Vale is 71 years old. He works in Saltby.",
        "sloop": "The sloop Tern weighs 800 pounds. She was built in Saltby.",
    }
    rows = [
        {"doc_id": name, "published_at": "2031-03-03T00:00:00Z", "text": text}
        for name, text in texts.items()
    ]
    return shipped_bank(real_lm, rows)


def asked(bank: TemporaryBank, question: str) -> Answer | None:
    with bank.answerer() as answerer:
        return answer_by_form(answerer, question, as_of=AUGUST)


@pytest.mark.parametrize(
    ("comparative", "text"),
    [("heavier", "the Hester Bright"), ("lighter", "the Constant Marigold")],
)
def test_the_larger_or_the_smaller_number_decides(
    bank: TemporaryBank, comparative: str, text: str
) -> None:
    question = f"What is {comparative}, the Hester Bright or the Constant Marigold?"
    answer = asked(bank, question)
    assert answer and (answer.form, answer.text) == ("compare", text)
    assert [(item.doc_id, item.text) for item in answer.items] == [
        ("bright", "the Hester Bright: 9,200 tonnes"),
        ("marigold", "the Constant Marigold: 8,200 tonnes"),
    ]
    assert {source.doc_id for source in answer.sources} == {"bright", "marigold"}


def test_numbers_of_different_units_are_shown_and_not_compared(bank: TemporaryBank) -> None:
    answer = asked(bank, "What is heavier, the Hester Bright or the sloop Tern?")
    assert answer and answer.verdict == "unsure"
    assert answer.text == "the Hester Bright: 9,200 tonnes; the sloop Tern: 800 pounds"


def test_without_a_number_the_question_is_plain(bank: TemporaryBank) -> None:
    assert asked(bank, "Who is older, Otis Vale or the king of Norway?") is None
