"""Documents and questions: their Arrow schemas, and the validation of a row before it enters a
slice.
"""

import json
import math
import re
import reprlib
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa

from cmt.common.dates import INSTANT_OR_DATE, iso
from cmt.common.digests import sha256_hex
from cmt.stream._urls import url_identity
from cmt.stream.limits import DEFAULT_LIMITS, LONGEST, Limits
from cmt.text.date_formats import DateReader

INSTANT = pa.timestamp("us", tz="UTC")
DOCUMENT_SCHEMA = pa.schema(
    [
        pa.field("doc_id", pa.string(), nullable=False),
        pa.field("published_at", INSTANT, nullable=False),
        pa.field("title", pa.string()),
        pa.field("text", pa.string(), nullable=False),
        pa.field("source", pa.string()),
        pa.field("url", pa.string()),
        pa.field("supersedes", pa.string()),
        pa.field("sha256", pa.string(), nullable=False),
    ]
)
QUESTION_SCHEMA = pa.schema(
    [
        pa.field("question_id", pa.string(), nullable=False),
        pa.field("doc_id", pa.string(), nullable=False),
        pa.field("question", pa.string(), nullable=False),
        pa.field("answers", pa.list_(pa.string()), nullable=False),
        pa.field("asked_at", INSTANT, nullable=False),
    ]
)

AHEAD = timedelta(days=1)  # after the clock: rows dated up to it wait for their time
RAW_LENGTH = 2000  # characters of a rejected row that the quarantine keeps

# C0 and C1 controls, the byte order mark, and lone surrogates, which JSON can carry and UTF-8
# cannot
_DROPPED = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ufeff\ud800-\udfff]")
_LINE_END = re.compile("\r\n|[\r\x0b\x0c\x85]")
_CUT_AT_SOURCE = re.compile(r"\[\+\d+ chars\]$")  # of NewsAPI
_WRAPPERS = (
    "name",
    "main",
    "rendered",
    "value",
    "$oid",
    "$date",
)  # keys of an object that stands for a string
_NOT_IN_IDS = re.compile("[\x00-\x1f\x7f-\x9f\ufeff\ud800-\udfff\u2028\u2029]")


@dataclass(frozen=True)
class Rejected:
    """A rejected row, and why it was rejected."""

    file: str
    row: int  # number of the row, counted from 1; in text files the number of the line
    reason: str
    raw: str = field(
        default="", repr=False
    )  # the row before validation, cut at RAW_LENGTH characters
    early: Mapping[str, Any] | None = field(default=None, repr=False, compare=False)
    """All values of a row that is dated at most AHEAD after the clock, and valid otherwise; else
    None.
    """


@dataclass
class Notes:
    """How ingest read the files: forms of dates, formats, and the values that it converted."""

    forms: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Column and form of its dates (`cmt.text.date_formats`) → number of rows."""
    changes: Counter[str] = field(
        default_factory=Counter
    )  # such as `title is left out …` → number of rows
    examples: dict[str, str] = field(default_factory=dict)  # the first value of each change
    files: dict[str, tuple[str, str]] = field(default_factory=dict)
    """File → its format, and its encoding if it is a text that declares none."""

    def add(self, change: str, value: Any) -> None:
        """Count a change."""
        self.changes[change] += 1
        self.examples.setdefault(change, reprlib.repr(value))


@dataclass(frozen=True)
class Checks:
    """How rows are validated: none may be dated after `now`."""

    now: datetime
    limits: Limits = DEFAULT_LIMITS
    dates: DateReader = DateReader()
    allow_unanswerable: bool = False  # whether a question with an empty list of answers is valid
    notes: Notes = field(default_factory=Notes)


def normalise(text: str) -> str:
    """Normalise `text`: NFC, LF as line end, no control characters except LF and tab, no trailing
    or outer blanks.

    Byte order marks are removed; direction marks, joiners and emoji stay. The function is
    idempotent.
    """
    if text.isascii() and text.isprintable():  # the common case, and several times as fast
        return text.strip()
    text = unicodedata.normalize("NFC", _DROPPED.sub("", _LINE_END.sub("\n", text)))
    return "\n".join(map(str.rstrip, text.split("\n"))).strip()


def document_id(text: str) -> str:
    """The doc_id of a document without one: the first 16 hex digits of the hash of its normalised
    text.
    """
    return sha256_hex(normalise(text))[:16]


class EarlyError(ValueError):
    """A row is dated after the clock by AHEAD at most."""


def validate_document(values: Mapping[str, Any], checks: Checks) -> dict[str, Any]:
    """`values` as a row of DOCUMENT_SCHEMA. Raises ValueError with the reason if they are not
    valid.

    A plain date as `published_at` means the start of that day in UTC. An optional field of another
    type is converted or left out, and counted in `checks.notes`.
    """
    text = normalise(_required(values, "text", checks))
    if not text:
        raise ValueError("text is empty" if "text" in values else "no text")
    if text.endswith("chars]") and (cut := _CUT_AT_SOURCE.search(text)):
        checks.notes.add("the text is cut at its source, which sends only its beginning", cut[0])
    sha256 = sha256_hex(text)
    lines = {key: one_line(values, key, checks) for key in ("title", "source", "url")}
    address = url_identity(lines["url"])
    if address and len(address) > LONGEST["doc_id"]:
        address = sha256_hex(address)[:16]
    doc_id = _identifier(values, "doc_id", checks) or address or sha256[:16]
    supersedes = _identifier(values, "supersedes", checks)
    if supersedes and doc_id in (supersedes, url_identity(supersedes)):
        raise ValueError(
            f"supersedes is the document's own doc_id {doc_id!r}; name the earlier one, or leave "
            "it out"
        )
    published_at = _instant(values, "published_at", checks)
    return dict(
        lines,
        doc_id=doc_id,
        published_at=published_at,
        text=text,
        supersedes=supersedes,
        sha256=sha256,
    )


def validate_question(values: Mapping[str, Any], checks: Checks) -> dict[str, Any]:
    """`values` as a row of QUESTION_SCHEMA. Raises ValueError with the reason if they are not
    valid.

    A plain date as `asked_at` means the end of that day in UTC, so that the question sees the
    documents of that day.
    """
    question = " ".join(normalise(_required(values, "question", checks)).split())
    if not question:
        raise ValueError("question is empty")
    doc_id = _identifier(values, "doc_id", checks)
    if not doc_id:
        raise ValueError(
            "no doc_id; a question names the document that answers it; if its answer is to be the "
            "document, "
            "cmt ingest takes --map text=answer --map title=question"
        )
    question_id = (
        _identifier(values, "question_id", checks) or sha256_hex(f"{doc_id}\n{question}")[:16]
    )
    answers = _answers(values, checks)
    asked_at = _instant(values, "asked_at", checks)
    return dict(
        question_id=question_id,
        doc_id=doc_id,
        question=question,
        answers=answers,
        asked_at=asked_at,
    )


def is_blank(value: Any) -> bool:
    """Whether `value` is None, the empty string or NaN."""
    return bool(value is None or value == "" or value != value)  # NaN is unequal to itself


def unwrap(value: Any) -> Any:
    """The string that an object such as `{"id": null, "name": "Courier"}` stands for; any other
    value unchanged.
    """
    if isinstance(value, Mapping):
        return next((value[name] for name in _WRAPPERS if isinstance(value.get(name), str)), value)
    return value


def joined(value: Any) -> Any:
    """The text of a list of strings and of objects with a text, as Telegram writes links and bold
    words; any other value unchanged.
    """
    if not (isinstance(value, list) and value):
        return value
    parts = [part.get("text") if isinstance(part, Mapping) else part for part in value]
    texts = [part for part in parts if isinstance(part, str)]
    return "".join(texts) if len(texts) == len(parts) else value


def raw_text(values: object) -> str:
    """`values` as text for the quarantine, at most RAW_LENGTH characters of JSON."""
    try:
        return json.dumps(values, ensure_ascii=False, default=str)[:RAW_LENGTH]
    except (RecursionError, TypeError, ValueError):
        return reprlib.repr(values)


def _answers(values: Mapping[str, Any], checks: Checks) -> list[str]:
    """A string, or a list of strings, numbers or objects with the key `text`, also SQuAD's
    `{"text": [...]}`.
    """
    given = values.get("answers")
    if given is None or given != given:
        raise ValueError("no answers")
    raw = given.get("text") if isinstance(given, Mapping) else given
    listed = raw if isinstance(raw, list) else [raw]
    texts: list[Any] = [
        answer.get("text") if isinstance(answer, Mapping) else answer for answer in listed
    ]
    texts = [_number_text(answer) or answer for answer in texts if answer is not None]
    if not all(isinstance(answer, str) for answer in texts):
        raise ValueError(f"answers must be a list of strings, not {reprlib.repr(given)}")
    checks.limits.check_length("answers", "".join(texts))
    answers = list(dict.fromkeys(filter(None, map(normalise, texts))))
    if not answers and not (checks.allow_unanswerable and not texts):
        raise ValueError("answers is empty; give at least one")
    return answers


def _required(values: Mapping[str, Any], key: str, checks: Checks) -> str:
    value = joined(values.get(key))
    if isinstance(value, str):
        checks.limits.check_length(key, value)
        return value
    if is_blank(value):
        return ""
    raise ValueError(f"{key} must be a string, not {reprlib.repr(value)}")


def _optional(values: Mapping[str, Any], key: str, checks: Checks) -> str | None:
    """A string, UUID or number as text; of an object its name, of a list its only item. Other
    values are left out.
    """
    given = values.get(key)
    if given is None or isinstance(given, str):
        return given
    value = unwrap(given[0] if isinstance(given, list) and len(given) == 1 else given)
    value = str(value) if isinstance(value, UUID) else value
    if isinstance(value, str) or is_blank(value):
        return value if isinstance(value, str) else None
    text = _number_text(value)
    checks.notes.add(
        f"{key} is a number and is read as text"
        if text
        else f"{key} is left out, because it is no string",
        given,
    )
    return text


def _number_text(value: Any) -> str | None:
    """A number as text, a whole one without a point; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    whole = isinstance(value, int) or (math.isfinite(value) and value == int(value))
    return str(int(value)) if whole else str(value)


def one_line(values: Mapping[str, Any], key: str, checks: Checks) -> str | None:
    """The string on one line; None if it is missing or blank. An overlong title is cut, another
    field left out.
    """
    value, longest = _optional(values, key, checks), LONGEST[key]
    line = " ".join(normalise(value).split()) if value else ""
    if len(line) > longest:
        # a part of an address or a name is another one
        done = "cut" if key == "title" else "left out"
        checks.notes.add(f"{key} has more than {longest:,} characters and is {done}", line)
        line = line[:longest].rstrip() if key == "title" else ""
    return line or None


def _identifier(values: Mapping[str, Any], key: str, checks: Checks) -> str | None:
    """The string in NFC; None if it is missing or blank."""
    value = _optional(values, key, checks) or ""
    if _NOT_IN_IDS.search(value):
        raise ValueError(f"{key} {value[:40]!r} contains a control character or a line break")
    identifier = unicodedata.normalize("NFC", value).strip()
    checks.limits.check_length(key, identifier)
    return identifier or None


def _instant(values: Mapping[str, Any], key: str, checks: Checks) -> datetime:
    """The date-time in UTC: the start of a plain date of publication, the end of one of asking."""
    value = values.get(key)
    if is_blank(value):
        raise ValueError(
            f"no {key}; write {INSTANT_OR_DATE}; cmt ingest also takes --map {key}=COLUMN or "
            "--published-at DATE"
        )
    try:
        start, end, form = checks.dates.read(value)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None
    if start > checks.now:  # the end of a plain date is ahead of the clock all day
        raise (EarlyError if start - checks.now <= AHEAD else ValueError)(
            f"{key} {iso(start)} is in the future: the clock is at {iso(checks.now)}; "
            "correct the date, or set stream.clock in params.yaml if the stream has a time of its "
            "own"
        )
    checks.notes.forms[key, form] += 1
    return end if key == "asked_at" else start
