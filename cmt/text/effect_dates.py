"""Dates of effect in English text: from when, and until when, a statement holds.

"From 13 December the first train leaves at 7:12", written on 25 November, holds from 13 December,
and "until 24 November" ends after that day. A statement without such a date holds from the date of
its document.
"""

import re
from collections.abc import Iterator
from datetime import date, timedelta
from typing import NamedTuple

from cmt.text.numbers import MONTHS
from cmt.text.relative_dates import resolve
from cmt.text.sentences import sentence_starts


class Period(NamedTuple):
    """Days on which a statement holds."""

    start: date | None = None  # None: from the date of its document
    end: date | None = None  # the last day; None: without end
    firm: bool = False  # whether it is announced, and not only planned, proposed or expected


ALWAYS = Period()

_LONGEST_AGO = timedelta(days=120)  # "from 1 July" in October is past; in November it is next July
_LONGEST_RANGE = timedelta(days=60)  # from a document to the start of a range without a year
_WEEKDAYS = "monday|tuesday|wednesday|thursday|friday|saturday|sunday"
_NUMBER_OF = {
    form: number
    for number, month in enumerate(MONTHS, 1)
    for form in (month.lower(), month[:3].lower(), month[:4].lower())
}
_MONTH = rf"(?:{'|'.join(MONTHS)}|(?:Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept|Sep|Oct|Nov|Dec)\b\.?)"
_DAY = r"\d{1,2}(?:st|nd|rd|th)?\b"
_YEAR = r"(?:19|20|21)\d\d\b"
_WRITTEN = (
    rf"(?:the )?{_DAY}(?: of)? {_MONTH}(?:,? {_YEAR})?|{_MONTH} {_DAY}(?:,? {_YEAR})?"
    rf"|{_MONTH}(?:,? {_YEAR})?|\d{{4}}-\d\d-\d\d\b|\d{{1,2}}\.\d{{1,2}}\.\d{{4}}\b"
)
_DATE = (
    rf"(?:{_WRITTEN}|{_YEAR}|tomorrow\b|next (?:week|month|year)\b"
    rf"|(?:next )?(?i:{_WEEKDAYS})\b)"
)
_STRONG = (
    r"(?:with effect|valid|in force|effective|(?:takes?|taking) effect|applies|apply|applicable"
    r"|(?:comes?|coming|enters?|entering) into (?:force|effect))(?: from| on| as of| as from| in)?"
)
_VERBS = (
    r"(?:will (?:\w+ )?(?:rise|increase|go up|climb|fall|drop|go down|decrease|change|replace|cost"
    r"|succeed|take over|become|be (?:raised|increased|cut|reduced|lowered|changed|replaced))"
    r"|rises|increases|falls|drops|changes|replaces|succeeds|takes over|becomes)\b"
)
_CHANGES = rf"\b{_VERBS}[^.;]{{0,80}}?\b(?:on|in|at the (?:start|beginning) of)"
_LEADING = re.compile(
    rf"\s*(?:On|In|At the (?:start|beginning) of) (?P<start>{_DATE})(?=[^.;]{{0,80}}?\b{_VERBS})"
)
_START = re.compile(
    rf"(?:\b(?:{_STRONG}|(?i:from|as of|as from|starting|beginning)(?: on| in)?)|{_CHANGES})"
    rf" (?P<start>{_DATE})"
    rf"(?P<range>(?:,? (?:to|until|till|through|and)\b|[-–]) ?(?P<end>{_DATE})?)?"
)
_VALID = re.compile(rf"\b(?i:{_STRONG}) (?P<start>{_WRITTEN})")
_UNTIL = re.compile(
    rf"(?<!not )\b(?i:until|till|up to and including|through) (?P<end>{_WRITTEN}|tomorrow\b)"
)
_DURING = re.compile(
    rf"\b(?i:during) [^,.;]{{1,60}}? on (?P<start>{_DAY})"
    rf"(?: (?:and|to)|[-–]) ?(?P<end>{_DAY}) (?P<month>{_MONTH}(?:,? {_YEAR})?)"
)
_CLAUSE = re.compile(r"; |, (?:and|but|while|whereas) | – ")
_FOLLOWS = re.compile(
    r"\s*(?:He|She|They|It|This|The (?:change|rise|increase|cut|rule|tariff|fare|price|rate|fee)s?)"
    rf" (?:will )?(?:takes? over|takes? office|takes? up [\w ]{{1,30}}|{_STRONG})(?: on| in| from)?"
    rf" (?P<start>{_WRITTEN})"
)
_HEDGED = re.compile(
    r"\b(?:would|could|may|might|should|propos\w*|plan\w*|consider\w*|wants?|hopes?|expect\w*|if"
    r"|unless|rumou?rs?|reportedly|suggest\w*|asks?|demand\w*|discuss\w*|den(?:y|ies|ied)|not)\b",
    re.IGNORECASE,
)
_PRESENT = re.compile(
    r"\b(?:currently|at present|presently|still|until then|so far|today|immediate effect"
    r"|was|were|had|has been|have been)\b",
    re.IGNORECASE,
)
_AHEAD = re.compile(
    r"\b(?:will|going to|next|future|planned|upcoming|new|announced|until|since)\b"
    rf"|\b{_YEAR}|(?<=\w ){_MONTH}\b",
)


def asks_ahead(question: str) -> bool:
    """Whether a question asks for what is announced, or names a date itself."""
    return _AHEAD.search(question) is not None


def period_of(text: str, first: int, last: int, published: date) -> Period:
    """When the statement `text[first:last]` of a document of the day `published` holds.

    1. A date in the clause of the statement, or one that begins its sentence.
    2. A date of the sentence behind it: "She takes over on 1 January."
    3. A date of the heading, or of an earlier sentence that says from when all of it is valid.

    A date that is (a part of) the statement itself, or of the past, does not count.
    """
    # 1. its own sentence
    starts = sorted({0, *sentence_starts(text)})
    begin = max(start for start in starts if start <= first)
    end = min((start for start in starts if start >= last), default=len(text))
    firm = not _HEDGED.search(text[begin:end])
    period = _of_sentence(text[begin:end], first - begin, last - begin, published)
    if period != ALWAYS or _PRESENT.search(text[begin:end]):
        return period._replace(firm=firm)
    # 2. what the sentence behind it says, or one before it, of the whole text
    heading = text.partition("\n")[0] if "\n" in text else ""
    following = _FOLLOWS.match(text, end)
    found = [*([following] if following else ()), *_VALID.finditer(text[:begin])]
    for match in (*found, *_START.finditer(heading)):
        if found_period := _future(match["start"], None, published):
            return found_period._replace(firm=firm)
    return ALWAYS


def _of_sentence(sentence: str, first: int, last: int, published: date) -> Period:
    """The period that the clause of `sentence[first:last]`, or the start of the sentence, names."""
    borders = [0, *(match.end() for match in _CLAUSE.finditer(sentence)), len(sentence)]
    begin = max(border for border in borders if border <= first)
    end = min((border for border in borders if border >= last), default=len(sentence))
    if _PRESENT.search(sentence[begin:end]):
        return ALWAYS
    for match in _phrases(sentence):
        governs = begin <= match.start() < end or not sentence[: match.start()].strip(" \n\"“'")
        parts = match.groupdict()
        dates = [match.span(name) for name in ("start", "end") if parts.get(name)]
        if not governs or any(start < last and first < end for start, end in dates):
            continue
        start, until = parts.get("start"), parts.get("end")
        if month := parts.get("month"):
            start, until = f"{start} {month}", f"{until} {month}"
        if parts.get("range") and not until and "and" not in parts["range"]:  # "from 9 May to"
            continue
        if period := _future(start, until, published):
            return period
    return ALWAYS


def _phrases(sentence: str) -> Iterator[re.Match[str]]:
    if leading := _LEADING.match(sentence):
        yield leading
    for pattern in (_DURING, _START, _UNTIL):
        yield from pattern.finditer(sentence)


def _future(start: str | None, end: str | None, published: date) -> Period | None:
    """The period from `start` to `end`; None if it says nothing beyond the date of its document."""
    first = _day(start, published) if start else None
    last = _day(end, published if first is None else max(first, published)) if end else None
    if end and (last is None or last < published):
        return None
    if end and start:
        # a season or days of the week return, so only a near one, or one with its year, is a period
        written = any(character.isdigit() for character in start)
        if first is None or not written or abs(first - published) > _LONGEST_RANGE:
            return None
    if first and first <= published:
        first = None
    return Period(first, last) if first or last else None


def _day(text: str, published: date) -> date | None:
    """The day of a date of effect; of a month or year its first. Without a year it is the next one
    that is not longer ago than _LONGEST_AGO.
    """
    lower = text.lower()
    # 1. relative to the document
    if lower == "next week":
        return published + timedelta(days=7 - published.weekday())
    if lower == "next month":
        return (published.replace(day=1) + timedelta(days=32)).replace(day=1)
    if lower == "next year":
        return date(published.year + 1, 1, 1)
    if not any(character.isdigit() for character in lower) and not _month(lower):
        return resolve(text if text == "tomorrow" else f"from {text}", published)
    # 2. day, month and year
    try:
        if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            return date.fromisoformat(text)
        if dotted := re.fullmatch(r"(\d{1,2})\.(\d{1,2})\.(\d{4})", text):
            day, month, year = map(int, dotted.groups())
            return date(year, month, day)
        found = re.search(r"\b\d{4}\b", text)
        numbers = re.findall(r"\b\d{1,2}(?!\d)", text)
        month, day = _month(lower) or 1, int(numbers[0]) if numbers else 1
        if found:
            return date(int(found[0]), month, day)
        this = date(published.year, month, day)
        if this < published - _LONGEST_AGO:
            return this.replace(year=this.year + 1)
        before = this.replace(year=this.year - 1)
        return before if before >= published - _LONGEST_AGO else this
    except ValueError:  # such as 30 February
        return None


def _month(lower: str) -> int | None:
    found = re.search(r"[a-z]{3,}", re.sub(r"\b(?:the|of|st|nd|rd|th|next)\b", "", lower))
    return _NUMBER_OF.get(found[0]) if found else None
