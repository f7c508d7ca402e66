"""The stretch of time that a question names, resolved against the day on which it is asked: "since
March", "between January and June", "in the last two weeks".
"""

import re
from calendar import day_name
from datetime import date, timedelta
from typing import NamedTuple

from dateutil.relativedelta import relativedelta

from cmt.text.numbers import MONTHS, VALUES
from cmt.text.question_dates import time_of


class QuestionWindow(NamedTuple):
    """A stretch of time in a question."""

    begin: int
    end: int  # the characters `begin` … `end` of the question, the last one excluded, name it
    first: date
    last: date  # the days that it means, both included


_WEEKDAYS = [day.lower() for day in day_name]
_COUNTS = {"few": 3, "couple of": 2} | {word: int(value) for word, value in VALUES.items()}
_MONTH = (
    r"(?:the )?(?:(?:early|late|mid|(?:beginning|start|middle|end|first half|second half) of)[ -])?"
    rf"(?:\d{{1,2}}(?:st|nd|rd|th)?(?: of)? )?(?:{'|'.join(MONTHS)})\b"
    r"(?: \d{1,2}(?:st|nd|rd|th)?\b)?(?:,? \d{4}\b)?"
)
_START_OF_YEAR = (
    r"new year(?:['’]?s)?(?: day)?|(?:the )?(?:beginning|start) of (?:the|this) year|this year"
)
_POINT = (
    rf"(?:{_MONTH}|{_START_OF_YEAR}|yesterday|last (?:week|month|year|winter|spring|summer|autumn)"
    rf"|(?:last )?(?:{'|'.join(_WEEKDAYS)})"
    rf"|(?:an?|\d+|{'|'.join(VALUES)}) (?:day|week|month|year)s? ago)\b"
)
_SINCE = re.compile(rf"\bsince (?P<first>{_POINT})", re.IGNORECASE)
_BETWEEN = re.compile(
    rf"\b(?:between (?P<first>{_POINT}) and|from (?P<start>{_POINT}) (?:to|until|till))"
    rf" (?P<last>{_POINT})",
    re.IGNORECASE,
)
_RECENT = re.compile(
    rf"\b(?:in|over|during) the (?:last|past) (?:(?P<count>\d+|{'|'.join(_COUNTS)}) )?"
    r"(?P<unit>day|week|month|year)s?\b",
    re.IGNORECASE,
)
_YEAR = re.compile(_START_OF_YEAR, re.IGNORECASE)


def window_of(question: str, today: date) -> QuestionWindow | None:
    """The stretch of time that `question`, asked on `today`, names; None without one. "since March"
    begins on the first day of March.
    """
    if match := _BETWEEN.search(question):
        begins = _days(match["first"] or match["start"], today)
        ends = _days(match["last"], today)
        if begins and ends and begins[0] <= ends[1]:
            return QuestionWindow(*match.span(), begins[0], ends[1])
    if match := _SINCE.search(question):
        begins = _days(match["first"], today)
        return QuestionWindow(*match.span(), begins[0], today) if begins else None
    if match := _RECENT.search(question):
        count = (match["count"] or "1").lower()
        units = int(count) if count.isdecimal() else _COUNTS[count]
        if units > 999:
            return None
        first = today - relativedelta(**{f"{match['unit'].lower()}s": units})  # type: ignore[arg-type]
        return QuestionWindow(*match.span(), first, today)
    return None


def _days(point: str, today: date) -> tuple[date, date] | None:
    """The first and the last day of a point in time; None if there is no such day."""
    word = point.lower().removeprefix("last ")
    if _YEAR.fullmatch(point):
        return date(today.year, 1, 1), date(today.year, 1, 1)
    if word in ("yesterday", "week"):
        day = today - timedelta(days=1 if word == "yesterday" else 7)
        return day, today
    if word in _WEEKDAYS:
        back = (today.weekday() - _WEEKDAYS.index(word)) % 7 or 7
        day = today - timedelta(days=back)
        return day, day
    for preposition in ("", "on ", "in ", "at "):
        if time := time_of(preposition + point, today):
            return time.first, time.last
    return None
