"""The stretch of time that a question names."""

from datetime import date

import pytest

from cmt.text.question_windows import window_of

TODAY = date(2031, 9, 1)  # a Monday


@pytest.mark.parametrize(
    ("words", "first", "last"),
    [
        ("since March", date(2031, 3, 1), TODAY),
        ("since the end of April", date(2031, 4, 21), TODAY),
        ("since 5 May", date(2031, 5, 5), TODAY),
        ("since May 5th", date(2031, 5, 5), TODAY),
        ("since October", date(2030, 10, 1), TODAY),
        ("since New Year", date(2031, 1, 1), TODAY),
        ("since the beginning of the year", date(2031, 1, 1), TODAY),
        ("since last month", date(2031, 8, 1), TODAY),
        ("since Monday", date(2031, 8, 25), TODAY),
        ("since yesterday", date(2031, 8, 31), TODAY),
        ("since 2 days ago", date(2031, 8, 30), TODAY),
        ("between January and June", date(2031, 1, 1), date(2031, 6, 30)),
        ("from 3 March to 5 May", date(2031, 3, 3), date(2031, 5, 5)),
        ("in the last two weeks", date(2031, 8, 18), TODAY),
        ("over the past month", date(2031, 8, 1), TODAY),
    ],
)
def test_a_window(words: str, first: date, last: date) -> None:
    question = f"What has changed {words}, please?"
    window = window_of(question, TODAY)
    assert window
    assert question[window.begin : window.end] == words
    assert (window.first, window.last) == (first, last)


@pytest.mark.parametrize(
    "words",
    ["since the strike", "since 30 February", "between March and January", "in May", "from 5 to 7"],
)
def test_no_window(words: str) -> None:
    assert window_of(f"What has changed {words}?", TODAY) is None
