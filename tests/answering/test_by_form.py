"""Questions that name a time, ask since when, or for the value before."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from cmt.answering.answer import Answer
from cmt.answering.by_form import answer_by_form
from cmt.evaluation.temporary_bank import TemporaryBank
from tests.helpers.fares import JULY

AUGUST = datetime(2031, 8, 2, tzinfo=UTC)


def asked(bank: TemporaryBank, question: str, as_of: datetime = AUGUST) -> Answer | None:
    with bank.answerer() as answerer:
        return answer_by_form(answerer, question, as_of=as_of)


@pytest.mark.parametrize(
    ("when", "value", "doc_id"),
    [("in May", "8 crowns", "a1"), ("on 5 July", "8 crowns", "a1"), ("in July", "11 crowns", "a2")],
)
def test_the_answer_is_the_value_in_force_at_the_time(
    fares: TemporaryBank, when: str, value: str, doc_id: str
) -> None:
    question = f"What did a single ticket on the Saltby ferry cost {when}?"
    answer = asked(fares, question)
    assert answer
    assert (answer.question, answer.text, answer.form) == (question, value, "at")
    [source] = answer.sources
    assert source.doc_id == doc_id and source.quote
    assert answer.id.count("-") == 2


@pytest.mark.parametrize(
    ("question", "as_of"),
    [
        ("What does a single ticket on the Saltby ferry cost?", AUGUST),
        # before the first value
        ("What did a single ticket on the Saltby ferry cost in February?", AUGUST),
        # one value
        ("What did a single ticket on the Saltby ferry cost in May?", JULY.replace(day=1)),
        ("What did a single ticket on the tram in Paris cost in May?", AUGUST),
    ],
)
def test_other_questions_are_left_to_the_plain_answer(
    fares: TemporaryBank, question: str, as_of: datetime
) -> None:
    assert asked(fares, question, as_of) is None


@pytest.mark.parametrize(
    ("question", "text"),
    [
        ("Since when has a single ticket on the Saltby ferry cost 11 crowns?", "6 July 2031"),
        (
            "When did the price of a single ticket on the Saltby ferry rise?",
            "6 July 2031: 11 crowns",
        ),
    ],
)
def test_since_when_and_when_did_it_rise_give_the_day_of_the_change(
    fares: TemporaryBank, question: str, text: str
) -> None:
    answer = asked(fares, question)
    assert answer
    assert (answer.question, answer.text, answer.form) == (question, text, "since")
    [source] = answer.sources
    assert source.doc_id == "a2" and source.quote


@pytest.mark.parametrize(
    "question",
    [
        "When did the price of a single ticket on the Saltby ferry rise?",  # one value
        "Since when has the tram in Paris cost 11 crowns?",
    ],
)
def test_without_a_moment_the_question_is_left_to_the_plain_answer(
    fares: TemporaryBank, question: str
) -> None:
    assert asked(fares, question, JULY.replace(day=1)) is None


@pytest.mark.parametrize(
    "question",
    [
        "What was the previous price of a single ticket on the Saltby ferry?",
        "price of a single ticket on the Saltby ferry before it rose to 11 crowns",
    ],
)
def test_the_value_before_is_that_of_the_history(fares: TemporaryBank, question: str) -> None:
    answer = asked(fares, question)
    assert answer
    assert (answer.question, answer.text, answer.form) == (question, "8 crowns", "before")
    assert [source.doc_id for source in answer.sources] == ["a1"]


def test_without_an_earlier_value_the_plain_answer_is_given_unsure(fares: TemporaryBank) -> None:
    question = "What was the previous price of a single ticket on the Saltby ferry?"
    answer = asked(fares, question, JULY.replace(day=1))
    assert answer and answer.form == "before" and answer.verdict != "likely"


def test_without_a_date_the_question_is_asked_now(fares: TemporaryBank) -> None:
    question = "What did a single ticket on the Saltby ferry cost in May?"
    with fares.answerer() as answerer:
        clock = answerer.params.with_values(stream={"clock": AUGUST.isoformat()})
        answer = answer_by_form(replace(answerer, params=clock), question, as_of=None)
    assert answer and answer.text == "8 crowns"
