"""Moments and durations in a text."""

from datetime import date

import pytest

from cmt.text.moments import moments_of, time_between

WEDNESDAY = date(2031, 9, 3)


@pytest.mark.parametrize(
    ("text", "named", "day"),
    [
        ("It runs since Monday evening.", "Monday evening", "2031-09-01"),
        ("It opened on Wednesday.", "Wednesday", "2031-08-27"),
        ("It opened this morning.", "this morning", "2031-09-03"),
        ("It opened yesterday.", "yesterday", "2031-09-02"),
        ("It opened on Monday 1 September.", "Monday 1 September", None),
        ("It stays until the end of 2033.", "the end of 2033", None),
        ("It opened on 9 March 2031.", "9 March 2031", None),
        ("It may rain.", None, None),
    ],
)
def test_a_moment_is_named_whole_and_resolved_if_it_is_relative(
    text: str, named: str | None, day: str | None
) -> None:
    found = moments_of(text, WEDNESDAY, durations=False)
    assert [moment.text for moment in found] == ([named] if named else [])
    for moment in found:
        assert text[moment.begin : moment.end] == named
        assert (moment.day and moment.day.isoformat()) == day


def test_durations_count_if_they_are_asked_for() -> None:
    text = "She wound it for 33 years, every second day."
    assert not moments_of(text, WEDNESDAY, durations=False)
    assert [moment.text for moment in moments_of(text, WEDNESDAY, durations=True)] == [
        "33 years",
    ]


@pytest.mark.parametrize(
    ("first", "words"),
    [
        ("2031-09-03", "0 days"),
        ("2031-09-02", "1 day"),
        ("2031-07-12", "1 month 22 days"),
        ("2028-07-03", "3 years 2 months"),
    ],
)
def test_the_time_between_two_days_has_two_units(first: str, words: str) -> None:
    assert time_between(date.fromisoformat(first), WEDNESDAY) == words
