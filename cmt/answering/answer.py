"""An answer and its sources."""

from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from typing import Literal

from cmt.common.digests import sha256_hex
from cmt.questions.forms import Form
from cmt.text.display import plain
from cmt.text.relative_dates import resolve

NOT_IN_MEMORY = "not in memory"
JOIN = " … "  # between quoted sentences that do not adjoin
MAX_QUESTION_TOKENS = 256  # a longer question is cut

Verdict = Literal["likely", "unsure", "not_in_memory"]
"""How far an answer can be trusted. From a confidence of `selection.likely_from` on it is likely,
and below `selection.abstain_below`, before calibration, no answer is given. An answer whose
document lacks a name of the question is at most unsure, and one whose document lacks all of them is
not given."""


def clean_question(text: str) -> str:
    """`text` on one line without control characters. Raises ValueError if nothing is left."""
    question = plain(text)
    if not question:
        raise ValueError("the question is empty: write one")
    return question


def check_length(question: str, *, longest: int) -> None:
    """Raise ValueError if `question` has more than `longest` characters."""
    if len(question) > longest:
        raise ValueError(
            f"the question has {len(question):,} characters: shorten it to {longest:,}, "
            "or raise serving.question_characters"
        )


def identified(
    answer: "Answer", *, as_of: datetime | None, compressor: str, bank_version: int
) -> "Answer":
    """`answer` with its id: `COMPRESSOR-VERSION-ANSWER`, where the last part is a digest of
    question, date, text and source documents.

    `compressor`: digest of its weights. Equal answers of the same version of the bank have equal
    ids, so an answer can be traced without storing it.
    """
    date = as_of.astimezone(UTC).isoformat() if as_of else ""
    digest = sha256_hex(
        answer.question, date, answer.text, *(source.doc_id for source in answer.sources)
    )
    return replace(answer, id=f"{compressor[:12]}-{bank_version}-{digest[:12]}")


@dataclass(frozen=True)
class Span:
    """A stretch of a source's text that the LM read."""

    first: int
    last: int  # characters `first` … `last` of the text, the last one excluded
    probability: float  # probability that the answer begins in the span


@dataclass(frozen=True)
class Source:
    """A document behind an answer."""

    doc_id: str
    title: str | None
    published_at: datetime
    similarity: float
    """Cosine of the question's key and the memory's key."""
    weight: float
    """Probability that the memory holds the answer; 0 for the published ψ, which scores no
    tokens.
    """
    text: str | None
    """Text of the memory; None in a bank without text."""
    spans: tuple[Span, ...] = ()
    """Spans that the LM read, in the order of the text; empty in a bank without text."""
    quote: Span | None = None
    """The likeliest answer span, repeated behind the question; at most one source of an answer has
    it.
    """
    supersedes: str | None = None
    """Id of the document that this one supersedes; it is read together with that document if the
    bank still has it.
    """


@dataclass(frozen=True)
class OtherValue:
    """A value that another document states, shown next to the answer."""

    text: str
    doc_id: str
    published_at: datetime
    later: bool  # whether its document is later than the answer's


@dataclass(frozen=True)
class Quoted:
    """Sentences of one document: a part of an answer that is quoted from several places."""

    text: str  # with " … " between sentences that do not adjoin
    doc_id: str
    published_at: datetime


@dataclass(frozen=True)
class Answer:
    """The answer to one question, with its sources, best first."""

    question: str
    text: str
    verdict: Verdict
    """`not_in_memory`, with the text "not in memory", also if the bank has no visible memory."""
    confidence: float
    """Expected F1 of the answer, 0–1. Given answers are calibrated by the answers of earlier
    rounds. For the published ψ it is the best cosine."""
    sources: tuple[Source, ...]
    closed_book: str | None = None
    """The LM's answer without memory, if it was requested."""
    id: str = ""
    """See `identified`; "" if the memories were given and not selected from a bank."""
    uncalibrated: float = field(kw_only=True)
    """Confidence before calibration, 0–1; used for abstention."""
    other_value: OtherValue | None = field(default=None, kw_only=True)
    """The value before a change, or a value that may have replaced the answer; None if no document
    states one.
    """
    holds_from: date | None = field(default=None, kw_only=True)
    """The day from which the answer holds, if its document announces it for a day after the asked
    one; such an answer is at most unsure.
    """
    form: Form = field(default="plain", kw_only=True)
    """What the question was recognised to ask for."""
    items: tuple[Quoted, ...] = field(default=(), kw_only=True)
    """The parts of an answer in sentences, or the two numbers of a comparison, each from one
    document; empty for an answer in words."""
    reason: str = field(default="", kw_only=True)
    """Why no document can answer the question, or that a list may not be complete, in words; ""
    otherwise."""
    missing: tuple[str, ...] = field(default=(), kw_only=True)
    """Names and numbers of the question that the document of the answer lacks
    (`cmt.text.names`).
    """

    @property
    def day(self) -> date | None:
        """The day that a relative date in the answer names, from the date of the quoted document;
        None without one, or if the answer is in sentences.
        """
        if self.items:
            return None
        quoted = (source for source in self.sources if source.quote)
        with suppress(OverflowError):  # a day before the year 1
            return next((resolve(self.text, source.published_at.date()) for source in quoted), None)
        return None

    @property
    def known(self) -> bool:
        """Whether there is an answer, likely or not."""
        return self.verdict != "not_in_memory"
