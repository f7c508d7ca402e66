"""Canaries: questions of earlier slices, asked as of now after every round, that show whether the
slice does harm.

A canary is a question that was answered right. Its answer may change only through an update of its
document. A declared update, or forgetting its document, retires the canary; any other update
replaces its reference. `choice` chooses them before the bank changes, `asking` asks them
afterwards, `harm` distinguishes updates from harm, `storage` keeps them for the next round.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from cmt.text.answers import words_of

RIGHT = 0.5  # F1 (0–1) from which an answer is right, unless it contradicts the right ones


@dataclass(frozen=True)
class Outcome:
    """The answer to a canary."""

    answer: str  # empty for "not in memory"
    f1: float  # 0–1, against the right answers
    right: bool
    # the document that the answer is quoted from, else the first source; None without sources
    doc_id: str | None


@dataclass(frozen=True)
class Canary:
    """A question, its document, and its outcomes."""

    question_id: str
    doc_id: str
    question: str
    references: tuple[str, ...]  # the right answers
    source: str = ""  # the source (publisher) of its document
    published_at: datetime | None = None  # the date of its document
    fixed: bool = False  # whether it belongs to the fixed sample, whose first answer is needed
    best: Outcome | None = None  # the outcome with the highest F1, of this round or an earlier one
    now: Outcome | None = None  # the outcome in the bank after the round; None until it is answered
    selection: str | None = None  # `Selection.digest` of `now`; None if it is unknown
    # the outcome without the documents of the slice, or without those of unauthorised sources among
    # them (`harm`); None if the answer is right, or if none of these documents was selected
    before: Outcome | None = None
    # the documents of the slice that make the answer wrong without being an update
    harmed_by: tuple[str, ...] = ()
    # the harmful documents that the round left out before it asked the canary again
    set_aside: tuple[str, ...] = ()
    flipped: Outcome | None = None  # the outcome with the documents that were set aside
    updated_by: str | None = None  # the document of the slice whose answer became the reference

    @property
    def answered_from(self) -> str:
        """The document that it is answered from now, "" if there is none."""
        return (self.now.doc_id if self.now else None) or ""

    @property
    def doc_ids(self) -> set[str]:
        """Its document, and the documents that changed it or that it was answered from."""
        outcomes = (self.best, self.now, self.before, self.flipped)
        answered_from = [outcome.doc_id for outcome in outcomes if outcome]
        named = (self.doc_id, self.updated_by, *self.harmed_by, *self.set_aside, *answered_from)
        return {doc_id for doc_id in named if doc_id}

    @property
    def regressed(self) -> bool:
        """Whether it is right without the documents of the slice, and with them answered otherwise
        or not at all.
        """
        if not (self.now and self.before and self.before.right) or self.now.right:
            return False
        return not self.now.answer or contradicts(self.now.answer, self.references)


def contradicts(answer: str, references: Iterable[str]) -> bool:
    """Whether `answer` and each of `references` have words that the other lacks.

    "956 crowns" contradicts "767 crowns", with an F1 of 0.5; "767 crowns a month" and "" do not.
    """
    words = words_of(answer)
    return all(words - reference and reference - words for reference in map(words_of, references))
