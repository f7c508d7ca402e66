"""The time that a question names, resolved against the day on which it is asked: "in March", "on 5
May", "at the end of April", "last month", "two weeks ago".
"""

import re
from calendar import monthrange
from contextlib import suppress
from datetime import date, timedelta
from typing import Any, NamedTuple

from dateutil.relativedelta import relativedelta

from cmt.text.numbers import MONTHS, VALUES


class QuestionTime(NamedTuple):
    """A time in a question."""

    begin: int
    end: int  # the characters `begin` … `end` of the question, the last one excluded, name it
    first: date
    last: date  # the days that it means, both included


_MONTH = rf"(?P<month>{'|'.join(MONTHS)})"
_YEAR = r"(?:,? (?:of )?(?P<year>\d{4})\b| of (?P<which>last|this) year\b)?"
_PARTS = {
    "early": (1, 10),
    "beginning of": (1, 10),
    "start of": (1, 10),
    "first half of": (1, 15),
    "mid": (11, 20),
    "middle of": (11, 20),
    "second half of": (16, 31),
    "late": (21, 31),
    "end of": (21, 31),
}
_DAY = re.compile(
    r"\b(?:(?:back )?on|as of|by) (?:the )?"
    rf"(?:(?P<day>\d{{1,2}})(?:st|nd|rd|th)?(?: of)? {_MONTH}\b{_YEAR}"
    rf"|(?P<month_first>{'|'.join(MONTHS)}) (?P<day_last>\d{{1,2}})(?:st|nd|rd|th)?\b"
    r"(?:,? (?P<year_last>\d{4})\b)?)(?![-–/]\d)",
    re.IGNORECASE,
)
_IN_MONTH = re.compile(
    r"\b(?:(?:(?:back )?(?:in|during|by)|as of)"
    rf" (?:the )?(?:(?P<part>{'|'.join(_PARTS)})[ -])?"
    rf"|at the (?P<point>{'|'.join(_PARTS)}) ){_MONTH}\b{_YEAR}(?! \d| of what)",
    re.IGNORECASE,
)
_SEASONS = {"winter": 12, "spring": 3, "summer": 6, "autumn": 9}
_FIGURES = "peak|figures?|count|price|fare|rate|level|estimate|plan|number|total"
_OF_MONTH = re.compile(
    rf"\b(?:at|by|in|according to) the {_MONTH} (?:{_FIGURES})\b(?P<part>)(?P<point>)(?P<year>)"
    r"(?P<which>)",
    re.IGNORECASE,
)
_LAST = re.compile(rf"\b(?:in )?last (?P<unit>month|year|{'|'.join(_SEASONS)})\b", re.IGNORECASE)
_ROUGHLY = {"day": 0, "week": 3, "month": 10, "year": 60}  # days that "two … ago" may be off
_COUNTS = {"a": 1, "an": 1} | {word: int(value) for word, value in VALUES.items()}
_AGO = re.compile(
    rf"\b(?P<count>\d+|{'|'.join(_COUNTS)}) (?P<unit>day|week|month|year)s? ago\b", re.IGNORECASE
)
_HINT = re.compile(rf"\b(?:{'|'.join(MONTHS)}|last|ago)\b", re.IGNORECASE)
# "before 5 May" and "since March" name the border of a time
_BORDER = re.compile(r"\b(?:since|until|till|before|after|between|from|and|to) (?:the )?$", re.I)


def time_of(question: str, today: date) -> QuestionTime | None:
    """The first time that `question`, asked on `today`, names; None without one.

    A month, a day or a season without a year is the latest one that has begun. A time that begins
    behind "since", "until", "before", "after", "between" or "from" does not count, nor does a week:
    what is published now reports on it.
    """
    found = []
    if not _HINT.search(question):
        return None
    for pattern, read in _READERS:
        for match in pattern.finditer(question):
            if _BORDER.search(question[: match.start()]):
                continue
            with suppress(ValueError, OverflowError):  # 30 February, or 5,000 years ago
                found.append(QuestionTime(match.start(), match.end(), *read(match, today)))
    return min(found, key=lambda time: (time.begin, -time.end), default=None)


def _day(match: re.Match[str], today: date) -> tuple[date, date]:
    day, month = match["day"] or match["day_last"], match["month"] or match["month_first"]
    years = {"year": match["year"] or match["year_last"], "which": match["which"]}
    first = _latest(_number(month), int(day), today, **years)
    return first, first


def _in_month(match: re.Match[str], today: date) -> tuple[date, date]:
    month = _number(match["month"])
    start = _latest(month, 1, today, year=match["year"], which=match["which"])
    length = monthrange(start.year, month)[1]
    part = (match["part"] or match["point"] or "").lower()
    first, last = _PARTS.get(part, (1, length))
    return start.replace(day=first), start.replace(day=min(last, length))


def _last(match: re.Match[str], today: date) -> tuple[date, date]:
    unit = match["unit"].lower()
    if unit in _SEASONS:
        first = _latest(_SEASONS[unit], 1, today)
        return first, first + relativedelta(months=3, days=-1)
    if unit == "month":
        first = today.replace(day=1) - relativedelta(months=1)
        return first, first + relativedelta(months=1, days=-1)
    return date(today.year - 1, 1, 1), date(today.year - 1, 12, 31)


def _ago(match: re.Match[str], today: date) -> tuple[date, date]:
    count = match["count"].lower()
    back = int(count) if count.isdecimal() else _COUNTS[count]
    unit = match["unit"].lower()
    shift: dict[str, Any] = {f"{unit}s": back}
    day = today - relativedelta(**shift)
    around = timedelta(days=_ROUGHLY[unit])
    return day - around, day + around


_READERS = (
    (_DAY, _day),
    (_IN_MONTH, _in_month),
    (_OF_MONTH, _in_month),
    (_LAST, _last),
    (_AGO, _ago),
)


def _number(month: str) -> int:
    return [name.lower() for name in MONTHS].index(month.lower()) + 1


def _latest(
    month: int, day: int, today: date, *, year: str | None = None, which: str | None = None
) -> date:
    """The day in the given year, or in the latest one in which it is not after `today`. Raises
    ValueError.
    """
    if year:
        return date(int(year), month, day)
    if which:
        return date(today.year - (which.lower() == "last"), month, day)
    this = date(today.year, month, day)
    return this if this <= today else date(today.year - 1, month, day)
