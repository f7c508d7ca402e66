"""The history of a question: its values over time. `fact_history` finds them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from cmt.answering.answer import Answer, Source, Verdict
from cmt.questions.forms import Form

HowKnown = Literal["stated", "corrected", "declared", "found", "compared"]
"""How it is known that a value replaced the one before it.

"stated": it is the first one. "corrected": by a version of its document. "declared": by
`supersedes`. "found": a round recorded the change. "compared": by reading both texts.
"""


@dataclass(frozen=True)
class DatedValue:
    """A value of the fact that a question asks for."""

    text: str
    since: datetime
    """The date of the first document that states it, or a later day from which it says so."""
    until: datetime | None
    """The start of the next value, the end that the text names, or the date of the document that
    supersedes its documents; None: it holds."""
    known: HowKnown
    confidence: float
    """Expected F1 of the value, 0–1, calibrated as that of an answer."""
    verdict: Verdict
    """`likely` or `unsure`, as of an answer; also unsure if it is open whether this value replaced
    the one before it."""
    sources: tuple[Source, ...]
    """The documents that state it, by date; `quote` has the characters of the value."""

    def answer(self, question: str, form: Form) -> Answer:
        """The value as the answer to a question of this form."""
        return Answer(
            question,
            self.text,
            self.verdict,
            self.confidence,
            self.sources,
            uncalibrated=max(source.weight for source in self.sources),
            form=form,
        )


@dataclass(frozen=True)
class FactHistory:
    """The values of the fact that a question asks for, as of a date."""

    question: str
    as_of: datetime | None
    values: tuple[DatedValue, ...]
    """By date; none if it is not in memory."""

    def at(self, date: datetime) -> DatedValue | None:
        """The value that holds at `date`; None if no document states one."""
        for value in reversed(self.values):
            if value.since <= date and (value.until is None or date < value.until):
                return value
        return None
