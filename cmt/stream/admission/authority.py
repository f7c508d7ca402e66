"""Who published a document, and whose documents it may supersede or correct (docs/concepts.md)."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from cmt.errors import ConfigError
from cmt.stream.limits import LONGEST
from cmt.stream.schema import normalise
from cmt.text.display import FILE_PREFIX

_MONTHS = (
    "jan(uary)?|feb(ruary)?|mar(ch)?|apr(il)?|may|june?|july?|aug(ust)?|sep(t(ember)?)?|"
    "oct(ober)?|nov(ember)?|dec(ember)?"
)
_PART = re.compile(rf"\d+|(?<![a-z])(?:{_MONTHS})(?![a-z])")
"""What differs in the names of the files of a series: numbers and months."""


def series(publisher: str | None) -> str | None:
    """The publisher for whom `publisher` stands: files such as `prices-2026-08.csv` and
    `prices-2026-09.csv`, which nobody named a publisher of, have one.
    """
    if publisher and is_file(publisher):
        return _PART.sub("#", publisher.casefold())
    return publisher


@dataclass(frozen=True)
class Authority:
    """Whose documents each publisher may supersede or correct besides its own (`stream.authority`),
    and whose facts it may change (`stream.peers`). What a person adds without naming a publisher,
    files and `unnamed` sources, may change each other's facts."""

    granted: Mapping[str, Collection[str]] = field(default_factory=dict)
    peers: Literal["*"] | Sequence[Collection[str]] = ()
    unnamed: Collection[str] = ()  # names of the sources of `cmt sync` without `publisher`

    def covers(self, publisher: str | None, other: str | None) -> bool:
        """Whether `publisher` may supersede or correct documents of `other`."""
        return series(publisher) == series(other) or other in self.granted.get(publisher or "", ())

    def may_change(self, publisher: str | None, other: str | None) -> bool:
        """Whether a later document of `publisher` may change what a document of `other` states."""
        if self.covers(publisher, other) or self.peers == "*":
            return True
        if self._is_unnamed(publisher) and self._is_unnamed(other):
            return True
        return any(publisher in group and other in group for group in self.peers)

    def _is_unnamed(self, publisher: str | None) -> bool:
        return bool(publisher) and (publisher in self.unnamed or is_file(publisher))


def is_file(publisher: str | None) -> bool:
    """Whether a publisher is only the name of a file or folder."""
    return bool(publisher and publisher.startswith(FILE_PREFIX))


def check_publisher(name: str) -> str:
    """`name` on one line. Raises ConfigError if it is blank or overlong, or if it begins with
    `file:`.
    """
    publisher = " ".join(normalise(name).split())
    if not publisher or publisher.startswith(FILE_PREFIX):
        raise ConfigError(
            f"{name!r} cannot be a source: give the name of a publisher, not one that begins with "
            "file:"
        )
    if len(publisher) > LONGEST["source"]:
        raise ConfigError(
            f"a source has at most {LONGEST['source']:,} characters, this one {len(publisher):,}"
        )
    return publisher
