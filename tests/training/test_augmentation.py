"""Changes told in training text: what is put in, and what must not be touched."""

import pyarrow as pa
import pytest

from cmt.training import augmentation
from cmt.training.augmentation import add_changed_values

TEXT = "The bridge was built for $365 million. Since then Marguerite Osei has been its keeper, in the town of Ellery."
ASKED = [("How much did the bridge cost?", "$365 million"), ("Who keeps the bridge?", "Marguerite Osei")]


@pytest.fixture(autouse=True)
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augmentation, "SHARE", 1.0)
    monkeypatch.setattr(augmentation, "OFTEN", 1.0)


def told(asked: list[tuple[str, str]], *, text: str = TEXT, seed: int = 0) -> str:
    """`text` after a change; another document has names to put in."""
    documents = pa.table({"doc_id": ["a", "b"], "title": ["A", "B"], "text": [text, "Ines Calloway sang."]})
    questions = pa.table(
        {
            "doc_id": ["a"] * len(asked) + ["b"],
            "question": [question for question, _ in asked] + ["Who sang?"],
            "answers": [[answer] for _, answer in asked] + [["Ines Calloway"]],
        }
    )
    changed = add_changed_values(documents, questions, seed=seed)
    assert changed.schema == documents.schema
    assert changed["doc_id"].equals(documents["doc_id"])
    return str(changed["text"][0])


def test_beside_an_answer_stands_another_of_its_kind() -> None:
    named = counted = 0
    for seed in range(40):
        text = told(ASKED, seed=seed)
        assert "$365 million" in text
        assert "Marguerite Osei" in text
        assert text.endswith("in the town of Ellery.")
        counted += text.count("million") == 2  # what is drawn may be the answer itself
        named += "Ines Calloway" in text
    assert counted > 30
    assert named > 10


def test_up_and_down_are_true() -> None:
    said = {told(ASKED[:1], seed=seed) for seed in range(200)}
    ways = [text.partition(" million, ")[2].partition("Since")[0] for text in said]
    ways = [way for way in ways if way.startswith(("up ", "down "))]
    assert len(ways) > 3
    for way in ways:
        old = int(way.partition("$")[2].partition(" ")[0])
        assert way.startswith("up") == (old < 365), way


def test_the_same_seed_tells_the_same() -> None:
    assert told(ASKED, seed=3) == told(ASKED, seed=3)
    assert len({told(ASKED, seed=seed) for seed in range(9)}) > 1


def test_what_is_neither_a_figure_nor_a_name_is_left() -> None:
    assert told([("What was Osei?", "keeper")]) == TEXT


def test_part_of_a_longer_name_is_left() -> None:
    assert told([("Who keeps the bridge?", "Marguerite")]) == TEXT


def test_no_answer_is_torn_apart() -> None:
    asked = [*ASKED, ("What is said of the keeper?", "Marguerite Osei has been its keeper")]
    for seed in range(20):
        assert "Marguerite Osei has been its keeper" in told(asked, seed=seed)


def test_nothing_put_in_is_an_answer() -> None:
    for seed in range(40):
        text = told([*ASKED, ("Who sang?", "Ines Calloway")], text=TEXT + " Once Ines Calloway sang.", seed=seed)
        assert text.count("Ines Calloway") == 1


def test_only_a_share_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augmentation, "SHARE", 0.5)
    untouched = sum(told(ASKED, seed=seed) == TEXT for seed in range(100))
    assert 30 < untouched < 70
