"""Questions made from texts for training."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmt.questions.generation import generate_questions
from cmt.stream.schema import QUESTION_SCHEMA
from tests.helpers.facts import documents
from tests.helpers.words import UnknownWords

TEXT = (
    "Ines Vell opened the school in Saltby in 1987; it has 40 rooms and a garden behind the old"
    " harbour. On 3 May 2031 the town council of Port Ellery met Moss."
)


def documents_of(texts: dict[str, str]) -> pa.Table:
    return documents([{"doc_id": doc_id, "text": text} for doc_id, text in texts.items()])


def generate(rows: pa.Table, numbers: dict[str, int], seed: int) -> pa.Table:
    """Questions in the words of the texts."""
    return generate_questions(rows, numbers=numbers, seed=seed, knowledge=UnknownWords())


def made(text: str, *, per_document: int = 20, seed: int = 0) -> list[tuple[str, str]]:
    rows = generate(documents_of({"a": text}), {"a": per_document}, seed).to_pylist()
    return [(row["question"], row["answers"][0]) for row in rows]


def test_names_numbers_dates_and_phrases_are_asked_for() -> None:
    answers = {answer for _, answer in made(TEXT)}
    assert {"Ines Vell", "Saltby", "1987", "40", "3 May 2031", "Port Ellery", "Moss"} <= answers
    assert any(answer[0].islower() for answer in answers)


@pytest.mark.parametrize(
    ("text", "answer", "beginnings"),
    [
        (TEXT, "1987", {"When", "In", "What"}),
        (TEXT, "40", {"How"}),
        (TEXT, "3 May 2031", {"When", "On"}),
        (TEXT, "Saltby", {"Where"}),
        (
            "In 1987 the old school was opened by Ines Vell on the hill. Later Vell left the town.",
            "Ines Vell",
            {"Who"},
        ),
        (
            "The first bridge was built by the young engineer Dora Quill in winter.",
            "Dora Quill",
            {"What", "Which"},
        ),
        (
            "The town band plays every week near the Saltby River in summer.",
            "Saltby River",
            {"What", "Which"},
        ),
        (
            "The town closed the ferry because the engine had burnt in June.",
            "the engine had burnt in June",
            {"Why"},
        ),
        (
            "The crew saved the old ferry by patching the leaks with tar.",
            "patching the leaks with tar",
            {"How"},
        ),
        ("The crew of the ferry waited 12 days for the new engine there.", "12 days", {"How"}),
    ],
)
def test_what_an_answer_is_decides_how_it_is_asked_for(
    text: str, answer: str, beginnings: set[str]
) -> None:
    asked = {
        question.split()[0]
        for seed in range(20)
        for question, found in made(text, seed=seed)
        if found == answer
    }
    assert asked and asked <= beginnings


def test_a_noun_beside_a_name_is_in_the_question_and_an_auxiliary_verb_comes_first() -> None:
    text = "Since 1990 the ferry has crossed the bay from the city of Saltby in two hours."
    questions = [
        question
        for seed in range(60)
        for question, answer in made(text, seed=seed)
        if answer == "Saltby"
    ]
    assert questions and all(
        question.startswith(("What city ", "Which city ")) for question in questions
    )
    assert any(question.split()[2] == "has" for question in questions)


def test_some_questions_are_the_clause_as_it_stands_and_many_leave_out_words_of_it() -> None:
    questions = [
        question
        for seed in range(200)
        for question, answer in made(TEXT, seed=seed)
        if answer == "40"
    ]
    whole = [
        q for q in questions if q == "How many rooms and a garden behind the old harbour it has?"
    ]
    one_side = [q for q in questions if "it" not in q.split() and "has?" not in q.split()]
    gap = [q for q in questions if "rooms" not in q and "rooms?" not in q]
    assert 2 < len(whole) < 50
    assert len(one_side) > 50 and 30 < len(gap) < 175
    assert len(set(questions)) > 50


def test_a_gap_longer_than_the_words_before_the_answer_leaves_none_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in (("_GAPS", (5,)), ("_ONE_SIDE", 0), ("_NOISY", 0)):
        monkeypatch.setattr(f"cmt.questions.generation.{name}", value)
    text = (
        "The tired old council in 1987 closed a narrow school near Saltby because lightning"
        " destroyed its roof."
    )
    questions = [
        question
        for seed in range(20)
        for question, answer in made(text, seed=seed)
        if answer == "1987"
    ]
    assert questions and all("council" in question for question in questions if "tired" in question)


def test_a_long_clause_gives_the_words_near_the_answer() -> None:
    text = f"The harbour {'quietly ' * 20}lost two old lighthouses {'slowly ' * 20}in the storm."
    questions = [
        question
        for seed in range(20)
        for question, answer in made(text, seed=seed)
        if answer == "two"
    ]
    assert questions and all(len(question.split()) <= 2 + 16 for question in questions)
    assert any("lighthouses" in question for question in questions)


@pytest.mark.parametrize(
    ("text", "answers"),
    [
        (
            "The pumps were moved by teams of young engineers in autumn.",
            {"teams of young engineers", "autumn"},
        ),
        ("They wanted to leave the old mill near the river in winter.", {"old mill", "river"}),
        (
            "The tolls brought £ 3.5 million, or 40% of what the bridge had cost.",
            {"£ 3.5 million", "40%"},
        ),
        (
            "While Moss slept, the ferry (an old one) left without the mayor on board.",
            {"mayor", "board"},
        ),
        (
            "The keepers waved at the ship. Moss's friend left (217 BC) for the war.",
            {"keepers", "Moss", "217 BC", "war"},
        ),
        (
            "The storm lasted from 3 May to 5 May and sank ships until the late 1930s.",
            {"3 May to 5 May", "the late 1930s"},
        ),
        ("The ferry (an old one) left Saltby at noon in rain.", {"noon", "Saltby"}),
        ("Between 1914–18 the mill lost 1/3 of its 25 workers and their tools.", {"25"}),
        (
            "The map of J. A. Hort is kept at the University of Saltby in a box.",
            {"J. A. Hort", "University of Saltby"},
        ),
    ],
)
def test_phrases_names_and_quantities_are_whole(text: str, answers: set[str]) -> None:
    asked = [row for seed in range(20) for row in made(text, seed=seed)]
    found = {answer for _, answer in asked}
    assert answers <= found
    parts = (
        "While Moss|leave|3.5|40|teams|the old|while|Hort|University|Moss's|5 May|217|old"
        " one|1914|18|1|3"
    )
    assert not found & set(parts.split("|"))
    assert not any("(" in question or " one " in question for question, _ in asked)


ELSEWHERE = {
    "a": "The school on the hill of Saltby was opened by Ines Vell in a hot summer.",
    "b": "At last Ines Vell saw the school on the hill opened.",
    "c": "The fishermen of the north like what Ines Vell wrote on herrings and whales.",
}


def test_another_sentence_on_the_same_is_often_asked_with() -> None:
    numbers = dict.fromkeys(ELSEWHERE, 20)
    questions = [
        row["question"]
        for seed in range(60)
        for row in generate(documents_of(ELSEWHERE), numbers, seed).to_pylist()
        if row["doc_id"] == "a" and row["answers"] == ["Ines Vell"]
    ]
    with_the_other = [question for question in questions if "last" in question or "saw" in question]
    assert 20 < len(with_the_other) < 50
    assert not any(
        "herrings" in question or "whales" in question for question in questions
    )  # on something else


def test_a_document_without_a_question_has_none_and_no_answer_is_asked_for_twice() -> None:
    asked = generate(documents_of({"a": "It rained.", "b": TEXT}), {"a": 5, "b": 5}, 1)
    assert asked.schema == QUESTION_SCHEMA
    assert (
        asked["asked_at"].to_pylist() == documents_of({"b": TEXT})["published_at"].to_pylist() * 5
    )
    assert asked["doc_id"].to_pylist() == ["b"] * 5
    assert len(set(asked["question_id"].to_pylist())) == 5
    assert len({answers[0] for answers in asked["answers"].to_pylist()}) == 5
    again = generate(documents_of({"a": "It rained.", "b": TEXT}), {"a": 5, "b": 5}, 1)
    assert again.equals(asked)
    assert generate(documents_of({}), {"a": 5}, 1).num_rows == 0


@given(st.text(alphabet=st.sampled_from("aAbB1 .,;:()$%\n\"'’-"), max_size=200))
def test_every_answer_is_verbatim_and_every_question_has_words(text: str) -> None:
    for question, answer in made(text, per_document=3):
        assert answer in text
        assert question.endswith("?") and len(question.split()) > 1


def test_a_pronoun_is_often_replaced_by_the_title() -> None:
    rows = documents(
        [
            {
                "doc_id": "a",
                "title": "Saltby",
                "text": "Until 1990 it had two ferries and a small school.",
            }
        ]
    )
    questions = [
        row["question"] for seed in range(60) for row in generate(rows, {"a": 9}, seed).to_pylist()
    ]
    named = [question for question in questions if "Saltby" in question]
    assert 0.4 < len(named) / len([q for q in questions if "Saltby" in q or " it" in q]) < 0.9
