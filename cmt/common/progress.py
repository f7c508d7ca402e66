"""Progress of long operations: the protocol that callers implement, and an implementation that
shows nothing.
"""

from collections.abc import Callable
from typing import Protocol

OnProgress = Callable[[int], None]  # called with the number of steps completed since the last call


class Progress(Protocol):
    """Receives the progress of an operation that runs in stages."""

    def stage(self, name: str, total: int | None = None) -> None:
        """Begin the stage `name` of `total` steps (None: unknown)."""

    def advance(self, n: int, note: str = "") -> None:
        """Add `n` completed steps to the current stage and show `note` next to them."""


class NullProgress:
    """Progress that shows nothing."""

    def stage(self, name: str, total: int | None = None) -> None: ...

    def advance(self, n: int, note: str = "") -> None: ...
