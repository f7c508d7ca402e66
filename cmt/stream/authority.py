"""Who published a document, and whose documents it may supersede or correct.

The publisher of a document is the name that the ingest gives; or, for a trusted file, the name in its own column
`source`; or else `file:<name>` of the ingested file or folder. A slice keeps it in the column `source`.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal, NamedTuple

from cmt.common.dates import iso
from cmt.errors import ConfigError
from cmt.stream.schema import normalise

_FILE_PREFIX = "file:"


class Statement(NamedTuple):
    """A document, without its text."""

    doc_id: str
    published_at: datetime
    publisher: str


@dataclass(frozen=True)
class Authority:
    """Whose documents each publisher may supersede or correct besides its own (`stream.authority`), and whose facts it
    may change (`stream.peers`)."""

    granted: Mapping[str, Collection[str]] = field(default_factory=dict)
    peers: Literal["*"] | Sequence[Collection[str]] = ()

    def covers(self, publisher: str, other: str) -> bool:
        """Whether `publisher` may supersede or correct documents of `other`."""
        return publisher == other or other in self.granted.get(publisher, ())

    def may_change(self, publisher: str, other: str) -> bool:
        """Whether a later document of `publisher` may change what a document of `other` states."""
        if self.covers(publisher, other) or self.peers == "*":
            return True
        return any(publisher in group and other in group for group in self.peers)

    def why_not_correct(self, correction: Statement, document: Statement) -> str | None:
        """Why `correction` may not replace the text of `document`, which has its doc_id; None if it may."""
        if self.covers(correction.publisher, document.publisher):
            return None
        return (
            f"doc_id {document.doc_id!r} is a document of {document.publisher!r}, which {correction.publisher!r} may "
            f"not correct; {_advice(correction.publisher, document.publisher)}"
        )

    def why_not_supersede(self, update: Statement, document: Statement) -> str | None:
        """Why `update` may not supersede `document`; None if it may."""
        if update.published_at < document.published_at:
            return (
                f"supersedes {document.doc_id!r}, which is younger ({iso(document.published_at)}); correct the date, "
                "or leave supersedes out"
            )
        if self.covers(update.publisher, document.publisher):
            return None
        return (
            f"supersedes {document.doc_id!r} of {document.publisher!r}, which {update.publisher!r} may not; "
            f"{_advice(update.publisher, document.publisher)}, or leave supersedes out"
        )

    def why_not_add(self, document: Statement, updates: Sequence[Statement]) -> str | None:
        """Why a new `document` may not be added; None if it may.

        `updates` are documents of the store that supersede it already. An update by a publisher without authority
        would hide it from the start.
        """
        for update in updates:
            if update.published_at >= document.published_at and not self.covers(update.publisher, document.publisher):
                return (
                    f"{update.doc_id!r} of {update.publisher!r} would supersede it, which it may not do to "
                    f"{document.publisher!r}; `cmt forget {update.doc_id}` and ingest this again, or "
                    f"{_advice(update.publisher, document.publisher)}"
                )
        return None


def check_publisher(name: str) -> str:
    """`name` on one line. Raises ConfigError if it is blank, or if it begins with `file:`."""
    publisher = " ".join(normalise(name).split())
    if not publisher or publisher.startswith(_FILE_PREFIX):
        raise ConfigError(f"{name!r} cannot be a source: give the name of a publisher, not one that begins with file:")
    return publisher


def publisher_of_each(claimed: Sequence[str | None], *, named: str | None, path: Path, trusted: bool) -> list[str]:
    """The publisher of each row of `path`; `claimed` is the file's own column `source`.

    `named`: the publisher that the ingest gives. `trusted`: whether `claimed` counts without one; a claim that begins
    with `file:` never counts.
    """
    file = _FILE_PREFIX + (normalise(path.resolve().name) or "/")
    if named is not None or not trusted:
        return [named or file] * len(claimed)
    return [file if name is None or name.startswith(_FILE_PREFIX) else name for name in claimed]


def _advice(publisher: str, other: str) -> str:
    return f"if it may, add {json.dumps({publisher: [other]}, ensure_ascii=False)} to stream.authority"
