"""Who published a document, and whose documents it may supersede or correct (docs/concepts.md)."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from cmt.errors import ConfigError
from cmt.stream.limits import LONGEST
from cmt.stream.schema import normalise
from cmt.text.display import FILE_PREFIX


@dataclass(frozen=True)
class Authority:
    """Whose documents each publisher may supersede or correct besides its own (`stream.authority`),
    and whose facts it may change (`stream.peers`)."""

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
