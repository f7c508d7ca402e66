"""What the LM wrote, held against the texts that it read.

The LM copies almost always. Where it writes a number that no text has, or stops inside an address,
the quote is the answer.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from cmt.answering.answer import NOT_IN_MEMORY, Answer
from cmt.text.numbers import COMPOUND, TIME, VALUES
from cmt.text.relative_dates import resolve

_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
_WHEN = re.compile(r"\s*(?:when|since when|until when|in which year|what year)\b", re.IGNORECASE)


class HeldText:
    """Passes an answer on piece by piece up to its first digit, and keeps the rest."""

    def __init__(self, on_text: Callable[[str], None]) -> None:
        self._on_text, self.passed, self._holds = on_text, "", False

    def __call__(self, piece: str) -> None:
        """Take the next piece."""
        self._holds = self._holds or any(map(str.isdigit, piece))
        if not self._holds:
            self.passed += piece
            self._on_text(piece)

    def end(self, text: str) -> None:
        """Pass on the rest of the final `text`."""
        if rest := text.removeprefix(self.passed):
            self._on_text(rest)


def grounded(draft: Answer, text: str, texts: Sequence[str], *, passed: str = "") -> Answer:
    """The answer `draft` with its text: what the LM wrote, or else the quote.

    1. A text that ends inside an address of the quote goes on to its end.
    2. If no text has a number that the LM wrote, the quote is the answer, at most unsure; if a
       question for a time has a quote without one, there is none. `passed`: the beginning that a
       caller has already, which stays.
    """
    quote = ""
    for source in draft.sources:
        if source.quote and source.text:
            quote = source.text[source.quote.first : source.quote.last]
    if quote.startswith(text) and "://" in quote and not re.search(r"\s", quote[len(text) :]):
        return replace(draft, text=quote)
    if not quote or passed or numbers([text]) <= numbers([*texts, draft.question]):
        return replace(draft, text=text)
    if _WHEN.match(draft.question) and not _is_time(quote, draft):
        unknown = replace(draft, text=NOT_IN_MEMORY, verdict="not_in_memory", other_value=None)
        return replace(unknown, confidence=draft.uncalibrated)
    return replace(draft, text=quote, verdict="unsure")


def numbers(texts: Iterable[str]) -> set[str]:
    """The numbers in `texts` as digits: 1500 of "1,500", 25 of "twenty-five"."""
    found = set[str]()
    for text in texts:
        found.update(number.replace(",", "") for number in _NUMBER.findall(text))
        lower = text.lower()
        for match in COMPOUND.finditer(lower):
            found.add(str(VALUES[match["tens"]] + VALUES[match["ones"]]))
        found.update(str(VALUES[word]) for word in re.findall(r"[a-z]+", lower) if word in VALUES)
    return found


def _is_time(quote: str, draft: Answer) -> bool:
    day = next((source.published_at.date() for source in draft.sources), None)
    return bool(re.search(TIME, quote) or (day and resolve(quote, day)))
