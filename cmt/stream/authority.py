"""Who published a document, and whose documents it may supersede or correct.

The publisher of a document is the name that its ingest was given; if the source is trusted, the name in the file's own
column `source`; otherwise `file:<name>` of the file or folder that was ingested. A slice keeps it in the column
`source`. Slices of version 0.1.0 do not say who published: anyone may supersede or correct their documents.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from cmt.common.dates import iso
from cmt.errors import ConfigError
from cmt.stream.schema import normalise

_ORIGIN = "file:"


class Statement(NamedTuple):
    """A document, without its text."""

    doc_id: str
    published_at: datetime
    publisher: str | None
    """None if it is from a slice of version 0.1.0."""


@dataclass(frozen=True)
class Authority:
    """Whose documents each publisher may supersede or correct, beside its own (`stream.authority`)."""

    granted: Mapping[str, Collection[str]] = field(default_factory=dict)

    def covers(self, publisher: str | None, other: str | None) -> bool:
        """Whether `publisher` may supersede or correct documents of `other`."""
        return publisher == other or None in (publisher, other) or other in self.granted.get(publisher or "", ())

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
        """Why a new `document` may not be added although `updates`, which are there before it, supersede it.

        One of another publisher would hide it from the start. None if `document` may be added.
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
    """`name` on one line. Raises ConfigError if it is blank, or like the name of an origin."""
    publisher = " ".join(normalise(name).split())
    if not publisher or publisher.startswith(_ORIGIN):
        raise ConfigError(f"{name!r} cannot be a source: give the name of a publisher, not one that begins with file:")
    return publisher


def publishers(claimed: Sequence[str | None], *, given: str | None, path: Path, trusted: bool) -> list[str]:
    """The publisher of each row of the source `path`, whose column `source` says `claimed`.

    `given`: the name that the ingest was given. `trusted`: whether `claimed` counts where none was given; a claim that
    begins with `file:` never does.
    """
    origin = _ORIGIN + (normalise(path.resolve().name) or "/")
    if given is not None or not trusted:
        return [given or origin] * len(claimed)
    return [origin if name is None or name.startswith(_ORIGIN) else name for name in claimed]


def _advice(publisher: str | None, other: str | None) -> str:
    return f"if it may, add {json.dumps({publisher: [other]}, ensure_ascii=False)} to stream.authority"
