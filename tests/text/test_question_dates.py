"""The time that a question names."""

from datetime import date

import pytest

from cmt.text.question_dates import time_of

TODAY = date(2031, 9, 1)


@pytest.mark.parametrize(
    ("question", "named", "first", "last"),
    [
        ("What did the toll cost on 5 May?", "on 5 May", "2031-05-05", "2031-05-05"),
        ("toll as of the 5th of may", "as of the 5th of may", "2031-05-05", "2031-05-05"),
        ("Who led it on October 3, 2030?", "on October 3, 2030", "2030-10-03", "2030-10-03"),
        ("How deep was it in February?", "in February", "2031-02-01", "2031-02-28"),
        ("who led it back in may", "back in may", "2031-05-01", "2031-05-31"),
        ("in october who led it", "in october", "2030-10-01", "2030-10-31"),
        ("How deep was it in late March?", "in late March", "2031-03-21", "2031-03-31"),
        ("How deep at the end of April?", "at the end of April", "2031-04-21", "2031-04-30"),
        (
            "How deep in the second half of April?",
            "in the second half of April",
            "2031-04-16",
            "2031-04-30",
        ),
        ("the toll in May of last year", "in May of last year", "2030-05-01", "2030-05-31"),
        (
            "cost according to the January figure",
            "according to the January figure",
            "2031-01-01",
            "2031-01-31",
        ),
        ("Where was it last month?", "last month", "2031-08-01", "2031-08-31"),
        ("Where was it last spring?", "last spring", "2031-03-01", "2031-05-31"),
        ("How deep was it two weeks ago?", "two weeks ago", "2031-08-15", "2031-08-21"),
    ],
)
def test_a_time_is_resolved_against_the_day_of_the_question(
    question: str, named: str, first: str, last: str
) -> None:
    time = time_of(question, TODAY)
    assert time
    assert question[time.begin : time.end] == named
    assert (time.first.isoformat(), time.last.isoformat()) == (first, last)


@pytest.mark.parametrize(
    "question",
    [
        "What changed since March?",
        "What was it before 5 May?",
        "Who may enter the harbour?",
        "Who led the march to the quay?",
        "How many came on 30 February?",
        "Who lived here 5000 years ago?",
        "Who lived here 99999999999 days ago?",
        "Who lived here in May 0000?",
        "How long did the last ferry take?",
        "In May of what year did it open?",
        "How many fell on March 9-10?",
    ],
)
def test_a_border_a_verb_or_no_date_is_no_time(question: str) -> None:
    assert time_of(question, TODAY) is None
