"""Inferred changes: two spans of text, of which the later one states the new value of what the
earlier one states.

A change has ids, dates and character offsets, and no text: it says nothing without the documents.
"""

import json
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

from cmt.bank.memory_ids import chunk_number
from cmt.common.dates import iso, parse_instant
from cmt.common.digests import json_checksum, sha256_hex

ChangeState = Literal["found", "rejected"]
"""A rejected change has no effect, and stays rejected if a round finds it again."""


@dataclass(frozen=True)
class ValueSpan:
    """A run of characters in the text of one memory."""

    doc_id: str
    published_at: datetime
    """Of the version of the document."""
    chunk: int
    """Number of the memory in its document, from 0, as in its memory_id."""
    first: int
    last: int
    """The span is `text[first:last]`, in code points of the memory's text, which begins with the
    heading.
    """
    digest: str
    """First 16 hex digits of the SHA-256 of the memory's text."""

    @classmethod
    def of(cls, row: Mapping[str, Any], first: int, last: int) -> "ValueSpan":
        """The characters `first` to `last` of the bank row `row`. Raises ValueError if there are
        none.
        """
        text = row["text"]
        if not 0 <= first < last <= len(text):
            raise ValueError(f"memory {row['memory_id']!r} has no characters {first} to {last}")
        chunk, digest = chunk_number(row["memory_id"]), sha256_hex(text)[:16]
        return cls(row["doc_id"], row["published_at"], chunk, first, last, digest)

    def read(self, row: Mapping[str, Any]) -> str | None:
        """The characters of the span in the bank row `row`; None if the row is another memory or
        has another text.

        A memory has another text after a correction of the same date, and in a bank with other
        chunks.
        """
        text, place = row["text"], (row["doc_id"], chunk_number(row["memory_id"]))
        if text is None or (*place, sha256_hex(text)[:16]) != (
            self.doc_id,
            self.chunk,
            self.digest,
        ):
            return None
        return str(text[self.first : self.last])

    def overlaps(self, other: "ValueSpan") -> bool:
        """Whether both are in one text and share a character."""
        return replace(self, first=0, last=0) == replace(other, first=0, last=0) and (
            max(self.first, other.first) < min(self.last, other.last)
        )


@dataclass(frozen=True)
class Change:
    """A statement of one document that a later document changes, as a round found it."""

    old: ValueSpan
    new: ValueSpan
    holds_from: datetime
    """From this date on, the new value holds."""
    confidence: float
    """Probability that it is a change, 0–1."""
    round_id: str = ""
    """The round that found it; `Ledger.write_changes` writes this and the next two."""
    compressor: str = ""
    """Digest of that round's compressor."""
    found_at: str = ""
    state: ChangeState = "found"

    @property
    def id(self) -> str:
        """12 hex digits that depend only on the two spans, so that a repeated round finds the same
        change.
        """
        return json_checksum({"old": _span_values(self.old), "new": _span_values(self.new)})[:12]

    @property
    def doc_ids(self) -> tuple[str, str]:
        """The documents of the old and of the new value."""
        return self.old.doc_id, self.new.doc_id

    def overlaps(self, other: "Change") -> bool:
        """Whether the spans overlap, as they do if two compressors find one change."""
        return self.old.overlaps(other.old) and self.new.overlaps(other.new)

    def to_record(self) -> str:
        """The change as JSON, with a checksum over its other values."""
        values = vars(self) | {"old": _span_values(self.old), "new": _span_values(self.new)}
        values |= {"holds_from": iso(self.holds_from)}
        return json.dumps(values | {"checksum": json_checksum(values)})

    @classmethod
    def from_record(cls, record: str) -> "Change":
        """The inverse of `to_record`. Raises ValueError or TypeError if the record was altered."""
        values = json.loads(record)
        if not isinstance(values, dict) or values.pop("checksum", None) != json_checksum(values):
            raise ValueError("it does not match its checksum")
        spans = {
            name: ValueSpan(
                **values[name] | {"published_at": parse_instant(values[name]["published_at"])}
            )
            for name in ("old", "new")
        }
        return cls(**values | spans | {"holds_from": parse_instant(values["holds_from"])})


def without_rivals(changes: Collection[Change]) -> list[Change]:
    """Return `changes`, but leave out each one that a surer change of the same earlier document
    contradicts.

    Two later documents about different subjects cannot both change the same earlier document. The
    change with the highest confidence counts; another one counts only if a change connects the two
    later documents. Rejected changes are returned, but neither contradict nor connect. The order
    stays.
    """
    in_effect = [change for change in changes if change.state == "found"]
    connected = {frozenset(change.doc_ids) for change in in_effect}
    later: dict[str, set[str]] = defaultdict(set)
    for change in sorted(in_effect, key=lambda change: -change.confidence):
        kept, new = later[change.old.doc_id], change.new.doc_id
        if not kept or any(frozenset((new, other)) in connected for other in kept):
            kept.add(new)
    return [
        change
        for change in changes
        if change.state == "rejected" or change.new.doc_id in later[change.old.doc_id]
    ]


def _span_values(span: ValueSpan) -> dict[str, Any]:
    return vars(span) | {"published_at": iso(span.published_at)}
