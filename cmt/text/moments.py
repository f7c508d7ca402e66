"""Moments and durations in English text: "9 March 2031", "the end of 2033", "Monday evening",
"yesterday", "33 years".
"""

import re
from datetime import date, timedelta
from typing import NamedTuple

from dateutil.relativedelta import relativedelta

from cmt.text.numbers import DATE, VALUES

_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_PART = r"(?:morning|afternoon|evening|night)"
_BEFORE = {"this": 0, "today": 0, "tonight": 0, "yesterday": 1, "last night": 1}  # days
_DAY = re.compile(
    rf"\b(?:(?:last )?(?P<weekday>{'|'.join(_WEEKDAYS)})\b(?! \d)(?: {_PART}\b)?"
    rf"|(?P<day>this) {_PART}|(?P<day_word>today|tonight|yesterday|last night)\b(?: {_PART}\b)?)",
    re.IGNORECASE,
)
_WEEKDAY = rf"(?:(?i:{'|'.join(_WEEKDAYS)}),? )"
_DATE = re.compile(
    rf"\b(?:(?i:(?:the )?(?:end|middle|beginning|start) of |mid-|early |late ))?{_WEEKDAY}?"
    rf"(?:{DATE})"
)
_DURATION = re.compile(
    rf"\b(?:\d+|{'|'.join(VALUES)}|an?) "
    r"(?:hour|day|week|month|year|decade|summer|winter|season)s?\b",
    re.IGNORECASE,
)


class Moment(NamedTuple):
    """A moment or a duration in a text."""

    begin: int
    end: int  # the characters `begin` … `end` of the text, the last one excluded, name it
    text: str
    day: date | None  # that a weekday, "yesterday" or "this morning" means; None: of other words


def moments_of(text: str, published: date, *, durations: bool) -> list[Moment]:
    """The moments that a text of the day `published` names, and with `durations` also those.

    A weekday is the latest one before `published`.
    """
    found = [
        Moment(match.start(), match.end(), match[0], _day(match, published))
        for match in _DAY.finditer(text)
    ]
    for pattern in (_DATE, *([_DURATION] if durations else [])):
        found += [Moment(*match.span(), match[0], None) for match in pattern.finditer(text)]
    return found


def time_between(first: date, last: date) -> str:
    """The time from `first` to `last` in words, in its two largest units: "1 month 22 days"."""
    passed = relativedelta(last, first)
    counts = [(passed.years, "year"), (passed.months, "month"), (passed.days, "day")]
    parts = [f"{count} {unit}{'s' * (count != 1)}" for count, unit in counts if count]
    return " ".join(parts[:2]) or "0 days"


def _day(match: re.Match[str], published: date) -> date:
    if weekday := match["weekday"]:
        back = (published.weekday() - _WEEKDAYS.index(weekday.lower()) - 1) % 7 + 1
        return published - timedelta(days=back)
    return published - timedelta(days=_BEFORE[(match["day"] or match["day_word"]).lower()])
