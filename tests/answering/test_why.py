"""Reasons, manners and summaries, in sentences of a document."""

from datetime import UTC, datetime

import pytest

from cmt.answering.answer import Answer
from cmt.answering.by_form import answer_by_form
from cmt.evaluation.temporary_bank import TemporaryBank
from cmt.lm.model import FrozenLM
from tests.helpers.shipped import shipped_bank

AUGUST = datetime(2031, 8, 2, tzinfo=UTC)
FERRY = (
    "The Saltby ferry did not sail on Monday. Mechanic Ida Moss put the fault down to a gull that"
    " had nested in the exhaust. Forty passengers took the bus. Tickets may be returned until May."
)
OLD_DAM = "The Tarn dam was emptied in spring. Engineers said that the wall had frost damage."
NEW_DAM = "The Tarn dam was emptied in spring. Engineers said that a valve had to be replaced."


@pytest.fixture(scope="module")
def bank(real_lm: FrozenLM) -> TemporaryBank:
    """A ferry that did not sail, a dam whose reason was corrected, and a third text."""
    rows = [
        ("ferry", "Gull stops ferry", FERRY, 3),
        ("dam", "Tarn dam empty", OLD_DAM, 4),
        ("dam", "Tarn dam empty", NEW_DAM, 5),
        ("choir", "Choir prize", "The Highcombe choir won a prize. The judges praised it.", 6),
    ]
    return shipped_bank(
        real_lm,
        [
            {"doc_id": doc_id, "title": title, "text": text, "source": "paper"}
            | {"published_at": f"2031-03-0{day}T00:00:00+00:00"}
            for doc_id, title, text, day in rows
        ],
    )


def asked(bank: TemporaryBank, question: str) -> Answer:
    with bank.answerer() as answerer:
        answer = answer_by_form(answerer, question, as_of=AUGUST)
    assert answer
    return answer


def test_a_reason_is_quoted_in_the_order_of_its_document(bank: TemporaryBank) -> None:
    answer = asked(bank, "Why did the Saltby ferry not sail on Monday?")
    assert answer.known and answer.form == "why"
    [item] = answer.items
    assert (answer.text, item.doc_id) == (item.text, "ferry")
    assert "put the fault down to a gull" in item.text and "Gull stops" not in item.text
    sentences = item.text.replace(" … ", " ").split(". ")
    assert [FERRY.index(sentence) for sentence in sentences] == sorted(
        FERRY.index(sentence) for sentence in sentences
    )
    [source] = answer.sources
    assert source.text and source.quote
    quoted = [source.text[span.first : span.last] for span in source.spans]
    assert all(sentence in item.text for sentence in quoted)
    assert source.quote.first in [span.first for span in source.spans]


def test_a_corrected_version_is_not_quoted(bank: TemporaryBank) -> None:
    answer = asked(bank, "Why was the Tarn dam emptied?")
    assert "valve" in answer.text and "frost" not in answer.text


def test_a_reason_that_no_document_has_is_not_in_memory(bank: TemporaryBank) -> None:
    answer = asked(bank, "Why did Napoleon lose at Waterloo?")
    assert (answer.text, answer.form, answer.items) == ("not in memory", "why", ())
    assert answer.missing == ("Napoleon", "Waterloo")


def test_a_task_reads_no_memory_and_says_why(bank: TemporaryBank) -> None:
    answer = asked(bank, "Write me a poem about the Saltby ferry.")
    assert (answer.verdict, answer.form, answer.sources) == ("not_in_memory", "none", ())
    assert answer.reason.startswith("a task") and answer.id.count("-") == 2
