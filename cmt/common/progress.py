"""Progress of long work: the protocol that callers implement, and the implementation that shows nothing."""

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    pass


class Progress(Protocol):
    """Who shows progress."""

    def stage(self, name: str, total: int | None = None) -> None:
        """A new stage begins; `total` steps, None when unknown."""

    def advance(self, n: int, note: str = "") -> None:
        """`n` more steps are done."""


class NullProgress:
    """A Progress that shows nothing."""

    def stage(self, name: str, total: int | None = None) -> None: ...

    def advance(self, n: int, note: str = "") -> None: ...
