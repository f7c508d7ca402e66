"""Documents and questions: their Arrow schemas, and the check that every row must pass before it enters a slice."""

import hashlib
import json
import re
import reprlib
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pyarrow as pa

from cmt.common.dates import EXAMPLE, iso, parse_instant, to_utc

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

RAW_LENGTH = 2000  # characters of a rejected row that are kept

Row = tuple[int, Mapping[str, Any]]

# C0 and C1 controls, the byte order mark, and lone surrogates, which JSON can carry and UTF-8 cannot
_DROPPED = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ufeff\ud800-\udfff]")
_LINE_END = re.compile("\r\n|[\r\x0b\x0c\x85]")
_NOT_IN_IDS = re.compile("[\x00-\x1f\x7f-\x9f\ufeff\ud800-\udfff\u2028\u2029]")


@dataclass(frozen=True)
class Rejected:
    """A row that was not taken, and why."""

    file: str
    row: int
    """Counted from 1; in text files the number of the line."""
    reason: str
    raw: str = field(default="", repr=False)
    """The row as it was found, cut at 2000 characters."""


def normalise(text: str) -> str:
    """NFC; line ends as LF; no control characters but LF and tab, no byte order marks; no trailing or outer blanks.

    Direction marks, joiners and emoji stay. Applying it twice changes nothing.
    """
    if text.isascii() and text.isprintable():  # the common case, and several times as fast
        return text.strip()
    text = unicodedata.normalize("NFC", _DROPPED.sub("", _LINE_END.sub("\n", text)))
    return "\n".join(map(str.rstrip, text.split("\n"))).strip()


def text_sha256(text: str) -> str:
    """Hex sha256 of the normalised text: what makes two texts the same."""
    return hashlib.sha256(normalise(text).encode()).hexdigest()


def document_id(text: str) -> str:
    """The doc_id of a document that brings none: the first 16 hex digits of its text's hash."""
    return text_sha256(text)[:16]


def validate_documents(rows: Iterable[Row], *, file: str, now: datetime) -> tuple[pa.Table, list[Rejected]]:
    """The good `rows` in DOCUMENT_SCHEMA and in their order, and the others with a reason; later than `now` is bad."""
    return _validate(rows, file=file, schema=DOCUMENT_SCHEMA, check=lambda values: _document(values, now))


def validate_questions(rows: Iterable[Row], *, file: str, now: datetime) -> tuple[pa.Table, list[Rejected]]:
    """The good `rows` in QUESTION_SCHEMA and in their order, and the others with a reason; later than `now` is bad."""
    return _validate(rows, file=file, schema=QUESTION_SCHEMA, check=lambda values: _question(values, now))


def raw_text(values: object) -> str:
    """`values` as they are kept in the quarantine."""
    try:
        return json.dumps(values, ensure_ascii=False, default=str)[:RAW_LENGTH]
    except (RecursionError, TypeError, ValueError):
        return reprlib.repr(values)


def _validate(
    rows: Iterable[Row], *, file: str, schema: pa.Schema, check: Callable[[Mapping[str, Any]], dict[str, Any]]
) -> tuple[pa.Table, list[Rejected]]:
    good: list[dict[str, Any]] = []
    rejected: list[Rejected] = []
    for number, values in rows:
        try:
            good.append(check(values))
        except ValueError as error:
            rejected.append(Rejected(file, number, str(error), raw_text(values)))
    return pa.Table.from_pylist(good, schema=schema), rejected


def _document(values: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    text = normalise(_string(values, "text") or "")
    if not text:
        raise ValueError("text is empty" if "text" in values else "no text")
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    doc_id = _identifier(values, "doc_id") or sha256[:16]
    supersedes = _identifier(values, "supersedes")
    if supersedes == doc_id:
        raise ValueError(
            f"supersedes is the document's own doc_id {doc_id!r}; name the earlier document, or leave it out"
        )
    published_at = _instant(values, "published_at", now)
    lines = {key: _line(values, key) for key in ("title", "source", "url")}
    return dict(lines, doc_id=doc_id, published_at=published_at, text=text, supersedes=supersedes, sha256=sha256)


def _question(values: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    question = _line(values, "question")
    if not question:
        raise ValueError("question is empty")
    doc_id = _identifier(values, "doc_id")
    if not doc_id:
        raise ValueError("no doc_id; a question names the document that answers it")
    fallback = hashlib.sha256(f"{doc_id}\n{question}".encode()).hexdigest()[:16]
    question_id = _identifier(values, "question_id") or fallback
    asked_at = _instant(values, "asked_at", now)
    return {
        "question_id": question_id,
        "doc_id": doc_id,
        "question": question,
        "answers": _answers(values),
        "asked_at": asked_at,
    }


def _answers(values: Mapping[str, Any]) -> list[str]:
    found = values.get("answers")
    if found is None:
        raise ValueError("no answers")
    if not isinstance(found, list) or not all(isinstance(answer, str) for answer in found):
        raise ValueError(f"answers must be a list of strings, not {reprlib.repr(found)}")
    answers = list(dict.fromkeys(filter(None, map(normalise, found))))
    if not answers:
        raise ValueError("answers is empty; give at least one")
    return answers


def _string(values: Mapping[str, Any], key: str) -> str | None:
    value = values.get(key)
    if value is None or isinstance(value, str):
        return value
    raise ValueError(f"{key} must be a string, not {reprlib.repr(value)}")


def _line(values: Mapping[str, Any], key: str) -> str | None:
    value = _string(values, key)
    return " ".join(normalise(value).split()) or None if value else None


def _identifier(values: Mapping[str, Any], key: str) -> str | None:
    value = _string(values, key)
    if value and _NOT_IN_IDS.search(value):
        raise ValueError(f"{key} {value[:40]!r} has a control character or a line break in it")
    return unicodedata.normalize("NFC", value).strip() or None if value else None


def _instant(values: Mapping[str, Any], key: str, now: datetime) -> datetime:
    value = values.get(key)
    if value is None or value == "":
        raise ValueError(f"no {key}; write {EXAMPLE}")
    if not isinstance(value, str | datetime):
        raise ValueError(f"{key} must be a date-time such as {EXAMPLE}, not {reprlib.repr(value)}")
    try:
        instant = parse_instant(value) if isinstance(value, str) else to_utc(value)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None
    if instant > now:
        raise ValueError(
            f"{key} {iso(instant)} is in the future: the clock says {iso(now)}; "
            "correct the date, or set stream.clock in params.yaml when the stream has a time of its own"
        )
    return instant
