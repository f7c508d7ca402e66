"""Documents and questions: their Arrow schemas, and the validation of every row before it enters a slice."""

import json
import re
import reprlib
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

import pyarrow as pa

from cmt.common.dates import INSTANT_OR_DATE, iso, parse_end, parse_start, to_utc
from cmt.common.digests import sha256_hex
from cmt.stream.limits import DEFAULT_LIMITS, Limits

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

RAW_LENGTH = 2000
"""Characters of a rejected row that the quarantine keeps."""

Row = tuple[int, Mapping[str, Any]]
"""Number of a row in its file, and its values by column."""

# C0 and C1 controls, the byte order mark, and lone surrogates, which JSON can carry and UTF-8 cannot
_DROPPED = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ufeff\ud800-\udfff]")
_LINE_END = re.compile("\r\n|[\r\x0b\x0c\x85]")
_NOT_IN_IDS = re.compile("[\x00-\x1f\x7f-\x9f\ufeff\ud800-\udfff\u2028\u2029]")


@dataclass(frozen=True)
class Rejected:
    """A rejected row, and why it was rejected."""

    file: str
    row: int
    """Number of the row, counted from 1; in text files the number of the line."""
    reason: str
    raw: str = field(default="", repr=False)
    """The row before validation, cut at RAW_LENGTH characters."""


def normalise(text: str) -> str:
    """Normalise `text`: NFC, LF as line end, no control characters except LF and tab, no trailing or outer blanks.

    Byte order marks are removed; direction marks, joiners and emoji stay. The function is idempotent.
    """
    if text.isascii() and text.isprintable():  # the common case, and several times as fast
        return text.strip()
    text = unicodedata.normalize("NFC", _DROPPED.sub("", _LINE_END.sub("\n", text)))
    return "\n".join(map(str.rstrip, text.split("\n"))).strip()


def document_id(text: str) -> str:
    """The doc_id of a document without one: the first 16 hex digits of the hash of its normalised text."""
    return sha256_hex(normalise(text))[:16]


def validate_documents(
    rows: Iterable[Row], *, file: str, now: datetime, limits: Limits = DEFAULT_LIMITS
) -> tuple[pa.Table, list[Rejected]]:
    """Validate `rows` as documents; return the valid ones in DOCUMENT_SCHEMA, in order, and the rejected ones.

    A plain date as `published_at` means the start of that day in UTC. A `published_at` after `now` is rejected.
    """
    return _validate(rows, file=file, schema=DOCUMENT_SCHEMA, validate=partial(_document, now=now, limits=limits))


def validate_questions(
    rows: Iterable[Row],
    *,
    file: str,
    now: datetime,
    limits: Limits = DEFAULT_LIMITS,
    allow_unanswerable: bool = False,
) -> tuple[pa.Table, list[Rejected]]:
    """Validate `rows` as questions; return the valid ones in QUESTION_SCHEMA, in order, and the rejected ones.

    A plain date as `asked_at` means the end of that day in UTC, so that the question sees the documents of that day. An
    `asked_at` after `now` is rejected; a plain date counts as its start here. An empty list of answers is rejected
    unless `allow_unanswerable`.
    """
    validate = partial(_question, now=now, limits=limits, allow_unanswerable=allow_unanswerable)
    return _validate(rows, file=file, schema=QUESTION_SCHEMA, validate=validate)


def raw_text(values: object) -> str:
    """`values` as text for the quarantine, at most RAW_LENGTH characters of JSON."""
    try:
        return json.dumps(values, ensure_ascii=False, default=str)[:RAW_LENGTH]
    except (RecursionError, TypeError, ValueError):
        return reprlib.repr(values)


def _validate(
    rows: Iterable[Row], *, file: str, schema: pa.Schema, validate: Callable[[Mapping[str, Any]], dict[str, Any]]
) -> tuple[pa.Table, list[Rejected]]:
    accepted: list[dict[str, Any]] = []
    rejected: list[Rejected] = []
    for number, values in rows:
        try:
            accepted.append(validate(values))
        except ValueError as error:
            rejected.append(Rejected(file, number, str(error), raw_text(values)))
    return pa.Table.from_pylist(accepted, schema=schema), rejected


def _document(values: Mapping[str, Any], now: datetime, limits: Limits) -> dict[str, Any]:
    """A row of DOCUMENT_SCHEMA; ValueError with the reason if `values` are not valid."""
    text = normalise(_string(values, "text", limits) or "")
    if not text:
        raise ValueError("text is empty" if "text" in values else "no text")
    sha256 = sha256_hex(text)
    doc_id = _identifier(values, "doc_id", limits) or sha256[:16]
    supersedes = _identifier(values, "supersedes", limits)
    if supersedes == doc_id:
        raise ValueError(
            f"supersedes is the document's own doc_id {doc_id!r}; name the earlier document, or leave it out"
        )
    published_at = _instant(values, "published_at", now, parse=parse_start)
    lines = {key: _line(values, key, limits) for key in ("title", "source", "url")}
    return dict(lines, doc_id=doc_id, published_at=published_at, text=text, supersedes=supersedes, sha256=sha256)


def _question(values: Mapping[str, Any], now: datetime, limits: Limits, allow_unanswerable: bool) -> dict[str, Any]:
    """A row of QUESTION_SCHEMA; ValueError with the reason if `values` are not valid."""
    question = _line(values, "question", limits)
    if not question:
        raise ValueError("question is empty")
    doc_id = _identifier(values, "doc_id", limits)
    if not doc_id:
        raise ValueError("no doc_id; a question names the document that answers it")
    question_id = _identifier(values, "question_id", limits) or sha256_hex(f"{doc_id}\n{question}")[:16]
    asked_at = _instant(values, "asked_at", now, parse=parse_end)
    return {
        "question_id": question_id,
        "doc_id": doc_id,
        "question": question,
        "answers": _answers(values, limits, allow_empty=allow_unanswerable),
        "asked_at": asked_at,
    }


def _answers(values: Mapping[str, Any], limits: Limits, *, allow_empty: bool) -> list[str]:
    raw = values.get("answers")
    if raw is None:
        raise ValueError("no answers")
    if not isinstance(raw, list) or not all(isinstance(answer, str) for answer in raw):
        raise ValueError(f"answers must be a list of strings, not {reprlib.repr(raw)}")
    limits.check_length("answers", "".join(raw))
    answers = list(dict.fromkeys(filter(None, map(normalise, raw))))
    if not answers and not (allow_empty and not raw):
        raise ValueError("answers is empty; give at least one")
    return answers


def _string(values: Mapping[str, Any], key: str, limits: Limits) -> str | None:
    value = values.get(key)
    if isinstance(value, str):
        limits.check_length(key, value)
    if value is None or isinstance(value, str):
        return value
    raise ValueError(f"{key} must be a string, not {reprlib.repr(value)}")


def _line(values: Mapping[str, Any], key: str, limits: Limits) -> str | None:
    """The string on one line; None if it is missing or blank."""
    value = _string(values, key, limits)
    return " ".join(normalise(value).split()) or None if value else None


def _identifier(values: Mapping[str, Any], key: str, limits: Limits) -> str | None:
    """The string in NFC; None if it is missing or blank."""
    value = _string(values, key, limits)
    if value and _NOT_IN_IDS.search(value):
        raise ValueError(f"{key} {value[:40]!r} contains a control character or a line break")
    return unicodedata.normalize("NFC", value).strip() or None if value else None


def _instant(values: Mapping[str, Any], key: str, now: datetime, *, parse: Callable[[str], datetime]) -> datetime:
    """The date-time in UTC; `parse` maps a plain date to an instant."""
    value = values.get(key)
    if value is None or value == "":
        raise ValueError(f"no {key}; write {INSTANT_OR_DATE}")
    if not isinstance(value, str | datetime):
        raise ValueError(f"{key} must be a date-time such as {INSTANT_OR_DATE}, not {reprlib.repr(value)}")
    try:
        if isinstance(value, str):
            instant, earliest = parse(value), parse_start(value)
        else:
            instant = earliest = to_utc(value, accepted=INSTANT_OR_DATE)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None
    # compare the start of a plain date's day, or no question could be dated today
    if earliest > now:
        raise ValueError(
            f"{key} {iso(instant)} is in the future: the clock is at {iso(now)}; "
            "correct the date, or set stream.clock in params.yaml if the stream has a time of its own"
        )
    return instant
