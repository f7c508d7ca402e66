"""What changed about a subject in a stretch of time."""

from datetime import UTC, datetime

import pytest

from cmt.answering.answer import Answer
from cmt.answering.by_form import answer_by_form
from cmt.bank.changes import Change, ValueSpan
from cmt.evaluation.temporary_bank import TemporaryBank
from cmt.lm.model import FrozenLM
from tests.helpers.shipped import shipped_bank

SEPTEMBER = datetime(2031, 9, 1, tzinfo=UTC)
TEXTS = {
    "ferry-01": "A single ticket on the Saltby ferry stays at 6 crowns. Dogs travel free.",
    "ferry-04": (
        "Gulls shrieked over the slip this morning. The fare of the Saltby ferry is now 7 crowns, "
        "up from 6 crowns. Fish porters waved mackerel. Their spokesman called on the governor."
    ),
    "ferry-07": (
        "The Saltby ferry costs 5 crowns from today. The last boat leaves at 23.40 rather than "
        "22.15. A brass band played. Nobody complained about the weather."
    ),
    "dam-07": "The water behind the Tarn dam stood at 28 metres. Anglers were pleased.",
    "bakery-07": "A bakery opened in Saltby. It sells buns for 2 crowns.",
}


@pytest.fixture(scope="module")
def ferry(real_lm: FrozenLM) -> TemporaryBank:
    rows = [
        {"doc_id": name, "published_at": f"2031-{name[-2:]}-03T06:00:00Z", "text": text}
        | ({"title": "Harbour news", "supersedes": "ferry-01"} if name == "ferry-04" else {})
        for name, text in TEXTS.items()
    ]
    return shipped_bank(real_lm, rows)


def asked(bank: TemporaryBank, question: str) -> Answer:
    with bank.answerer() as answerer:
        answer = answer_by_form(answerer, question, as_of=SEPTEMBER)
    assert answer and answer.form == "changed"
    return answer


def test_each_document_of_the_time_gives_its_sentences_by_date(ferry: TemporaryBank) -> None:
    answer = asked(ferry, "What has changed about the Saltby ferry since March?")
    assert [item.doc_id for item in answer.items] == ["ferry-04", "ferry-07"]
    first, second = (item.text for item in answer.items)
    assert "7 crowns, up from 6 crowns." in first and len(first) < len(TEXTS["ferry-04"]) - 20
    assert second.startswith("The Saltby ferry costs 5 crowns from today. The last boat leaves")
    assert answer.text == f"2031-04-03: {first}\n2031-07-03: {second}"
    assert answer.verdict == "likely" and answer.id
    assert [source.doc_id for source in answer.sources] == ["ferry-04", "ferry-07"]


@pytest.mark.parametrize(
    ("when", "doc_ids"),
    [
        ("between January and March", ["ferry-01"]),
        ("from January to April", ["ferry-01", "ferry-04"]),
        ("since 4 July", []),
        ("in the last two months", ["ferry-07"]),
    ],
)
def test_other_times(ferry: TemporaryBank, when: str, doc_ids: list[str]) -> None:
    answer = asked(ferry, f"what's new about the saltby ferry {when}")
    assert [item.doc_id for item in answer.items] == doc_ids
    assert answer.known == bool(doc_ids)


def test_a_subject_of_which_no_document_speaks(ferry: TemporaryBank) -> None:
    answer = asked(ferry, "What has changed about the tram in Paris since May?")
    assert (answer.text, answer.verdict, answer.items) == ("not in memory", "not_in_memory", ())


def test_a_bank_without_documents(ferry: TemporaryBank) -> None:
    with ferry.answerer(doc_ids=[]) as answerer:
        question = "What has changed about the ferry since May?"
        answer = answer_by_form(answerer, question, as_of=SEPTEMBER)
    assert answer and not answer.known


def test_a_recorded_change_brings_its_document_and_its_sentence(ferry: TemporaryBank) -> None:
    """The document about the bakery is about something else, unless a change connects it."""
    rows = {row["doc_id"]: row for row in ferry.rows.to_pylist()}
    old, new = rows["ferry-07"], rows["bakery-07"]
    value = new["text"].index("2 crowns")
    change = Change(
        ValueSpan.of(old, 0, 5),
        ValueSpan.of(new, value, value + 8),
        holds_from=new["published_at"],
        confidence=0.9,
    )
    with ferry.answerer() as answerer:
        answerer.changes_of = lambda doc_ids: [change]
        question = "What has changed about the Saltby ferry since June?"
        answer = answer_by_form(answerer, question, as_of=SEPTEMBER)
    assert answer and [item.doc_id for item in answer.items] == ["bakery-07", "ferry-07"]
    assert answer.items[0].text.endswith("It sells buns for 2 crowns.")
