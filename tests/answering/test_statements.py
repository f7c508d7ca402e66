"""Changes at the question: which of two documents' statements holds, and what is shown beside
it.
"""

import math
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from cmt.answering.comparison import Statement
from cmt.answering.statements import (
    COMPARED,
    CORROBORATION,
    Alike,
    Comparisons,
    MayChange,
    alike,
    anyone,
    compare,
    weigh,
)
from cmt.bank.changes import Change, ValueSpan
from cmt.evaluation.temporary_bank import TemporaryBank
from cmt.lm.model import FrozenLM
from cmt.modeling.cross_encoder import CrossEncoder, Odds, Report
from cmt.modeling.model import ReadSpan
from cmt.retrieval.selector import Selection
from tests.helpers.fares import JULY, MARCH, NEW, OLD, QUESTION, stated
from tests.helpers.shipped import shipped_bank


def scores_of(statements: list[Statement], shifts: list[float]) -> list[float]:
    return [
        statement.score + statement.prior + shift
        for statement, shift in zip(statements, shifts, strict=True)
    ]


def encoder_with(*, holds: float, changed: float) -> CrossEncoder:
    """A cross-encoder with the same odds for every pair."""

    class Fixed(CrossEncoder):
        def odds(self, question: str, earlier: Report, later: Report) -> Odds:
            return Odds(holds, changed)

    return Fixed.__new__(Fixed)


def test_the_later_value_takes_over_where_it_is_told_as_a_fact() -> None:
    statements = [
        stated(OLD, "8 crowns", MARCH, score=6.0),
        stated(NEW, "11 crowns", JULY, score=1.0),
    ]
    shifts, pairs = weigh(QUESTION, statements, lambda _one, _other: "yes")
    old, new = scores_of(statements, shifts)
    assert new > old
    assert pairs[0].probability > 0.5
    # both share what they had, and gain the more, the surer the change is
    gain = math.log(math.exp(old) + math.exp(new)) - math.log(math.exp(6.0) + math.exp(1.0))
    assert gain == pytest.approx(CORROBORATION * pairs[0].probability)


@pytest.mark.parametrize(
    ("other", "comparable"),
    [
        (stated(NEW, "11 crowns", MARCH), "yes"),  # one date
        (stated(OLD.replace("Fares", "Fares again"), "8 crowns", JULY), "yes"),  # one value
        (stated(NEW, "11 crowns", JULY), "no"),
        (Statement(NEW, 0, 0, -math.inf, JULY), "yes"),  # not read
    ],
)
def test_other_statements_keep_their_scores_to_the_bit(other: Statement, comparable: Alike) -> None:
    shifts, pairs = weigh(
        QUESTION, [stated(OLD, "8 crowns", MARCH), other], lambda _one, _other: comparable
    )
    assert (shifts, pairs) == ([0.0, 0.0], [])


@pytest.mark.parametrize(
    ("about", "changed", "counts"),
    [("yes", -8, True), ("perhaps", -8, False), ("perhaps", 2, True)],
)
def test_texts_that_may_be_about_the_same_count_where_a_change_is_possible(
    about: Alike, changed: float, counts: bool
) -> None:
    statements = [stated(OLD, "8 crowns", MARCH), stated(NEW, "11 crowns", JULY)]
    _, pairs = weigh(
        QUESTION, statements, lambda _one, _other: about, encoder_with(holds=4.0, changed=changed)
    )
    assert [(pair.earlier, pair.later) for pair in pairs] == [(0, 1)] * counts


BOTH = "Fares rise\nOn Saltby a ticket is dearer: 11 crowns, after 8 crowns for the single fare of the ferry."


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
    statements = [stated(OLD, "8 crowns", MARCH), stated(BOTH, "8 crowns", JULY)]
    encoder = encoder_with(holds=4.0, changed=changed)
    _, pairs = weigh(
        QUESTION, statements, lambda _one, _other: "yes", encoder, lambda _new, _old: second
    )
    assert [pair.second.answer for pair in pairs if pair.second] == answers


@pytest.mark.parametrize("second_to_third", ["yes", "no"])
@pytest.mark.parametrize("scores", [(8.0, 2.0, 1.0), (1.0, 2.0, 8.0), (2.0, 8.0, 1.0)])
def test_a_value_that_returns_is_compared_with_the_one_before_it(
    scores: tuple[float, float, float], second_to_third: Alike
) -> None:
    again = stated(
        NEW.replace("11 crowns", "8 crowns"), "8 crowns", JULY + timedelta(days=90), score=scores[2]
    )
    statements = [
        stated(OLD, "8 crowns", MARCH, score=scores[0]),
        stated(NEW, "11 crowns", JULY, score=scores[1]),
    ]
    shifts, pairs = weigh(
        QUESTION,
        [*statements, again],
        lambda *two: second_to_third if set(two) == {1, 2} and scores[0] == 8 else "yes",
        encoder_with(holds=8.0, changed=8.0),
        lambda _later, _earlier: pytest.fail("the text is read without the value that it states"),
    )
    assert [(pair.earlier, pair.later) for pair in pairs] == [(0, 1), (1, 2)]
    found = scores_of([*statements, again], shifts)
    assert found.index(max(found)) == 2


@pytest.mark.parametrize(
    ("second_to_third", "expected"), [("no", [(0, 1), (1, 2)]), ("barred", [(0, 1)])]
)
def test_a_third_text_of_a_chain_may_be_like_the_first_one_alone(
    second_to_third: Alike, expected: list[tuple[int, int]]
) -> None:
    class Sure(CrossEncoder):
        def odds(self, question: str, earlier: Report, later: Report) -> Odds:
            assert earlier.text == OLD
            return Odds(8.0, 8.0)

    statements = [
        stated(OLD, "8 crowns", MARCH, score=9.0),
        stated(NEW, "11 crowns", JULY),
        stated(NEW.replace("11", "12"), "12 crowns", JULY + timedelta(days=90)),
    ]
    _, pairs = weigh(
        QUESTION,
        statements,
        lambda *two: second_to_third if set(two) == {1, 2} else "yes",
        Sure.__new__(Sure),
    )
    assert [(pair.earlier, pair.later) for pair in pairs] == expected


def test_few_comparisons_are_made() -> None:
    third = [
        stated(NEW.replace("11", str(12 + n)), f"{12 + n} crowns", JULY + timedelta(days=n))
        for n in range(9)
    ]
    _, pairs = weigh(
        QUESTION, [stated(OLD, "8 crowns", MARCH, score=9.0), *third], lambda _one, _other: "yes"
    )
    assert len(pairs) == COMPARED


@pytest.mark.parametrize(
    ("later", "expected"),
    [
        (NEW, "yes"),
        ("On Saltby we paid 11 crowns for one ferry ticket.", "perhaps"),  # names
        ("Rain fell on the harbour all day, and the band played on.", "no"),
        (
            "Sailings leave each hour from the northern pier; passengers board, and bicycles stand on deck.",
            "no",
        ),
    ],
)
def test_shared_words_and_names_tell_what_may_be_about_the_same(
    later: str, expected: Alike
) -> None:
    old = (
        f"{OLD} Sailings leave each hour from the northern pier; passengers board twenty minutes "
        "before departure, and bicycles stand on the open deck behind the funnel. "
        "Captain Orla Venn retires in autumn after thirty seasons; her deputy, Piers Loam, learned his trade in Corrow."
    )
    rows = [{"title": None, "source": None, "text": text} for text in (old, later)]
    assert alike(QUESTION, *rows) == expected
    publisher = "Northern Passengers' Deputy Captain"  # four of the earlier text's words
    rows = [row | {"source": publisher, "text": f"{publisher}\n{row['text']}"} for row in rows]
    assert alike(QUESTION, *rows) == expected


def test_of_three_values_the_last_one_wins() -> None:
    third = NEW.replace("11 crowns", "14 crowns")
    statements = [
        stated(third, "14 crowns", JULY + timedelta(days=90), score=0.0),
        stated(OLD, "8 crowns", MARCH, score=8.0),
        stated(NEW, "11 crowns", JULY, score=2.0),
    ]
    shifts, pairs = weigh(QUESTION, statements, lambda _one, _other: "yes")
    scores = scores_of(statements, shifts)
    assert scores.index(max(scores)) == 0
    assert [(pair.earlier, pair.later) for pair in pairs] == [(1, 2), (2, 0)]


def comparisons(
    changes: tuple[Change, ...] = (), may_change: MayChange = anyone, **later: Any
) -> Comparisons:
    rows = [
        {"doc_id": "a1", "published_at": MARCH, "title": None, "source": None, "supersedes": None},
        {"doc_id": "a2", "published_at": JULY, "title": None, "source": None, "supersedes": None}
        | later,
    ]
    selection = Selection(rows, changes=changes)

    def offsets(text: str) -> list[tuple[int, int]]:
        return [(i, i + 1) for i in range(len(text))]

    return Comparisons(QUESTION, selection, [OLD, NEW], offsets, may_change=may_change)


def read(compared: Comparisons) -> tuple[list[float], float]:
    spans = [
        (text.index(answer), answer) for text, answer in ((OLD, "8 crowns"), (NEW, "11 crowns"))
    ]
    found = [ReadSpan(first, first + len(answer) - 1, 3.0, 0.0) for first, answer in spans]
    weighed = compared.weigh(found, lambda later, _earlier: found[later])
    return [*weighed.shifts], weighed.margin


def change(state: Any) -> Change:
    old, new = ValueSpan("a1", MARCH, 0, 0, 1, ""), ValueSpan("a2", JULY, 0, 0, 1, "")
    return Change(old, new, holds_from=JULY, confidence=0.9, state=state)


def test_the_value_before_a_change_is_shown_beside_the_answer() -> None:
    compared = comparisons()
    shifts, margin = read(compared)
    before, later = compared.other_value(1), compared.other_value(0)
    assert shifts[1] > shifts[0]
    assert margin > 0
    assert (before.text, before.doc_id, before.published_at, before.later) == (
        "8 crowns",
        "a1",
        MARCH,
        False,
    )
    assert later is None or later.later


def test_what_is_declared_or_rejected_is_not_compared() -> None:
    for compared in (
        comparisons(supersedes="a1"),
        comparisons(changes=(change("rejected"),)),
        comparisons(doc_id="a1"),
    ):
        shifts, margin = read(compared)
        assert (shifts, margin, compared.other_value(1)) == ([0.0, 0.0], math.inf, None)
    assert read(comparisons(changes=(change("found"),)))[0] != [0.0, 0.0]


def test_a_source_that_may_not_change_a_fact_needs_a_recorded_change() -> None:
    def strangers(later: str | None, earlier: str | None) -> bool:
        return (later, earlier) != ("Mallory", None)

    assert read(comparisons(may_change=strangers, source="Mallory"))[0] == [0.0, 0.0]
    assert read(comparisons(may_change=strangers, source="Desk"))[0] != [0.0, 0.0]
    assert read(comparisons((change("found"),), may_change=strangers, source="Mallory"))[0] != [
        0.0,
        0.0,
    ]


@pytest.fixture(scope="module")
def bank(real_lm: FrozenLM) -> TemporaryBank:
    texts = [
        ("a1", MARCH, OLD),
        ("a2", JULY, NEW),
        ("b1", JULY, "Tarn dam\nThe water behind the dam stood at 28 metres."),
    ]
    rows = [
        {"doc_id": name, "published_at": at.isoformat(), "source": "paper"}
        | dict(zip(("title", "text"), text.split("\n"), strict=True))
        for name, at, text in texts
    ]
    return shipped_bank(real_lm, rows)


def test_the_trained_reader_answers_with_the_value_in_force(bank: TemporaryBank) -> None:
    with bank.answerer() as answerer:
        now, before = answerer.answer([QUESTION] * 2, as_of=[None, JULY - timedelta(days=1)])
        rejected = replace(answerer, changes_of=lambda _doc_ids: [change("rejected")])
        (revoked,) = rejected.answer([QUESTION], as_of=[None])
        rows = {row["doc_id"]: [row] for row in bank.rows.to_pylist()}
        compared = compare(answerer, QUESTION, rows["a1"], rows["a2"])
    assert now.text.startswith("11 crowns")
    assert (now.other_value.text, now.other_value.doc_id, now.other_value.later) == (
        "8 crowns",
        "a1",
        False,
    )
    assert before.text.startswith("8 crowns")
    assert before.other_value is None
    assert revoked.other_value is None
    assert (compared.earlier.answer, compared.later.answer) == ("8 crowns", "11 crowns")
    assert compared.probability > 0.5


def test_memories_that_are_later_come_with_the_first_one(bank: TemporaryBank) -> None:
    with bank.answerer() as answerer:
        key = answerer.keys([QUESTION])[0]
        found = answerer.bank.later("a1#0", key=key, k=4, as_of=None)
        named = answerer.bank.memories(
            {"a1#0", "a2#0", "none#0"}, key=key, as_of=JULY - timedelta(days=1)
        )
        nothing = answerer.bank.later("a2#0", key=key, k=4, as_of=None)
    assert found["doc_id"].to_pylist()[0] == "a2"
    assert named["doc_id"].to_pylist() == ["a1"]
    assert nothing.num_rows == 0
    assert SimpleNamespace(**found.to_pylist()[0]).similarity == pytest.approx(
        named["similarity"][0].as_py(), abs=0.5
    )
