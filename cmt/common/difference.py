"""A mean difference with its confidence interval."""

from typing import NamedTuple


class Difference(NamedTuple):
    """Mean difference of two systems or samples, with its interval: 95 % by default."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:+.1f} ({self.low:+.1f} to {self.high:+.1f})"
