"""The location of the banks of a project. Importing it loads no LanceDB."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class BankLocation:
    """The address of the banks of all compressors, and the settings to open one."""

    uri: str
    """A folder, or an address on object storage."""
    exact_below: int = 10_000
    """From this number of rows on, searches use a vector index."""
    check_lease: Callable[[], None] | None = None
    """Called before every write; raises RoundError if this process lost the lease."""
