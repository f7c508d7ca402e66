"""Reliability of the confidence: how well it predicts the score of an answer.

Source: the reliability diagram and the expected calibration error of Guo et al. 2017 (arXiv 1706.04599, equation 3; the
error is that of Naeini et al. 2015, AAAI 29), with F1 or any other score in 0–1 in place of accuracy.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cmt.errors import ConfigError
from cmt.evaluation.metrics import Flags, Floats

BINS = 10
_ROUNDING = 1e-3  # by which a probability computed in float32 may leave 0–1


@dataclass(frozen=True)
class ReliabilityBin:
    """The answers with a confidence above `low` and up to `high`, both 0–1; the first bin also has those at 0."""

    low: float
    high: float
    count: int
    """Number of answers."""
    confidence: float | None
    """Mean confidence, 0–1; None without answers."""
    outcome: float | None
    """Mean outcome, such as F1 / 100, 0–1; None without answers."""


@dataclass(frozen=True)
class Reliability:
    """The reliability of a confidence in BINS bins of equal width over 0–1."""

    bins: tuple[ReliabilityBin, ...]
    error: float | None
    """Expected calibration error, 0–1: the mean distance of confidence and outcome in a bin, weighted by the number of
    its answers. None without answers."""

    @property
    def count(self) -> int:
        """Number of answers."""
        return sum(bin_.count for bin_ in self.bins)


def reliability(confidence: Floats, outcome: Floats | Flags) -> Reliability:
    """The reliability of `confidence` (n,) in 0–1 as a prediction of `outcome` (n,) in 0–1, such as F1 / 100.

    Raises ConfigError if a confidence is not in 0–1.
    """
    if not (np.all(confidence >= -_ROUNDING) and np.all(confidence <= 1 + _ROUNDING)):
        raise ConfigError("a confidence is not between 0 and 1: calibration is defined for probabilities only")
    # 1. the bin of each answer: bins are closed above
    places = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)  # (n,)
    counts = np.bincount(places, minlength=BINS)  # (BINS,), as the sums
    confidence_sums = np.bincount(places, weights=confidence, minlength=BINS)
    outcome_sums = np.bincount(places, weights=outcome, minlength=BINS)
    # 2. the means of each bin, and Σ count / n · |mean confidence − mean outcome|
    bins = tuple(
        ReliabilityBin(
            low=place / BINS,
            high=(place + 1) / BINS,
            count=int(count),
            confidence=float(confidence_sums[place] / count) if count else None,
            outcome=float(outcome_sums[place] / count) if count else None,
        )
        for place, count in enumerate(counts)
    )
    error = float(np.abs(confidence_sums - outcome_sums).sum() / len(confidence)) if len(confidence) else None
    return Reliability(bins, error)


def answer_reliability(records: pa.Table) -> Reliability:
    """The reliability of the answers that the memory gave in `records` (RECORD_SCHEMA), with F1 as the outcome.

    A refused question has no text in the records, so the F1 that its answer would have is unknown and it is left out.
    Raises ConfigError if a confidence is not in 0–1.
    """
    given = records.filter(pc.not_equal(records["cmt"], ""))
    return reliability(given["confidence"].to_numpy(), given["cmt_f1"].to_numpy())
