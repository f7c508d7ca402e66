"""A mean difference with its interval, as comparisons state it."""

from typing import NamedTuple


class Difference(NamedTuple):
    """Mean difference of two systems or samples, and its interval, 95 % unless it is said otherwise."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:+.1f} ({self.low:+.1f} to {self.high:+.1f})"
