"""The history of a question: its values, from when until when each holds, and how that is known."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cmt.answering.dated_values import FactHistory
from cmt.answering.fact_history import fact_history
from cmt.bank.changes import Change, ValueSpan
from cmt.evaluation.temporary_bank import TemporaryBank
from cmt.lm.model import FrozenLM
from tests.helpers.fares import JULY, MARCH, NEW, OLD, QUESTION
from tests.helpers.shipped import shipped_bank

MAY = datetime(2031, 5, 2, tzinfo=UTC)
AUGUST = datetime(2031, 8, 2, tzinfo=UTC)
HALT = "Fares\nThe single ticket on the Saltby ferry now costs 9 crowns, a crown more than before."
PAINT = "Paint\nThe Saltby ferry is painted green, and passengers on the quay liked it on Sunday."
TRAM = "Tram\nA single ticket on the tram in Dunmarrow costs 58 crowns, says the tram company."


def row(doc_id: str, at: datetime, text: str, **columns: Any) -> dict[str, Any]:
    """A document; the first line of `text` is its title."""
    title, body = text.split("\n")
    values = {"doc_id": doc_id, "published_at": at.isoformat(), "title": title, "text": body}
    return values | {"source": "paper"} | columns


@pytest.fixture(scope="module")
def declared(real_lm: FrozenLM) -> TemporaryBank:
    """A fare that two documents change by `supersedes`, and another fare."""
    rows = [
        row("a1", MARCH, OLD),
        row("a2", MAY, HALT, supersedes="a1"),
        row("a3", JULY, NEW, supersedes="a2"),
        row("t1", MAY, TRAM),
    ]
    return shipped_bank(real_lm, rows)


def values(history: FactHistory) -> list[tuple[str, datetime, datetime | None, str]]:
    """Text, dates and origin of each value."""
    return [(one.text, one.since, one.until, one.known) for one in history.values]


def history_of(
    bank: TemporaryBank, question: str = QUESTION, as_of: datetime | None = None, **parts: Any
) -> FactHistory:
    with bank.answerer() as answerer:
        return fact_history(replace(answerer, **parts), question, as_of=as_of)


def test_superseded_documents_give_the_earlier_values(declared: TemporaryBank) -> None:
    history = history_of(declared)
    assert values(history) == [
        ("8 crowns", MARCH, MAY, "stated"),
        ("9 crowns", MAY, JULY, "declared"),
        ("11 crowns", JULY, None, "declared"),
    ]
    for value in history.values:
        assert value.verdict in ("likely", "unsure")
        [source] = value.sources
        assert source.text and source.quote
        assert source.text[source.quote.first : source.quote.last] == value.text
    # what holds at a date begins with its document, and ends with the next
    assert history.at(MARCH - timedelta(seconds=1)) is None
    assert history.at(MAY) == history.values[1]
    assert history.at(AUGUST) == history.values[2]


def test_a_history_knows_nothing_of_later_documents(declared: TemporaryBank) -> None:
    assert values(history_of(declared, as_of=MAY + timedelta(days=1))) == [
        ("8 crowns", MARCH, MAY, "stated"),
        ("9 crowns", MAY, None, "declared"),
    ]
    assert history_of(declared, as_of=MARCH - timedelta(days=1)).values == ()


def test_a_question_on_something_else_has_no_history(declared: TemporaryBank) -> None:
    assert history_of(declared, "Who is the mayor of Paris?").values == ()


def test_the_value_of_a_superseded_document_ends_with_it(real_lm: FrozenLM) -> None:
    bank = shipped_bank(real_lm, [row("a1", MARCH, OLD), row("a2", MAY, PAINT, supersedes="a1")])
    assert values(history_of(bank)) == [("8 crowns", MARCH, MAY, "stated")]


def test_a_change_that_nobody_declares_is_compared_or_was_found(fares: TemporaryBank) -> None:
    expected = [("8 crowns", MARCH, JULY, "stated"), ("11 crowns", JULY, None, "compared")]
    assert values(history_of(fares)) == expected
    change = recorded(fares)
    found = values(history_of(fares, changes_of=lambda _doc_ids: [change]))
    assert [known for *_, known in found] == ["stated", "found"]
    rejected = replace(change, state="rejected")
    assert len(history_of(fares, changes_of=lambda _doc_ids: [rejected]).values) == 1


def test_a_source_that_may_change_nothing_adds_no_value(fares: TemporaryBank) -> None:
    assert len(history_of(fares, may_change=lambda _later, _earlier: False).values) == 1


def recorded(fares: TemporaryBank) -> Change:
    """The change of the fare, as a round records it."""
    rows = {one["doc_id"]: one for one in fares.rows.to_pylist()}

    def span(doc_id: str, value: str) -> ValueSpan:
        first = rows[doc_id]["text"].index(value)
        return ValueSpan.of(rows[doc_id], first, first + len(value))

    old, new = span("a1", "8 crowns"), span("a2", "11 crowns")
    return Change(old, new, holds_from=JULY, confidence=0.9)


def test_an_announced_value_begins_on_its_day(real_lm: FrozenLM) -> None:
    plan = "Fares rise\nFrom 1 June a single ticket on the Saltby ferry costs 9 crowns."
    bank = shipped_bank(real_lm, [row("a1", MARCH, OLD), row("a2", MAY, plan, supersedes="a1")])
    june = datetime(2031, 6, 1, tzinfo=UTC)
    expected = [("8 crowns", MARCH, june, "stated"), ("9 crowns", june, None, "declared")]
    assert values(history_of(bank, as_of=JULY)) == expected
    history = history_of(bank, as_of=MAY + timedelta(days=1))
    assert [value.text for value in history.values] == ["8 crowns", "9 crowns"]
    in_force = history.at(MAY + timedelta(days=1))
    assert in_force and in_force.text == "8 crowns"
