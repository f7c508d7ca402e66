"""Who published a document, and whose documents it may supersede or correct (docs/concepts.md)."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from cmt.common.dates import iso
from cmt.common.text import FILE_PREFIX
from cmt.common.visibility import Version
from cmt.errors import ConfigError
from cmt.stream.limits import LONGEST
from cmt.stream.schema import normalise


@dataclass(frozen=True)
class Authority:
    """Whose documents each publisher may supersede or correct besides its own (`stream.authority`), and whose facts it
    may change (`stream.peers`)."""

    granted: Mapping[str, Collection[str]] = field(default_factory=dict)
    peers: Literal["*"] | Sequence[Collection[str]] = ()

    def covers(self, publisher: str | None, other: str | None) -> bool:
        """Whether `publisher` may supersede or correct documents of `other`."""
        return publisher == other or other in self.granted.get(publisher or "", ())

    def may_change(self, publisher: str | None, other: str | None) -> bool:
        """Whether a later document of `publisher` may change what a document of `other` states."""
        if self.covers(publisher, other) or self.peers == "*":
            return True
        return any(publisher in group and other in group for group in self.peers)

    def why_not_correct(self, correction: Version, document: Version) -> str | None:
        """Why `correction` may not replace the text of `document`, which has its doc_id; None if it may."""
        if self.covers(correction.source, document.source):
            return None
        return (
            f"doc_id {document.doc_id!r} is a document of {document.source!r}, which {correction.source!r} may "
            f"not correct; {_advice(correction.source, document.source)}"
        )

    def why_not_supersede(self, update: Version, document: Version) -> str | None:
        """Why `update` may not supersede `document`; None if it may."""
        what = f"supersedes {document.doc_id!r}"
        if update.published_at < document.published_at:
            date = iso(document.published_at)
            return f"{what}, which is younger ({date}); correct the date, or leave supersedes out"
        if self.covers(update.source, document.source):
            return None
        advice = _advice(update.source, document.source)
        return f"{what} of {document.source!r}, which {update.source!r} may not; {advice}, or leave supersedes out"

    def why_not_add(self, document: Version, updates: Iterable[Version]) -> str | None:
        """Why a new `document` may not be added: one of its `updates` in the store would hide it from the start."""
        for update in updates:
            if update.published_at >= document.published_at and not self.covers(update.source, document.source):
                return (
                    f"{update.doc_id!r} of {update.source!r} would supersede it, which it may not do to "
                    f"{document.source!r}; `cmt forget {update.doc_id}` and ingest this again, or "
                    f"{_advice(update.source, document.source)}"
                )
        return None


def check_publisher(name: str) -> str:
    """`name` on one line. Raises ConfigError if it is blank or overlong, or if it begins with `file:`."""
    publisher = " ".join(normalise(name).split())
    if not publisher or publisher.startswith(FILE_PREFIX):
        raise ConfigError(f"{name!r} cannot be a source: give the name of a publisher, not one that begins with file:")
    if len(publisher) > LONGEST["source"]:
        raise ConfigError(f"a source has at most {LONGEST['source']:,} characters, this one {len(publisher):,}")
    return publisher


def publisher_of(claimed: str | None, *, named: str | None, origin: str, trusted: bool) -> str:
    """The publisher of a row of the file or folder `origin`: the one that the ingest `named`; or, if the file is
    `trusted`, the `claimed` one of its column `source`, unless that begins with `file:`; or else `file:` and `origin`.
    """
    if named or (trusted and claimed and not claimed.startswith(FILE_PREFIX)):
        return named or str(claimed)
    return FILE_PREFIX + (normalise(origin) or "/")


def _advice(publisher: str | None, other: str | None) -> str:
    if publisher and other and publisher.startswith(FILE_PREFIX) and other.startswith(FILE_PREFIX):
        return "if both files have one publisher, name it at each ingest: --source NAME"
    return f"if it may, add {json.dumps({publisher: [other]}, ensure_ascii=False)} to stream.authority"
