"""What an answer is, and what it rests on."""

from dataclasses import dataclass
from datetime import datetime

NOT_IN_MEMORY = "not in memory"
MAX_QUESTION_TOKENS = 256  # tokens of a question that are read


@dataclass(frozen=True)
class Span:
    """A stretch of a source's text that the LM read."""

    first: int
    last: int
    """Characters `first` … `last` of the text, the last one excluded."""
    probability: float
    """That the answer begins in it."""


@dataclass(frozen=True)
class Source:
    """A document that an answer rests on."""

    doc_id: str
    title: str | None
    published_at: datetime
    similarity: float
    """Cosine between the question's key and the memory's."""
    weight: float
    """Probability that it holds the answer; 0 for the published ψ, which scores no tokens."""
    text: str | None
    """The memory's text, where the bank keeps it."""
    spans: tuple[Span, ...] = ()
    """What the LM read of it, in the order of the text; empty without kept text."""
    quote: Span | None = None
    """What the LM got quoted behind the question, as the likeliest answer; at most one source of an answer has it."""
    supersedes: str | None = None
    """What it supersedes: news are read beside that document, where the bank still has it."""


@dataclass(frozen=True)
class Answer:
    """What was answered and what it rests on, best source first."""

    question: str
    text: str
    known: bool
    """False: the confidence is below `selection.threshold` or the bank has nothing; `text` is then "not in memory"."""
    confidence: float
    """That one of the memories holds the answer, 0–1; for the published ψ the best cosine."""
    sources: tuple[Source, ...]
    closed_book: str | None = None
    """What the LM says without memory, where that was asked for."""
