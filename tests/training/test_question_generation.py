"""Questions made from texts for training."""

import re

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmt.stream.schema import QUESTION_SCHEMA
from cmt.training.question_generation import generate_questions
from tests.helpers.facts import documents

TEXT = (
    "Ines Vell opened the school in Saltby in 1987; it has 40 rooms and a garden behind the old harbour. "
    "On 3 May 2031 the town council of Port Ellery met Moss."
)


def documents_of(texts: dict[str, str]) -> pa.Table:
    return documents([{"doc_id": doc_id, "text": text} for doc_id, text in texts.items()])


def made(text: str, *, per_document: int = 20, seed: int = 0) -> list[tuple[str, str]]:
    rows = generate_questions(documents_of({"a": text}), numbers={"a": per_document}, seed=seed).to_pylist()
    return [(row["question"], row["answers"][0]) for row in rows]


def test_names_numbers_dates_and_phrases_are_asked_for() -> None:
    answers = {answer for _, answer in made(TEXT)}
    assert {"Ines Vell", "Saltby", "1987", "40", "3 May 2031", "Port Ellery", "Moss"} <= answers
    assert any(answer[0].islower() for answer in answers)


@pytest.mark.parametrize(
    ("answer", "words"),
    [("1987", {"When", "In", "What"}), ("40", {"How"}), ("3 May 2031", {"When"}), ("Saltby", {"Where", "What"})],
)
def test_the_question_word_fits_the_answer(answer: str, words: set[str]) -> None:
    asked = {question.split()[0] for seed in range(20) for question, found in made(TEXT, seed=seed) if found == answer}
    assert asked <= words and asked


def test_a_question_is_its_clause_without_the_answer_and_half_of_them_have_noise() -> None:
    questions = [question for seed in range(200) for question, answer in made(TEXT, seed=seed) if answer == "40"]
    clause = ["rooms", "and", "a", "garden", "behind", "the", "old", "harbour", "it", "has"]
    whole = [question for question in questions if question == f"How many {' '.join(clause)}?"]
    nearest = [
        question for question in questions if re.fullmatch(r"How many rooms and a garden( \w+)* it has\?", question)
    ]
    assert 30 < len(whole) < len(nearest) < 160
    assert len(set(questions)) > 20
    assert all(set(question[:-1].split()[2:]) <= set(clause) for question in questions)  # no word of another clause


def test_a_long_clause_gives_the_words_near_the_answer() -> None:
    text = f"The harbour {'quietly ' * 20}lost two old lighthouses {'slowly ' * 20}in the storm."
    questions = [question for seed in range(20) for question, answer in made(text, seed=seed) if answer == "two"]
    assert questions and all(len(question.split()) <= 2 + 16 for question in questions)
    assert all("lighthouses" in question or "old" in question for question in questions[:1])


@pytest.mark.parametrize(
    ("text", "answers"),
    [
        ("The pumps were moved by teams of young engineers in autumn.", {"teams of young engineers", "autumn"}),
        ("They wanted to leave the old mill near the river in winter.", {"the old mill", "the river"}),
        ("The tolls brought £ 3.5 million, or 40% of what the bridge had cost.", {"£ 3.5 million", "40%"}),
        ("While Moss slept, the ferry (an old one) left without the mayor on board.", {"the mayor", "board"}),
    ],
)
def test_phrases_and_quantities_are_whole(text: str, answers: set[str]) -> None:
    found = {answer for _, answer in made(text)}
    assert answers <= found
    assert not found & {"While Moss", "leave", "3.5", "40", "teams", "the old", "while"}


def test_what_is_in_parentheses_is_not_asked_with() -> None:
    questions = [
        question
        for seed in range(20)
        for question, _ in made("The ferry (an old one) left Saltby at noon in heavy rain.", seed=seed)
    ]
    assert questions and not any("(" in question or "one" in question for question in questions)


def test_a_document_has_the_same_questions_beside_others_and_none_twice() -> None:
    alone = generate_questions(documents_of({"b": TEXT}), numbers={"b": 5}, seed=1)
    beside = generate_questions(
        documents_of({"a": "It rained.", "b": TEXT, "c": TEXT}), numbers={"a": 5, "b": 5, "c": 5}, seed=1
    )
    assert alone.schema == QUESTION_SCHEMA
    assert beside["doc_id"].to_pylist() == ["b"] * 5 + ["c"] * 5
    assert beside.slice(0, 5).equals(alone)
    assert len(set(alone["question_id"].to_pylist())) == 5
    assert generate_questions(documents_of({}), numbers={"a": 5}, seed=1).num_rows == 0


@given(st.text(alphabet=st.sampled_from("aAbB1 .,;:()$%\n\"'’-"), max_size=200))
def test_every_answer_is_verbatim_and_every_question_has_words(text: str) -> None:
    for question, answer in made(text, per_document=3):
        assert answer in text
        assert question.endswith("?") and len(question.split()) > 1


def test_the_date_of_a_question_is_that_of_its_document() -> None:
    rows = documents_of({"a": TEXT})
    asked = generate_questions(rows, numbers={"a": 2}, seed=0)["asked_at"]
    assert asked.to_pylist() == rows["published_at"].to_pylist() * 2
    assert isinstance(asked.type, pa.TimestampType)
