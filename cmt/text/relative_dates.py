"""Relative dates of English text, resolved against the date of its document: "yesterday" → 5 July
2026.
"""

import re
from datetime import date, timedelta

_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_DAYS = {"today": 0, "tonight": 0, "this morning": 0, "this evening": 0, "this afternoon": 0}
_DAYS |= {"yesterday": -1, "last night": -1, "tomorrow": 1}
_DAY = re.compile(
    rf"\b(?:the day (?P<shift>before|after) )?(?P<day>{'|'.join(_DAYS)})\b", re.IGNORECASE
)
_WEEKDAY = re.compile(
    r"\b(?P<side>last|since|next|coming|from|until|till|by) (?:last |next )?"
    rf"(?P<weekday>{'|'.join(_WEEKDAYS)})\b(?! \d)",
    re.IGNORECASE,
)


def resolve(text: str, published: date) -> date | None:
    """The day that the first relative date of `text` names in a document of the day `published`;
    None without one.

    A weekday counts only with a word that says its side: "last" and "since" mean the latest one
    before `published`, "next", "from", "until" and "by" the first one after it. "Monday" alone may
    be every Monday. Names and titles, such as "USA Today" and "The Day After Tomorrow", are passed
    over.
    """
    found = [
        match for form in (_DAY, _WEEKDAY) for match in form.finditer(text) if not _is_name(match)
    ]
    if not found:
        return None
    match = min(found, key=re.Match.start)
    if match.re is _DAY:
        shift = {"before": -1, "after": 1}.get((match["shift"] or "").lower(), 0)
        return published + timedelta(days=_DAYS[match["day"].lower()] + shift)
    weekday = _WEEKDAYS.index(match["weekday"].lower())
    if match["side"].lower() in ("last", "since"):
        return published - timedelta(days=(published.weekday() - weekday - 1) % 7 + 1)
    return published + timedelta(days=(weekday - published.weekday() - 1) % 7 + 1)


def _is_name(match: re.Match[str]) -> bool:
    """Whether a capitalised `match` is inside the text, before a capitalised word, or capitalised
    in every word.
    """
    before, behind = match.string[: match.start()].strip(), match.string[match.end() :].lstrip()
    words = match[0].split()
    is_title = match.re is _DAY and len(words) > 1 and all(word[0].isupper() for word in words)
    return words[0][0].isupper() and (before != "" or behind[:1].isupper() or is_title)
