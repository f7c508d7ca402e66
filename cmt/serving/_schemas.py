"""Requests and responses of the HTTP interface."""

from collections.abc import Callable, Iterable
from datetime import date, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from cmt.answering.answer import Answer, OtherValue, Quoted, Source, Verdict, clean_question
from cmt.bank.changes import ChangeState
from cmt.common.dates import EXAMPLE_DATE, parse_end, parse_start
from cmt.questions.forms import Form
from cmt.stream.admission.report import IngestReport

_LISTED_ROWS = 100


def _parsed_by(parse: Callable[[str], datetime]) -> BeforeValidator:
    """Validate a date with `parse`; None and datetimes pass unchanged."""
    return BeforeValidator(
        lambda value: value if value is None or isinstance(value, datetime) else parse(str(value))
    )


def _date_schema(meaning: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "description": meaning, "examples": [EXAMPLE_DATE]})


QuestionText = Annotated[
    str, AfterValidator(clean_question), Field(examples=["Who is the mayor of Port Ellery?"])
]
AsOf = Annotated[
    datetime | None,
    _parsed_by(parse_end),
    _date_schema(
        "Answer as of the end of that day (UTC), or of a date-time with zone. Default: now."
    ),
]
Since = Annotated[
    datetime | None, _parsed_by(parse_start), _date_schema("Published on that day or later.")
]
Until = Annotated[
    datetime | None, _parsed_by(parse_end), _date_schema("Published on that day or earlier.")
]
ChangedSince = Annotated[
    datetime | None,
    _parsed_by(parse_start),
    _date_schema("The new value was published, or holds from, on that day or later."),
]
ChangedUntil = Annotated[
    datetime | None,
    _parsed_by(parse_end),
    _date_schema("The new value was published, or holds from, on that day or earlier."),
]


class PreviousQuestion(BaseModel):
    """A question that was asked before, and its answer."""

    model_config = ConfigDict(extra="forbid")

    question: str
    answer: str = ""


Previous = Annotated[
    list[PreviousQuestion],
    Field(
        max_length=100,
        description="The questions before this one, the latest last; they complete a follow-up "
        'such as "and in June?".',
    ),
]


class Ask(BaseModel):
    """A question, and the date as of which to answer it."""

    model_config = ConfigDict(extra="forbid")

    question: QuestionText
    as_of: AsOf = None
    previous: Previous = []


class Answered(BaseModel):
    """An answer with its sources, best first; `known` is false when `verdict` is
    "not_in_memory".
    """

    # argument of `cmt lineage`: compressor, version of the bank, and a digest of question and
    # answer
    id: str
    question: str  # as it was answered: a follow-up is completed
    as_of: datetime | None
    answer: str
    verdict: Verdict
    known: bool
    confidence: float
    uncalibrated: float  # confidence before calibration; used for abstention
    # what the question was recognised to ask for: a fact, its value "at" a time or "before" another
    # one, the moment "since" which it holds, what has "changed", sentences that say "why" or
    # whether it holds ("yesno"), which of two things has more ("compare"), all things of a kind
    # ("list"), or what no document answers
    form: Form
    items: tuple[Quoted, ...]  # the parts of an answer in sentences, each from one document
    # the day that a relative date in the answer names, such as "yesterday"; null without one
    day: date | None
    # the day from which the answer holds, if that is after the asked one; else null
    holds_from: date | None
    other_value: OtherValue | None
    """The value before a change, or a value that may have replaced the answer; null if no document
    states one.
    """
    reason: str  # why no document can answer the question, in words; "" if one may
    missing: tuple[
        str, ...
    ]  # names and numbers of the question that the document of the answer lacks
    sources: tuple[Source, ...]
    compressor: str  # first 12 digits of the compressor whose bank answered

    @classmethod
    def of(cls, answer: Answer, as_of: datetime | None, *, compressor: str) -> "Answered":
        """The response form of `answer` from the bank of `compressor`."""
        names = ("id", "question", "verdict", "known", "form", "day", "holds_from", "other_value")
        values = {
            name: getattr(answer, name)
            for name in (*names, "items", "reason", "missing", "sources")
        }
        values |= {name: round(getattr(answer, name), 4) for name in ("confidence", "uncalibrated")}
        return cls(**values, as_of=as_of, answer=answer.text, compressor=compressor[:12])


class ChangedValue(BaseModel):
    """A value that a document states; null where the bank keeps no text, or has another text than
    the round read.
    """

    doc_id: str
    published_at: datetime
    value: str | None


class ChangeEntry(BaseModel):
    """An inferred change; it has no effect if it is rejected."""

    id: str  # argument of `cmt changes --reject`
    holds_from: datetime
    old: ChangedValue
    new: ChangedValue
    confidence: float
    state: ChangeState


class Entry(BaseModel):
    """A document in the bank, with the changes that name it."""

    doc_id: str
    title: str | None
    published_at: datetime
    superseded_at: datetime | None
    supersedes: str | None
    memories: int
    changes: list[ChangeEntry] = []


class Page(BaseModel):
    """A page of the bank's documents, newest first; `total` counts all documents within the
    dates.
    """

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
    """First and last publication date in the bank; null when it is empty."""

    first: datetime | None
    last: datetime | None
    documents: int


class Alive(BaseModel):
    """The server runs."""

    status: str


class Ingest(BaseModel):
    """Documents and questions, with the keys of JSON lines."""

    model_config = ConfigDict(extra="forbid")

    documents: list[dict[str, Any]] = Field(
        default=[],
        examples=[
            [{"doc_id": "mayor", "published_at": EXAMPLE_DATE, "text": "Moss is the mayor."}]
        ],
    )
    questions: list[dict[str, Any]] = []


class NewSlice(BaseModel):
    """A new slice; its round is pending."""

    slice_id: str
    documents: int
    questions: int


class RejectedRow(BaseModel):
    """An invalid row; `row` counts from 1 in `documents` or `questions`, or the lines of the
    body.
    """

    file: str
    row: int
    reason: str


class Ingested(BaseModel):
    """Result of an ingest; `rejected` has the first 100 of `rejected_total` rows."""

    slices: list[NewSlice]
    accepted: int
    versions: int
    repeats: int
    duplicates: int
    questions: int
    question_duplicates: int
    waiting: int
    rejected_total: int
    rejected: list[RejectedRow]

    @classmethod
    def of(cls, report: IngestReport) -> "Ingested":
        """The response form of `report`."""
        slices = [
            NewSlice(slice_id=s.slice_id, documents=s.n_documents, questions=s.n_questions)
            for s in report.slices
        ]
        rejected = [
            RejectedRow(file=r.file, row=r.row, reason=r.reason)
            for r in report.rejected[:_LISTED_ROWS]
        ]
        names = (
            "accepted",
            "versions",
            "repeats",
            "duplicates",
            "questions",
            "question_duplicates",
            "waiting",
        )
        counts = {name: getattr(report, name) for name in names}
        return cls(slices=slices, rejected_total=len(report.rejected), rejected=rejected, **counts)


class Forget(BaseModel):
    """The documents to forget."""

    model_config = ConfigDict(extra="forbid")

    doc_ids: Annotated[list[str], Field(min_length=1, max_length=1000, examples=[["mayor"]])]
    # refuse near-copies from every source, not only from the documents' own
    everywhere: bool = False


class Forgotten(BaseModel):
    """The forgotten documents, and the number of rows removed from all banks.

    A document of a pending slice has no rows, and no round adds any.
    """

    doc_ids: list[str]
    rows: int


class Health(BaseModel):
    """The server can answer."""

    status: str
    version: str
    compressor: str
    bank_version: int
    rows: int


class Fault(BaseModel):
    """An error and its remedy."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class Problem(BaseModel):
    """The body of every error response."""

    error: Fault


def explain(errors: Iterable[Any]) -> tuple[str, str | None]:
    """Pydantic's errors in one line, and the field of the first one."""
    lines, fields = [], []
    for item in errors:
        field = ".".join(str(part) for part in item["loc"] if part not in ("body", "query"))
        reason = str(item["msg"]).removeprefix("Value error, ")
        if item["type"] == "json_invalid":  # its place is an offset
            field, reason = "", f"Invalid JSON: {item['ctx']['error']}"
        if item["type"] in ("missing", "model_attributes_type") and not field:
            reason = "the body is not a JSON object; send one with Content-Type: application/json"
        fields.append(field)
        lines.append(f"{field}: {reason}" if field else reason)
    return "; ".join(lines), (fields[0] or None) if fields else None
