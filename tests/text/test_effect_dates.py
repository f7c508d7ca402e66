"""From when, and until when, a sentence says that its statement holds."""

from datetime import date

import pytest

from cmt.text.effect_dates import ALWAYS, asks_ahead, period_of

OCTOBER = date(2031, 10, 15)


def period(text: str, value: str = "3 crowns", published: date = OCTOBER) -> tuple[object, object]:
    first = text.index(value)
    return period_of(text, first, first + len(value), published)[:2]


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("From 1 November a ticket costs 3 crowns.", (2031, 11, 1)),
        ("A ticket costs 3 crowns from November 1st.", (2031, 11, 1)),
        ("A ticket costs 2 crowns, and from 1 November 3 crowns.", (2031, 11, 1)),
        ("As of next month a ticket costs 3 crowns.", (2031, 11, 1)),
        ("The fee of 3 crowns takes effect on January 1, 2032.", (2032, 1, 1)),
        ("Valid from 13 December: a ticket costs 3 crowns.", (2031, 12, 13)),
        ("The price will rise to 3 crowns on 1 February.", (2032, 2, 1)),
        ("In 2032 the fee rises to 3 crowns.", (2032, 1, 1)),
        ("From tomorrow the fee is 3 crowns.", (2031, 10, 16)),
        ("From Monday the fee is 3 crowns.", (2031, 10, 20)),
        ("Fares from 1 November\nA ticket costs 3 crowns.", (2031, 11, 1)),
        ("The tariff takes effect on 1 November. A ticket then costs 3 crowns.", (2031, 11, 1)),
        ("They agreed on 3 crowns. The change takes effect on 2 November.", (2031, 11, 2)),
    ],
)
def test_an_announced_value_holds_from_its_day(text: str, start: tuple[int, int, int]) -> None:
    assert period(text) == (date(*start), None)


@pytest.mark.parametrize(
    "text",
    [
        "With immediate effect a ticket costs 3 crowns.",
        "From 1 October a ticket costs 3 crowns.",
        "From 1 July a ticket costs 3 crowns.",
        "The price rose to 3 crowns on 1 October.",
        "A ticket costs 3 crowns, and from 1 November 4 crowns.",
        "The tariff takes effect on 1 November. Until then a ticket costs 3 crowns.",
        "The ferry from Port Ellery costs 3 crowns.",
        "Open from Monday to Friday; entry costs 3 crowns.",
        "From April to October entry costs 3 crowns.",
        "The mayor speaks in the hall on 5 November. Entry costs 3 crowns.",
        "From 30 February a ticket costs 3 crowns.",
    ],
)
def test_other_dates_change_nothing(text: str) -> None:
    assert period(text) == ALWAYS[:2]


def test_a_period_ends_and_a_date_is_no_period_of_itself() -> None:
    strike = "During the strike on 23 and 24 November the first train leaves at 9:05."
    assert period(strike, "9:05") == (date(2031, 11, 23), date(2031, 11, 24))
    assert period("Until 24 October it costs 3 crowns.") == (None, date(2031, 10, 24))
    fair = "The fair runs from 3 November to 5 December in the mill."
    assert period(fair, "the mill") == (date(2031, 11, 3), date(2031, 12, 5))
    assert period(fair, "3 November to 5 December") == ALWAYS[:2]


def test_a_plan_is_not_firm() -> None:
    plan, decision = (
        period_of(text, text.index("3"), text.index("3") + 8, OCTOBER)
        for text in (
            "The council proposes a fare of 3 crowns from 1 November.",
            "The council sets a fare of 3 crowns from 1 November.",
        )
    )
    assert plan.start == decision.start == date(2031, 11, 1)
    assert (plan.firm, decision.firm) == (False, True)


@pytest.mark.parametrize(
    ("question", "ahead"),
    [
        ("What will a ticket cost from 1 November?", True),
        ("What did a ticket cost in November?", True),
        ("What is the new fare?", True),
        ("What does a ticket cost?", False),
        ("May I bring a dog?", False),
    ],
)
def test_a_question_may_ask_for_what_is_announced(question: str, ahead: bool) -> None:
    assert asks_ahead(question) == ahead
