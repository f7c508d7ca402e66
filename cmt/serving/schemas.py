"""What goes over the wire: questions and dates as they come in, answers and documents as they go out."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from cmt.common.dates import parse_instant
from cmt.common.text import plain

if TYPE_CHECKING:
    from cmt.answering.answer import Answer, Source, Span

LONGEST = 2000  # characters of a question; the LM reads its first 256 tokens


def end_of(text: Any) -> datetime | None:
    """The end of a plain date in UTC, or a date-time with zone. ValueError for anything else."""
    return _instant(text, time.max)


def start_of(text: Any) -> datetime | None:
    """The start of a plain date in UTC, or a date-time with zone. ValueError for anything else."""
    return _instant(text, time.min)


def _instant(text: Any, edge: time) -> datetime | None:
    if text is None or isinstance(text, datetime):
        return text
    try:
        return datetime.combine(date.fromisoformat(str(text)), edge, UTC)
    except ValueError:
        pass
    try:
        return parse_instant(str(text))
    except ValueError as error:
        raise ValueError(f"{error}, or a plain date such as 2031-02-15") from None


def question_of(text: str) -> str:
    """`text` in one line without control characters. ValueError when nothing is left or it is too long."""
    question = plain(text)
    if not question:
        raise ValueError("the question is empty: write one")
    if len(question) > LONGEST:
        raise ValueError(f"the question has {len(question):,} characters: at most {LONGEST:,} are taken")
    return question


def _date_schema(meaning: str) -> Any:
    return WithJsonSchema({"type": "string", "description": meaning, "examples": ["2031-02-15"]})


Question = Annotated[str, AfterValidator(question_of), Field(examples=["Who is the mayor of Port Ellery?"])]
AsOf = Annotated[
    datetime | None,
    BeforeValidator(end_of),
    _date_schema("As things stood at the end of that day (UTC), or at a date-time with zone. Default: now."),
]
Since = Annotated[datetime | None, BeforeValidator(start_of), _date_schema("Published on that day or later.")]
Until = Annotated[datetime | None, BeforeValidator(end_of), _date_schema("Published on that day or earlier.")]


class Ask(BaseModel):
    """A question, and the date as of which it is to be answered."""

    model_config = ConfigDict(extra="forbid")

    question: Question
    as_of: AsOf = None


class SpanOut(BaseModel):
    """A part of the text that the LM read: `text[first:last]`, counted in code points."""

    first: int
    last: int
    probability: float

    @classmethod
    def of(cls, span: "Span") -> "SpanOut":
        """`span` as it goes out."""
        return cls(first=span.first, last=span.last, probability=span.probability)


class SourceOut(BaseModel):
    """A document that an answer rests on; `quote` is what ψ took for the answer, in one source of an answer at most.

    News are read beside the document that they supersede, where the bank has it.
    """

    doc_id: str
    title: str | None
    published_at: datetime
    similarity: float
    weight: float
    text: str | None
    spans: list[SpanOut]
    quote: SpanOut | None = None
    supersedes: str | None = None

    @classmethod
    def of(cls, source: "Source") -> "SourceOut":
        """`source` as it goes out."""
        names = ("doc_id", "title", "published_at", "similarity", "weight", "text", "supersedes")
        plain = {name: getattr(source, name) for name in names}
        quote = SpanOut.of(source.quote) if source.quote else None
        return cls(spans=[SpanOut.of(span) for span in source.spans], quote=quote, **plain)


class Answered(BaseModel):
    """An answer and what it rests on, best source first; unknown: `answer` is "not in memory"."""

    question: str
    as_of: datetime | None
    answer: str
    known: bool
    confidence: float
    sources: list[SourceOut]

    @classmethod
    def of(cls, answer: "Answer", as_of: datetime | None) -> "Answered":
        """`answer` as it goes out."""
        return cls(
            question=answer.question,
            as_of=as_of,
            answer=answer.text,
            known=answer.known,
            confidence=round(answer.confidence, 4),
            sources=[SourceOut.of(source) for source in answer.sources],
        )


class Entry(BaseModel):
    """A document in the bank."""

    doc_id: str
    title: str | None
    published_at: datetime
    superseded_at: datetime | None
    supersedes: str | None
    memories: int


class Page(BaseModel):
    """Some of the bank's documents, newest first; `total` fit the dates."""

    total: int
    offset: int
    documents: list[Entry]


class Memory(BaseModel):
    """One memory of a document, with its text where the bank keeps it."""

    memory_id: str
    tokens: int
    text: str | None


class Document(Entry):
    """A document with its memories in the order of its text."""

    content: list[Memory]


class Range(BaseModel):
    """The dates between which the bank's documents were published; null when it has none."""

    first: datetime | None
    last: datetime | None
    documents: int


class Health(BaseModel):
    """The server can answer."""

    status: str
    version: str
    compressor: str
    bank_version: int
    rows: int
    project: str
    params: str


class Fault(BaseModel):
    """What is wrong and what to do."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class Problem(BaseModel):
    """The body of every answer that is an error."""

    error: Fault


def explain(errors: Iterable[Any]) -> tuple[str, str | None]:
    """Pydantic's errors as one line, and the field of the first."""
    lines, fields = [], []
    for item in errors:
        field = ".".join(str(part) for part in item["loc"] if part not in ("body", "query"))
        reason = str(item["msg"]).removeprefix("Value error, ")
        fields.append(field)
        lines.append(f"{field}: {reason}" if field else reason)
    return "; ".join(lines), (fields[0] or None) if fields else None
