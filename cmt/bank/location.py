"""The location of the banks of a project, and its lease. Importing it loads no LanceDB."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cmt.bank._lease import Lease


@dataclass(frozen=True)
class BankLocation:
    """The address of the banks of all compressors, and the settings to open one."""

    uri: str
    """A folder, or an address on object storage."""
    exact_below: int = 10_000
    """From this number of rows on, searches use a vector index."""
    check_lease: Callable[[], None] | None = None
    """Called before every write; raises RoundError if this process lost the lease."""


class HeldLease:
    """The lease of the bank at `uri`, while this process holds it; see `cmt.bank._lease`."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self.held: Lease | None = None
        """Only with it, this process may change the bank."""

    @contextmanager
    def hold(self, *, timeout: float) -> Iterator[None]:
        """Hold the lease; waits up to `timeout` seconds for another holder. Raises RoundError after
        that, and BankError if the lease cannot be written.
        """
        from cmt.bank._lease import hold_lease

        try:
            with hold_lease(self._uri, timeout=timeout) as self.held:
                yield
        finally:
            self.held = None

    def check(self) -> None:
        """Raise RoundError if this process held the lease and lost it; every write begins with
        it.
        """
        if self.held:
            self.held.check()
