"""What the real LM knows of words, and questions that are made with it."""

import pytest

from cmt.lm.model import FrozenLM
from cmt.questions.generation import generate_questions
from cmt.questions.word_knowledge import KINDS, WordKnowledge
from tests.helpers.facts import documents


@pytest.fixture(scope="module")
def knowledge(real_lm: FrozenLM) -> WordKnowledge:
    return WordKnowledge(real_lm)


@pytest.mark.parametrize(
    ("word", "similar"), [("located", "situated"), ("largest", "biggest"), ("died", "death")]
)
def test_similar_words_are_those_of_like_meaning(
    knowledge: WordKnowledge, word: str, similar: str
) -> None:
    found = knowledge.similar(word)
    assert 0.45 <= found[similar] < 1 and word not in found
    assert list(found.values()) == sorted(found.values(), reverse=True)


def test_function_words_and_words_of_several_tokens_are_similar_to_none(
    knowledge: WordKnowledge,
) -> None:
    assert knowledge.similar("floccinaucinihilipilification") == {}
    assert not {"the", "and", "for"} & knowledge.similar("known").keys()


@pytest.mark.parametrize(
    ("past", "infinitive"),
    [("opened", "open"), ("created", "create"), ("stopped", "stop"), ("carried", "carry"),
     ("wrote", "write"),
     ("zorbled", "zorbled")],
)  # fmt: skip
def test_infinitives(knowledge: WordKnowledge, past: str, infinitive: str) -> None:
    assert knowledge.infinitive(past) == infinitive


def test_what_a_name_names(knowledge: WordKnowledge) -> None:
    names = {
        "Immanuel Kant": "person",
        "Ganges": "river",
        "Cantonese": "language",
        "Oklahoma City": "city",
    }
    assert knowledge.kinds(names) == names
    assert knowledge.kinds(["Xq"]) == {"Xq": ""}  # unsure
    assert knowledge.kinds([]) == {}
    assert len(set(KINDS)) == len(KINDS)


def test_questions_ask_for_what_a_name_names_in_other_words(knowledge: WordKnowledge) -> None:
    text = "In 1802 Immanuel Kant opened the largest school beside the Ganges."
    numbers = {f"copy {number}": 5 for number in range(25)}
    rows = documents([{"doc_id": name, "text": text} for name in numbers])
    made = generate_questions(rows, numbers=numbers, seed=0, knowledge=knowledge).to_pylist()
    asked = [(row["question"], row["answers"][0]) for row in made]
    assert {question.split()[0] for question, answer in asked if answer == "Immanuel Kant"} == {
        "Who"
    }
    assert {"What river", "Which river"} <= {
        " ".join(question.split()[:2]) for question, answer in asked if answer == "Ganges"
    }
    words = {word for question, _ in asked for word in question.split()}
    assert {"biggest", "largest"} <= words
    assert any(question.startswith("When did Immanuel Kant open ") for question, _ in asked)
