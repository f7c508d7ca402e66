"""Dates, numbers and quantities."""

import re

import pytest

from cmt.text import numbers
from cmt.text.numbers import amount_of, unit_of

TEXT = (
    "On 5 March 2031 Ada paid 1,200.50 crowns for twenty-five miles, 30% more than in the 1990s, "
    "and $3.5 million a year; two-thirds of 2,500 people met at 10:30 for seventy days."
)


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        (numbers.DATE, ["5 March 2031"]),
        (numbers.PERIOD, ["5 March 2031", "the 1990s"]),
        (numbers.YEAR, ["2031"]),
        (numbers.NUMBER, ["5", "2031", "1,200.50", "30", "3.5", "2,500", "10:30"]),
        (
            numbers.QUANTITY,
            [
                *("5", "2031", "1,200.50 crowns", "twenty-five miles", "30%", "$3.5 million"),
                *("2,500", "10:30", "seventy days"),
            ],
        ),
        (numbers.MEASURED, ["0 crowns", "twenty-five miles", "0%", "5 million", "seventy days"]),
    ],
)
def test_a_rule_finds_its_dates_or_numbers(
    pattern: str | re.Pattern[str], found: list[str]
) -> None:
    assert [match[0] for match in re.finditer(pattern, TEXT)] == found


@pytest.mark.parametrize(
    ("text", "value"), [("$1,500.50 a year", 1500.5), ("3 of 4", 3), ("none", 0)]
)
def test_the_value_of_a_text_is_its_first_number(text: str, value: float) -> None:
    assert numbers.value_of(text) == value


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [
        ("1.9 million crowns", 1_900_000, "crown"),
        ("$1,500.50", 1500.5, ""),
        ("twenty-five metres", 25, "metre"),
        ("two hundred", 200, ""),
        ("3 percent", 3, "percent"),
        ("nobody", None, ""),
    ],
)
def test_the_amount_and_the_unit_of_a_quantity(text: str, amount: float | None, unit: str) -> None:
    assert (amount_of(text), unit_of(text)) == (amount, unit)
