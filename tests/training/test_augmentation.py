"""Earlier values in training text: what is added, and what stays unchanged."""

import pyarrow as pa
import pytest

from cmt.training import augmentation
from cmt.training.augmentation import add_changed_values

TEXT = (
    "The bridge was built for $365 million. Since then Marguerite Osei has been its keeper, in the"
    " town of Ellery."
)
PAIRS = [
    ("How much did the bridge cost?", "$365 million"),
    ("Who keeps the bridge?", "Marguerite Osei"),
]


@pytest.fixture(autouse=True)
def change_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augmentation, "DOCUMENT_SHARE", 1.0)
    monkeypatch.setattr(augmentation, "ANSWER_SHARE", 1.0)


def augment(pairs: list[tuple[str, str]], *, text: str = TEXT, seed: int = 0) -> str:
    """`text` after augmentation; another document has a name that can be added."""
    documents = pa.table(
        {"doc_id": ["a", "b"], "title": ["A", "B"], "text": [text, "Ines Calloway sang."]}
    )
    questions = pa.table(
        {
            "doc_id": ["a"] * len(pairs) + ["b"],
            "question": [question for question, _ in pairs] + ["Who sang?"],
            "answers": [[answer] for _, answer in pairs] + [["Ines Calloway"]],
        }
    )
    changed = add_changed_values(documents, questions, seed=seed)
    assert changed.schema == documents.schema
    assert changed["doc_id"].equals(documents["doc_id"])
    return str(changed["text"][0])


def test_an_answer_gets_another_value_of_its_kind() -> None:
    figures = names = 0
    for seed in range(40):
        text = augment(PAIRS, seed=seed)
        assert "$365 million" in text
        assert "Marguerite Osei" in text
        assert text.endswith("in the town of Ellery.")
        figures += text.count("million") == 2  # the random figure may be the answer itself
        names += "Ines Calloway" in text
    assert figures > 30
    assert names > 10


def test_up_and_down_agree_with_the_figures() -> None:
    texts = {augment(PAIRS[:1], seed=seed) for seed in range(200)}
    phrases = [text.partition(" million, ")[2].partition("Since")[0] for text in texts]
    phrases = [phrase for phrase in phrases if phrase.startswith(("up ", "down "))]
    assert len(phrases) > 3
    for phrase in phrases:
        old = int(phrase.partition("$")[2].partition(" ")[0])
        assert phrase.startswith("up") == (old < 365), phrase


@pytest.mark.parametrize(
    "answer", ["keeper", "Marguerite"], ids=["no figure and no name", "part of a longer name"]
)
def test_other_answers_are_unchanged(answer: str) -> None:
    assert augment([("Who keeps the bridge?", answer)]) == TEXT


def test_every_answer_stays_verbatim_in_the_text() -> None:
    pairs = [*PAIRS, ("What is said of the keeper?", "Marguerite Osei has been its keeper")]
    for seed in range(20):
        assert "Marguerite Osei has been its keeper" in augment(pairs, seed=seed)


def test_no_added_value_is_an_answer() -> None:
    for seed in range(40):
        text = augment(
            [*PAIRS, ("Who sang?", "Ines Calloway")],
            text=TEXT + " Once Ines Calloway sang.",
            seed=seed,
        )
        assert text.count("Ines Calloway") == 1


def test_only_a_share_of_the_documents_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augmentation, "DOCUMENT_SHARE", 0.5)
    untouched = sum(augment(PAIRS, seed=seed) == TEXT for seed in range(100))
    assert 30 < untouched < 70
