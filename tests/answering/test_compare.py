"""Changes at the question: which of two documents' statements holds, and which other value is
shown.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from cmt.answering._compare import Compared, Reading, compare
from cmt.answering._related import MayChange, anyone
from cmt.answering.judge import COMPARED, CORROBORATION, Judge, SameFact, Statement
from cmt.bank.changes import Change, ValueSpan
from cmt.evaluation.temporary_bank import TemporaryBank
from cmt.lm.model import FrozenLM
from cmt.modeling.token_scores import ReadSpan
from cmt.retrieval.selector import Selection
from cmt.text.effect_dates import period_of
from tests.helpers.encoders import FixedEncoder
from tests.helpers.fares import JULY, MARCH, NEW, OLD, QUESTION, stated
from tests.helpers.shipped import shipped_bank

NOW = JULY + timedelta(days=365)
SURE = Judge(FixedEncoder(holds=8.0, changed=8.0))


def reading(
    *statements: Statement,
    same_fact: Callable[[int, int], SameFact] = lambda _first, _second: "yes",
    second: Statement | None = None,
    as_of: datetime = NOW,
) -> Any:
    """A reading with these statements; `second`: the second one of every memory."""

    def second_statement(_later: int, _earlier: int) -> Statement:
        return second or pytest.fail("the text is read without the value that it states")

    return SimpleNamespace(
        question=QUESTION,
        as_of=as_of,
        selection=Selection([{} for _ in statements]),
        texts=[statement.text for statement in statements],
        statements=lambda: list(statements),
        second_statement=second_statement,
        same_fact=same_fact,
    )


def memories(compared: Compared) -> list[tuple[int, int]]:
    """The compared pairs."""
    return [(pair.earlier, pair.later) for pair in compared.pairs]


def scores_of(compared: Compared) -> list[float]:
    statements = compared.reading.statements()
    return [
        statement.score + statement.prior + shift
        for statement, shift in zip(statements, compared.shifts, strict=True)
    ]


def test_the_later_value_takes_over_where_it_is_told_as_a_fact() -> None:
    compared = compare(
        reading(
            stated(OLD, "8 crowns", MARCH, score=6.0), stated(NEW, "11 crowns", JULY, score=1.0)
        ),
        SURE,
    )
    old, new = scores_of(compared)
    [pair] = compared.pairs
    assert new > old
    assert pair.holds > 0.5
    # both share what they had, and gain the more, the surer the change is
    gain = math.log(math.exp(old) + math.exp(new)) - math.log(math.exp(6.0) + math.exp(1.0))
    assert gain == pytest.approx(CORROBORATION * pair.holds)


def test_without_a_cross_encoder_the_newest_value_leads_and_both_are_shown() -> None:
    old, new = stated(OLD, "8 crowns", MARCH, score=6.0), stated(NEW, "11 crowns", JULY)
    rows = [{"doc_id": "a1"}, {"doc_id": "a2"}]
    both = reading(old, new)
    both.selection = Selection(rows)
    compared = compare(both, Judge(None))
    first, second = scores_of(compared)
    assert second > first
    assert compared.contested(1)
    assert (compared.other_value(1).text, compared.other_value(1).later) == ("8 crowns", False)
    perhaps = reading(old, new, same_fact=lambda *_: "perhaps")
    assert compare(perhaps, Judge(None)).pairs == []


@pytest.mark.parametrize(
    ("other", "relation"),
    [
        (stated(NEW, "11 crowns", MARCH), "yes"),  # one date
        (stated(OLD.replace("Fares", "Fares again"), "8 crowns", JULY), "yes"),  # one value
        (stated(NEW, "11 crowns", JULY), "no"),
        (Statement(NEW, 0, 0, -math.inf, JULY), "yes"),  # not read
    ],
)
def test_other_statements_keep_their_scores_to_the_bit(
    other: Statement, relation: SameFact
) -> None:
    compared = compare(
        reading(stated(OLD, "8 crowns", MARCH), other, same_fact=lambda *_: relation, second=other),
        SURE,
    )
    assert (compared.shifts, compared.pairs) == ([0.0, 0.0], [])


@pytest.mark.parametrize(
    ("relation", "changed", "counts"),
    [("yes", -8, True), ("perhaps", -8, False), ("perhaps", 2, True)],
)
def test_texts_that_may_be_about_the_same_count_where_a_change_is_possible(
    relation: SameFact, changed: float, counts: bool
) -> None:
    both = reading(
        stated(OLD, "8 crowns", MARCH),
        stated(NEW, "11 crowns", JULY),
        same_fact=lambda *_: relation,
    )
    compared = compare(both, Judge(FixedEncoder(holds=4.0, changed=changed)))
    assert memories(compared) == [(0, 1)] * counts


BOTH = (
    "Fares rise\nOn Saltby a ticket is dearer: 11 crowns, after 8 crowns for the single fare of the"
    " ferry."
)


@pytest.mark.parametrize(
    ("changed", "second", "answers"),
    [
        (2, stated(BOTH, "11 crowns", JULY, score=1.0), ["11 crowns"]),
        (-2, stated(BOTH, "11 crowns", JULY, score=1.0), []),  # improbable
        (2, stated(BOTH, "11 crowns", JULY, score=-9.0), []),  # not an answer
        (2, stated(BOTH, "8 crowns", JULY, score=1.0), []),  # no other value
    ],
)
def test_a_later_text_with_both_values_is_read_without_the_earlier_one(
    changed: float, second: Statement, answers: list[str]
) -> None:
    both = reading(stated(OLD, "8 crowns", MARCH), stated(BOTH, "8 crowns", JULY), second=second)
    compared = compare(both, Judge(FixedEncoder(holds=4.0, changed=changed)))
    assert [pair.second.answer for pair in compared.pairs if pair.second] == answers
    reread = [(pair.later, pair.earlier) for pair in compared.pairs if pair.second]
    assert reread == [(1, 0)] * len(answers)


@pytest.mark.parametrize("second_to_third", ["yes", "no"])
@pytest.mark.parametrize("scores", [(8.0, 2.0, 1.0), (1.0, 2.0, 8.0), (2.0, 8.0, 1.0)])
def test_a_value_that_returns_is_compared_with_the_one_before_it(
    scores: tuple[float, float, float], second_to_third: SameFact
) -> None:
    again = stated(
        NEW.replace("11 crowns", "8 crowns"), "8 crowns", JULY + timedelta(days=90), score=scores[2]
    )
    compared = compare(
        reading(
            stated(OLD, "8 crowns", MARCH, score=scores[0]),
            stated(NEW, "11 crowns", JULY, score=scores[1]),
            again,
            same_fact=lambda *two: (
                second_to_third if {*two} == {1, 2} and scores[0] == 8 else "yes"
            ),
        ),
        SURE,
    )
    assert memories(compared) == [(0, 1), (1, 2)]
    after = scores_of(compared)
    assert after.index(max(after)) == 2


@pytest.mark.parametrize(
    ("second_to_third", "expected"), [("no", [(0, 1), (1, 2)]), ("barred", [(0, 1)])]
)
def test_a_third_text_of_a_chain_may_be_like_the_first_one_only(
    second_to_third: SameFact, expected: list[tuple[int, int]]
) -> None:
    encoder = FixedEncoder(holds=8.0, changed=8.0)
    compared = compare(
        reading(
            stated(OLD, "8 crowns", MARCH, score=9.0),
            stated(NEW, "11 crowns", JULY),
            stated(NEW.replace("11", "12"), "12 crowns", JULY + timedelta(days=90)),
            same_fact=lambda *two: second_to_third if {*two} == {1, 2} else "yes",
        ),
        Judge(encoder),
    )
    assert memories(compared) == expected
    assert {text.text for text in encoder.read[::2]} == {OLD}


def test_few_comparisons_are_made() -> None:
    later = [
        stated(NEW.replace("11", str(12 + n)), f"{12 + n} crowns", JULY + timedelta(days=n))
        for n in range(9)
    ]
    compared = compare(reading(stated(OLD, "8 crowns", MARCH, score=9.0), *later), SURE)
    assert len(compared.pairs) == COMPARED


def test_of_three_values_the_last_one_wins() -> None:
    third = NEW.replace("11 crowns", "14 crowns")
    compared = compare(
        reading(
            stated(third, "14 crowns", JULY + timedelta(days=90), score=0.0),
            stated(OLD, "8 crowns", MARCH, score=8.0),
            stated(NEW, "11 crowns", JULY, score=2.0),
        ),
        SURE,
    )
    scores = scores_of(compared)
    assert scores.index(max(scores)) == 0
    assert memories(compared) == [(1, 2), (2, 0)]


def test_one_memory_is_not_compared() -> None:
    compared = compare(reading(stated(OLD, "8 crowns", MARCH)), SURE)
    assert (compared.pairs, compared.shifts, compared.margin) == ([], [], math.inf)


@pytest.mark.parametrize(
    ("text", "days", "expected"),
    [
        ("From 1 August a ticket on the Saltby ferry costs 11 crowns.", 10, 0),
        ("From 1 August a ticket on the Saltby ferry costs 11 crowns.", 40, 1),
        ("Until 20 July a ticket on the Saltby ferry costs 11 crowns.", 10, 1),
        ("Until 20 July a ticket on the Saltby ferry costs 11 crowns.", 40, 0),
    ],
)
def test_an_announced_value_holds_from_its_day_and_until_its_end(
    text: str, days: int, expected: int
) -> None:
    first = text.index("11 crowns")
    announced = replace(
        stated(text, "11 crowns", JULY),
        period=period_of(text, first, first + len("11 crowns"), JULY.date()),
    )
    both = reading(stated(OLD, "8 crowns", MARCH), announced, as_of=JULY + timedelta(days=days))
    scores = scores_of(compare(both, SURE))
    assert scores.index(max(scores)) == expected


def of_rows(
    changes: tuple[Change, ...] = (), may_change: MayChange = anyone, **later: Any
) -> Compared:
    """The outcome for two rows of a bank; ψ reads the fare in each."""
    row = {"doc_id": "a1", "published_at": MARCH, "title": None, "source": None, "supersedes": None}
    rows = [row, row | {"doc_id": "a2", "published_at": JULY} | later]
    spans = []
    for text, answer in ((OLD, "8 crowns"), (NEW, "11 crowns")):
        first = text.index(answer)
        spans.append(ReadSpan(first, first + len(answer) - 1, 3.0, 0.0))

    def offsets(text: str) -> list[tuple[int, int]]:
        return [(i, i + 1) for i in range(len(text))]

    scores: Any = SimpleNamespace(spans=lambda _row: spans)
    selection = Selection(rows, changes=changes)
    return compare(
        Reading(QUESTION, selection, [OLD, NEW], scores, 0, offsets, NOW, may_change), SURE
    )


def change(state: Any) -> Change:
    old, new = ValueSpan("a1", MARCH, 0, 0, 1, ""), ValueSpan("a2", JULY, 0, 0, 1, "")
    return Change(old, new, holds_from=JULY, confidence=0.9, state=state)


def test_the_value_before_a_change_is_shown_with_the_answer() -> None:
    compared = of_rows()
    before, later = compared.other_value(1), compared.other_value(0)
    assert compared.shifts[1] > compared.shifts[0]
    assert compared.margin > 0
    assert (before.text, before.doc_id, before.published_at, before.later) == (
        "8 crowns",
        "a1",
        MARCH,
        False,
    )
    assert later is None or later.later


@pytest.mark.parametrize(
    "case",
    [{"supersedes": "a1"}, {"changes": (change("rejected"),)}, {"doc_id": "a1"}],
    ids=["declared", "rejected", "one document"],
)
def test_what_is_declared_or_rejected_is_not_compared(case: dict[str, Any]) -> None:
    compared = of_rows(**case)
    assert (compared.shifts, compared.margin) == ([0.0, 0.0], math.inf)
    assert compared.other_value(1) is None


def test_a_source_that_may_not_change_a_fact_needs_a_recorded_change() -> None:
    def not_mallory(later: str | None, earlier: str | None) -> bool:
        return (later, earlier) != ("Mallory", None)

    recorded = (change("found"),)
    assert of_rows(may_change=not_mallory, source="Mallory").pairs == []
    assert of_rows(may_change=not_mallory, source="Desk").pairs
    assert of_rows(recorded, may_change=not_mallory, source="Mallory").pairs


def test_the_trained_reader_answers_with_an_announced_price_from_its_day(
    real_lm: FrozenLM,
) -> None:
    rise = "From 1 November a day ticket on the Orlen tram costs 5 crowns."
    rows = [
        ("old", MARCH, "A day ticket on the Orlen tram costs 4 crowns. Children travel free."),
        ("rise", JULY, rise),
        ("mill", JULY, "From 1 September the Tarn mill is open until six."),
    ]
    documents = [
        {"doc_id": name, "published_at": at.isoformat(), "title": "Notes", "text": text}
        for name, at, text in rows
    ]
    question = "What does a day ticket on the Orlen tram cost?"
    ahead = "What will a day ticket on the Orlen tram cost from 1 November?"
    november = JULY + timedelta(days=125)
    bank = shipped_bank(real_lm, documents)
    with bank.answerer() as answerer:
        before, later, asked_ahead = answerer.answer(
            [question, question, ahead], as_of=[JULY, november, JULY]
        )
    with bank.answerer({"rise", "mill"}) as answerer:
        only, in_force = answerer.answer([question] * 2, as_of=[JULY, november])
    assert [one.text for one in (before, later, asked_ahead)] == [
        "4 crowns",
        "5 crowns",
        "5 crowns",
    ]
    assert (only.text, only.verdict, only.holds_from) == ("5 crowns", "unsure", date(2031, 11, 1))
    assert (in_force.text, in_force.holds_from) == ("5 crowns", None)


def test_the_trained_reader_answers_with_the_value_in_force(fares: TemporaryBank) -> None:
    with fares.answerer() as answerer:
        now, before = answerer.answer([QUESTION] * 2, as_of=[None, JULY - timedelta(days=1)])
        rejected = replace(answerer, changes_of=lambda _doc_ids: [change("rejected")])
        (revoked,) = rejected.answer([QUESTION], as_of=[None])
    assert now.text.startswith("11 crowns")
    assert (now.other_value.text, now.other_value.doc_id, now.other_value.later) == (
        "8 crowns",
        "a1",
        False,
    )
    assert before.text.startswith("8 crowns")
    assert before.other_value is None
    assert revoked.other_value is None
