from datetime import date, timedelta

import pytest

from cmt.text.relative_dates import resolve

MONDAY = date(2026, 7, 6)


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("today", 0),
        ("from this morning", 0),
        ("yesterday", -1),
        ("the day before yesterday", -2),
        ("late last night", -1),
        ("Tomorrow at noon", 1),
        ("the day after tomorrow", 2),
        ("last Monday", -7),
        ("since Sunday", -1),
        ("since last Thursday", -4),
        ("from Monday", 7),
        ("from next Tuesday on", 1),
        ("until Sunday", 6),
        ("by Friday, or else from tomorrow", 4),
        ("Yesterday", -1),
        ("The day before yesterday", -2),
        ("Last Monday", -7),
        ("in USA Today yesterday", -1),
    ],
)
def test_a_relative_date_is_resolved_against_the_day_of_its_document(text: str, days: int) -> None:
    assert resolve(text, MONDAY) == MONDAY + timedelta(days=days)


NO_DAYS = ["Monday", "on Thursdays", "every Tuesday", "from Monday 13 July", "8 crowns", ""]
TITLES = [
    "USA Today",
    "The Day After Tomorrow",
    "Tonight Show",
    "Today FM",
    "Last Night",
    "the film Since Friday",
]


@pytest.mark.parametrize("text", [*NO_DAYS, *TITLES])
def test_other_text_and_titles_with_such_words_name_no_day(text: str) -> None:
    assert resolve(text, MONDAY) is None
