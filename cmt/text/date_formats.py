"""Dates as people and programs write them: ISO 8601, RFC 2822, seconds since 1970, day/month/year,
names of months.
"""

import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any, NamedTuple

from dateutil import parser as dateutil

from cmt.common.dates import INSTANT_OR_DATE, to_utc

# ends the name of a form whose dates were read in the zone of the reader
WITHOUT_ZONE = " without a time zone"
_LONGEST = 64  # characters of a date
_DAY = timedelta(days=1, microseconds=-1)
_NUMERIC = re.compile(r"(\d{1,2})([./-])(\d{1,2})\2(\d{4}|\d\d)(?!\d)(.*)", re.DOTALL)
_YEAR_FIRST = re.compile(r"(\d{4})([./-])(\d{1,2})\2(\d{1,2})(?!\d)(.*)", re.DOTALL)
_STAMP = re.compile(
    r"(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:[01]\d|2[0-3])[0-5]\d(?:[0-5]\d)?"
)
_DOTTED_TIME = re.compile(r"(?<=[\d,][T ])(\d\d)\.(\d\d)(?![\d.])")
# an interval, hours with a fraction, or a sign without its number
_NO_INSTANT = re.compile(r"\d{4}-\d\d-\d\d/|\d[T ]\d\d[.,]\d|^[-+/–—]\d|\d[-+/–—]$")
_RFC_2822 = re.compile(
    r"([A-Z][a-z]{2}, +)?\d{1,2} [A-Z][a-z]{2} (?:\d\d)?\d\d \d{1,2}:\d\d(:\d\d)? "
    r"([+-]\d{4}|GMT|UTC?|[ECMP][SD]T)"
)
# dateutil reads GMT+2 by the rule of POSIX, as -02:00
_ZERO_OF_OFFSET = re.compile(r"(?:GMT|UTC) *(?=[+-]\d)")
_COMMENT = re.compile(r"\s*\([^()]*\)$")  # such as the name of the zone after its offset
_WEEKDAY = re.compile(r"[^\W\d_]+\.?,\s*")  # in any language
_ZONES = {
    "EST": -5,
    "EDT": -4,
    "CST": -6,
    "CDT": -5,
    "MST": -7,
    "MDT": -6,
    "PST": -8,
    "PDT": -7,
}  # RFC 2822
_ZONES |= {
    "WET": 0,
    "WEST": 1,
    "CET": 1,
    "CEST": 2,
    "MEZ": 1,
    "MESZ": 2,
    "EET": 2,
    "EEST": 3,
    "BST": 1,
    "MSK": 3,
}
_EPOCHS = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}
# seconds, 1973 to 5138; smaller numbers are years, days or counters
_EARLIEST_EPOCH, _LATEST_EPOCH = 10**8, 10**11

# in English, German, French, Spanish, Italian, Portuguese, Dutch and the Nordic languages
_MONTHS = (
    "jan january januar januari janvier janv enero ene gennaio gen janeiro",
    "feb february februar februari février févr febrero febbraio fevereiro fev",
    "mar march märz mär mars marzo março maart mrt marts",
    "apr april avril avr abril abr aprile",
    "may mai mayo maggio mag maio mei maj",
    "jun june juni juin junio giugno giu junho",
    "jul july juli juillet juil julio luglio lug julho",
    "aug august août agosto ago augustus augusti",
    "sep september sept septembre septiembre settembre set setembro",
    "oct october oktober okt octobre octubre ottobre ott outubro out",
    "nov november novembre noviembre novembro",
    "dec december dezember dez décembre déc diciembre dic dicembre dezembro des",
)


class ReadDate(NamedTuple):
    """A date as it was read: the first and the last instant that it may mean, in UTC."""

    start: datetime
    end: datetime  # equal to `start`; a plain date is a whole day in UTC
    form: str  # how it was read, such as `epoch seconds`


class _Months(dateutil.parserinfo):
    """Names of months in several languages, and words between the parts of a date."""

    JUMP = [
        *dateutil.parserinfo.JUMP,
        "de",
        "del",
        "den",
        "der",
        "le",
        "um",
        "uhr",
        "kl",
        "à",
        "às",
        "ore",
        "om",
    ]
    MONTHS: Any = [tuple(names.split()) for names in _MONTHS]


@dataclass(frozen=True)
class DateReader:
    """Reads dates; what they leave open is decided by `zone` and `day_first`."""

    zone: tzinfo = UTC  # of date-times without a zone; a plain date is a day in UTC
    day_first: bool | None = None  # whether 05/03/2026 is 5 March; with None such a date is refused

    def read(self, value: Any) -> ReadDate:
        """Read a string, a number, a date or a datetime. Raises ValueError, which says what to
        do.
        """
        if isinstance(value, str):
            if len(value) > 10 * _LONGEST:  # the cache would keep it
                raise _refused(value)
            return _read_text(self, value)
        if isinstance(value, datetime):
            return self._instant(value, "timestamp")
        if isinstance(value, date):
            return _day(value, "date")
        if isinstance(value, int | float) and not isinstance(value, bool):
            return _read_text(self, str(value)) if _STAMP.fullmatch(str(value)) else _number(value)
        raise _refused(value)

    def read_text(self, value: str) -> ReadDate:
        """Read a string. Raises ValueError."""
        text = _DOTTED_TIME.sub(r"\1:\2", _COMMENT.sub("", value.strip()))
        if len(text) > _LONGEST or not text or _NO_INSTANT.search(text):
            raise _refused(value)
        # 1. numbers, ISO 8601 and RFC 2822, the quick ones
        if found := self._digits(value, text) or self._iso(text) or self._mail(text):
            return found
        # 2. numbers of day, month and year, which become ISO 8601
        form = "names of months"
        if match := _YEAR_FIRST.fullmatch(text):
            year, separator, month, day, rest = match.groups()
            form = f"year{separator}month{separator}day"
            text = _joined(value, year, month, day, rest)
        elif match := _NUMERIC.fullmatch(text):
            first, separator, second, year, rest = match.groups()
            if len(year) == 2:
                year = self._century(value, year)
            month, day, order = self._ordered(value, first, second)
            form, text = order.replace("/", separator), _joined(value, year, month, day, rest)
        if form != "names of months" and (found := self._iso(text)):
            return found._replace(
                form=form + (WITHOUT_ZONE if found.form.endswith(WITHOUT_ZONE) else "")
            )
        # 3. the rest
        return self._names(
            value, _WEEKDAY.sub("", text, count=1) if _WEEKDAY.match(text) else text, form
        )

    def _digits(self, value: str, text: str) -> ReadDate | None:
        """A text of digits: 203102150730, or time since 1970. None for another one, and for
        20310215, which is ISO 8601.
        """
        if _STAMP.fullmatch(text):  # as milliseconds since 1970 a day in 1976, or after 2600
            with suppress(ValueError):
                stamp = datetime.strptime(text, "%Y%m%d%H%M%S"[: len(text) - 2])
                return self._instant(stamp, "digits")
            raise _refused(value)
        if text.isdecimal() and len(text) != len("20310215"):
            return _number(int(text))
        if re.fullmatch(r"\d{9,}\.\d+", text):  # of Slack and Unix
            return _number(float(text))
        return None

    def _mail(self, text: str) -> ReadDate | None:
        """A date of RFC 2822."""
        if not _RFC_2822.fullmatch(text):
            return None
        with suppress(ValueError):
            # without a zone for -0000, which is UTC (RFC 5322)
            instant = parsedate_to_datetime(text)
            instant = instant if instant.tzinfo else instant.replace(tzinfo=UTC)
            return self._instant(instant, "RFC 2822")
        return None

    def _iso(self, text: str) -> ReadDate | None:
        try:
            instant = datetime.fromisoformat(text[:-1] + "Z" if text.endswith("z") else text)
        except ValueError:
            return None
        plain = len(text) <= len("2031-02-15")
        return _day(instant.date(), "plain date") if plain else self._instant(instant, "ISO 8601")

    def _century(self, value: str, year: str) -> str:
        """A year of two digits with its century, as in POSIX: 1969 to 2068."""
        if self.day_first is None:
            raise ValueError(
                f"{value[:40]!r} has a year of two digits; set stream.day_first to true or to false"
            )
        return f"{'19' if int(year) >= 69 else '20'}{year}"

    def _ordered(self, value: str, first: str, second: str) -> tuple[str, str, str]:
        """Month, day and the form of a date of which the month's place is open."""
        orders = {True: (second, first, "day/month/year"), False: (first, second, "month/day/year")}
        possible = [
            order
            for key, order in orders.items()
            if self.day_first in (None, key) and int(order[0]) <= 12
        ]
        if not possible:
            order = "a date" if self.day_first is None else orders[self.day_first][2]
            raise ValueError(f"{value[:40]!r} is not {order}; correct it, or set stream.day_first")
        if len(possible) > 1 and int(first) != int(second):
            raise ValueError(
                f"{value[:40]!r} may begin with the day or the month; "
                "set stream.day_first to true or to false"
            )
        return possible[0]

    def _names(self, value: str, text: str, form: str) -> ReadDate:
        """Names of months, and times such as 2:30 PM. dateutil fills a missing part of a date
        from a default, so the text is parsed with two defaults: a part that differs is missing.
        """
        defaults = (datetime(2000, 1, 1), datetime(2003, 2, 2, 1))
        text = _ZERO_OF_OFFSET.sub("", text)
        try:
            first, second = (
                _PARSER.parse(text, default=default, tzinfos=_zone) for default in defaults
            )
        except (OverflowError, TypeError, AttributeError, dateutil.ParserError) as error:
            raise _refused(value) from error
        if first.date() != second.date() or str(first.year) not in text:
            raise ValueError(
                f"{value[:40]!r} lacks a day, a month or a year of four digits; "
                f"write {INSTANT_OR_DATE}"
            )
        return _day(first.date(), form) if first.hour != second.hour else self._instant(first, form)

    def _instant(self, instant: datetime, form: str) -> ReadDate:
        if instant.tzinfo is None:
            instant, form = instant.replace(tzinfo=self.zone), form + WITHOUT_ZONE
        utc = to_utc(instant, accepted=INSTANT_OR_DATE)
        return ReadDate(utc, utc, form)


_PARSER = dateutil.parser(_Months())
_read_text = lru_cache(maxsize=4096)(DateReader.read_text)


def _day(day: date, form: str) -> ReadDate:
    start = datetime.combine(day, time.min, UTC)
    return ReadDate(start, start + _DAY, form)


def _number(value: float) -> ReadDate:
    """Time since 1970; its size determines the unit; or a number such as 20310215."""
    if isinstance(value, int) and 1000_01_01 <= value <= 9999_12_31:
        try:
            return _day(date.fromisoformat(str(value)), "plain date")
        except ValueError:
            raise _refused(value) from None
    for unit, a_second in (
        _EPOCHS.items() if abs(value) < _LATEST_EPOCH * max(_EPOCHS.values()) else ()
    ):
        if _EARLIEST_EPOCH <= value / a_second < _LATEST_EPOCH:
            whole, rest = divmod(
                int(value * 10**6) if unit == "seconds" else int(value) * 10**6 // a_second, 10**6
            )
            instant = datetime.fromtimestamp(whole, UTC).replace(microsecond=rest)
            return ReadDate(instant, instant, f"epoch {unit}")
    raise _refused(value)


def _joined(value: str, year: str, month: str, day: str, rest: str) -> str:
    try:
        return date(int(year), int(month), int(day)).isoformat() + rest
    except ValueError:
        raise _refused(value) from None


def _zone(name: str | None, offset: int | None) -> tzinfo | None:
    """For dateutil: the zone of a date."""
    if offset is not None:
        return timezone(timedelta(seconds=offset))
    if name is None:
        return None
    if name not in _ZONES:
        raise ValueError(
            f"the time zone {name[:20]!r} is not known; write an offset such as +02:00"
        )
    return timezone(timedelta(hours=_ZONES[name]))


def _refused(value: Any) -> ValueError:
    shown = repr(value[:40]) if isinstance(value, str) else repr(value)[:40]
    return ValueError(f"{shown} is not a date-time; write {INSTANT_OR_DATE}")
