"""The pairs that train the cross-encoder."""

import json
from datetime import date
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.helpers.lms import TinyLm
from tests.helpers.scripts import load_script

FERRY = {
    "P1-1": (
        "2031-01-10",
        "Saltby ferry",
        "A ticket for the Saltby ferry costs 8 crowns. The Saltby ferry takes 40 people.",
    ),
    "P1-2": (
        "2031-06-10",
        "At the quay",
        "A ticket for the Saltby ferry costs 11 crowns. Captain Ines Moor smiled.",
    ),
}
MUSEUM = {
    "P2-1": (
        "2031-02-10",
        "Saltby museum",
        "Entry to the Saltby museum costs 5 crowns, said Ada Voss on Sunday.",
    ),
    "P2-2": (
        "2031-08-10",
        "Saltby museum",
        "Entry to the Saltby museum would cost 7 crowns, says a rumour. Ada Voss denies it.",
    ),
}


@pytest.fixture
def script() -> ModuleType:
    return load_script("train_cross_encoder")


@pytest.fixture
def writer(script: ModuleType) -> Any:
    """Two stories, a change and a trap."""
    documents = {
        doc_id: {"doc_id": doc_id, "published_at": day, "title": title, "text": text}
        for doc_id, (day, title, text) in (FERRY | MUSEUM).items()
    }
    fare, entry = "How much is the Saltby ferry?", "What does the Saltby museum cost?"
    questions = [
        {"question": fare, "doc_id": "P1-2", "answers": ["11 crowns"], "asked_at": "2031-09-01"},
        {"question": fare, "doc_id": "P1-1", "answers": ["8 crowns"], "asked_at": "2031-03-01"},
        {"question": entry, "doc_id": "P2-1", "answers": ["5 crowns"], "asked_at": "2031-09-01"},
    ]
    stories = [
        {
            "story": "P1",
            "kind": "change/plain",
            "documents": [*FERRY],
            "update_of": {"P1-2": "P1-1"},
        },
        {"story": "P2", "kind": "trap/rumour", "documents": [*MUSEUM], "update_of": {}},
    ]
    return script.Writer("P", documents, questions, stories)


def labels(examples: Any) -> dict[tuple[str, str], set[Any]]:
    """The labels of the pairs of each two documents."""
    found: dict[tuple[str, str], set[Any]] = {}
    for _, one, two, asked, label, _ in examples:
        assert asked >= date.fromisoformat(two["published_at"])
        found.setdefault((one["doc_id"], two["doc_id"]), set()).add(tuple(label))
    return found


def test_a_later_document_holds_if_its_answer_is_right(writer: Any) -> None:
    natural = labels(writer.natural())
    assert natural["P1-1", "P1-2"] == {
        (True, True)
    }  # both questions: after the change, and between the dates
    assert natural["P2-1", "P2-2"] == {(False, False)}
    others = {
        label for pair, found in natural.items() if pair[0][:2] != pair[1][:2] for label in found
    }
    assert others <= {(True, False), (False, False)}


def test_made_questions_tell_a_change_only_where_the_story_has_one(writer: Any) -> None:
    made = labels(writer.made())
    assert made["P1-1", "P1-2"] == {(True, True)}  # on the fare, and none on the captain
    assert made["P2-1", "P2-2"] <= {(False, False), (None, False)}
    assert all(
        not changed
        for pair, found in made.items()
        if pair != ("P1-1", "P1-2")
        for _, changed in found
    )


def test_a_document_about_something_else_takes_the_names_of_a_question(script: ModuleType) -> None:
    jabs = {
        "doc_id": "d2",
        "title": "Flu in Tarn Abbey",
        "text": "The van stops in Tarn Abbey; a jab costs 12 crowns.",
    }
    assert script.renamed(jabs, ["Tarn Abbey"], ["Saltby"]) == jabs | {
        "title": "Flu in Saltby",
        "text": "The van stops in Saltby; a jab costs 12 crowns.",
    }


@pytest.mark.parametrize("other_value", [0.0, 1.0])
def test_of_two_paragraphs_the_one_that_answers_holds_and_another_value_changes_it(
    script: ModuleType,
    tmp_path: Path,
    tiny_lm: TinyLm,
    monkeypatch: pytest.MonkeyPatch,
    other_value: float,
) -> None:
    monkeypatch.setattr(script, "OTHER_VALUE", other_value)
    built = {
        "ferry": "Anna Holt",
        "mill": "Odo Weir",
        "bridge": "Ida Moor",
        "school": "Ben Cole",
        "quay": "Lea Fox",
    }
    texts = {name: f"The {thing} was built by {name}." for thing, name in built.items()}
    paragraphs = [
        {
            "context": text,
            "qas": [
                {"question": "Who?", "answers": [{"text": name, "answer_start": text.index(name)}]}
            ],
        }
        for name, text in texts.items()
    ]
    file = tmp_path / "articles.json"
    file.write_text(json.dumps({"data": [{"title": "Saltby", "paragraphs": paragraphs}]}))
    lm = tiny_lm("llama")
    pairs = list(script.article_pairs(file, lm))
    for pair in pairs:
        earlier, later = lm.decode(pair.tokens).partition("Earlier report")[2].split("Later report")
        subjects = [{word for word in built if word in text} for text in (earlier, later)]
        assert (subjects[0] == subjects[1]) == bool(other_value)
        assert pair.labels[1] == other_value
    assert pairs
