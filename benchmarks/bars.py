"""A bar: a measured figure and its limit."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Bar:
    """A measured figure and its limit."""

    number: int
    bar: str
    value: float
    limit: float
    at_least: bool
    detail: str

    @property
    def ok(self) -> bool:
        """Whether the bar holds."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit


def timed(action: Callable[[], object]) -> float:
    """Seconds that `action` takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def spread(seconds: Sequence[float], unit: float = 1.0) -> str:
    """The middle half of `seconds`."""
    low, high = unit * np.quantile(seconds, [0.25, 0.75])
    return f"{low:.3g}–{high:.3g}"
