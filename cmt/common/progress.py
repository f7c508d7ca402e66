"""Progress of long work: the protocol that callers implement, and the implementation that shows nothing."""

from collections.abc import Callable
from typing import Protocol

OnProgress = Callable[[int], None]
"""Called with the number of further steps that are done."""


class Progress(Protocol):
    """Receives the progress of work in stages."""

    def stage(self, name: str, total: int | None = None) -> None:
        """A new stage begins; `total` steps, None when unknown."""

    def advance(self, n: int, note: str = "") -> None:
        """`n` further steps are done; `note` is shown beside them."""


class NullProgress:
    """Progress that shows nothing."""

    def stage(self, name: str, total: int | None = None) -> None: ...

    def advance(self, n: int, note: str = "") -> None: ...
