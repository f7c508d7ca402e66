"""Reliability of the confidence: how well it predicts the score of an answer, and its calibration
by earlier answers.

Source: the reliability diagram and the expected calibration error of Guo et al. 2017 (arXiv
1706.04599, equation 3, after Naeini et al. 2015, AAAI 29), with F1 or another score in 0–1 in place
of accuracy.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cmt.answering.confidence import NO_CALIBRATION, Calibration, log_odds
from cmt.errors import ConfigError
from cmt.evaluation.metrics import Flags, Floats

BINS = 10
# maximum number of questions whose answers calibrate the confidence; the latest ones are used
CALIBRATED_ON = 500
# number of pseudo-answers with a perfectly calibrated confidence that regularise the fit of a
# calibration
PRIOR = 20
RIGHT_F1 = 0.5  # F1 (0–1) from which an answer counts as right
_DECIMALS = 4  # rounding makes a calibration independent of the last bits of a confidence
_ROUNDING = 1e-3  # by which a probability computed in float32 may leave 0–1


@dataclass(frozen=True)
class ReliabilityBin:
    """The answers with a confidence above `low` and up to `high`, both 0–1; the first bin also has
    those at 0.
    """

    low: float
    high: float
    count: int  # number of answers
    confidence: float | None  # mean confidence, 0–1; None without answers
    outcome: float | None  # mean outcome, such as F1 / 100, 0–1; None without answers


@dataclass(frozen=True)
class Reliability:
    """The reliability of a confidence in BINS bins of equal width over 0–1."""

    bins: tuple[ReliabilityBin, ...]
    # expected calibration error, 0–1 (Guo et al., equation 3); None without answers
    error: float | None

    @property
    def count(self) -> int:
        """Number of answers."""
        return sum(bin_.count for bin_ in self.bins)


def reliability(confidence: Floats, outcome: Floats | Flags) -> Reliability:
    """The reliability of `confidence` (n,) in 0–1 as a prediction of `outcome` (n,) in 0–1, such as
    F1 / 100.

    Raises ConfigError if a confidence is not in 0–1.
    """
    if not (np.all(confidence >= -_ROUNDING) and np.all(confidence <= 1 + _ROUNDING)):
        raise ConfigError(
            "a confidence is not between 0 and 1: calibration is defined for probabilities only"
        )
    # 1. the bin of each answer: bins are closed above
    bin_indices = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)  # (n,)
    counts = np.bincount(bin_indices, minlength=BINS)  # (BINS,), as the sums
    confidence_sums = np.bincount(bin_indices, weights=confidence, minlength=BINS)
    outcome_sums = np.bincount(bin_indices, weights=outcome, minlength=BINS)
    # 2. the means of each bin, and Σ count / n · |mean confidence − mean outcome|
    bins = tuple(
        ReliabilityBin(
            low=index / BINS,
            high=(index + 1) / BINS,
            count=int(count),
            confidence=float(confidence_sums[index] / count) if count else None,
            outcome=float(outcome_sums[index] / count) if count else None,
        )
        for index, count in enumerate(counts)
    )
    error = (
        float(np.abs(confidence_sums - outcome_sums).sum() / len(confidence))
        if len(confidence)
        else None
    )
    return Reliability(bins, error)


def answer_reliability(records: pa.Table) -> Reliability:
    """The reliability of the answers that the memory gave in `records` (RECORD_SCHEMA), with F1 as
    the outcome.

    Refused questions, whose F1 is unknown, are left out. Raises ConfigError if a confidence is not
    in 0–1.
    """
    given = records.filter(pc.not_equal(records["cmt"], ""))
    return reliability(given["confidence"].to_numpy(), given["cmt_f1"].to_numpy())


def likely_shares(
    confidence: Floats, f1: Floats, *, given: Flags, likely: float
) -> tuple[float, float | None]:
    """The share of likely answers, and of these the share with an F1 of at least RIGHT_F1 (None
    without any), 0–1.

    `confidence` and `f1` (n,) of n ≥ 1 questions in 0–1, `given` (n,) false for a refused question.
    `likely`: the confidence from which an answer is likely, 0–1.
    """
    is_likely = given & (confidence >= likely)
    right = float((f1[is_likely] >= RIGHT_F1).mean()) if is_likely.any() else None
    return float(is_likely.mean()), right


def calibrated_by(records: Iterable[pa.Table]) -> tuple[Calibration, int]:
    """The calibration by the answers in `records`, tables of RECORD_SCHEMA with the latest first,
    and their number.

    The answers to the CALIBRATED_ON latest questions are used, without refused questions, whose F1
    is unknown.
    """
    # 1. the latest answers
    confidences, outcomes = [np.arange(0.5, PRIOR) / PRIOR], [np.arange(0.5, PRIOR) / PRIOR]
    questions = answers = 0
    for table in records:
        latest = table[: CALIBRATED_ON - questions]
        given = latest.filter(pc.not_equal(latest["cmt"], ""))
        confidences.append(given["uncalibrated"].to_numpy())
        outcomes.append(given["cmt_f1"].to_numpy())
        questions += latest.num_rows
        answers += given.num_rows
        if questions == CALIBRATED_ON:
            break
    # 2. Platt scaling, with F1 in place of a label
    return (
        _platt(np.concatenate(confidences), np.concatenate(outcomes)) if answers else NO_CALIBRATION
    ), answers


def _platt(confidence: Floats, outcome: Floats) -> Calibration:
    """The logistic regression of `outcome` (n,) in 0–1 on the log-odds of `confidence` (n,)."""
    from sklearn.linear_model import LogisticRegression

    odds = np.array([log_odds(value) for value in confidence])[:, None]  # (n, 1)
    # an outcome of 0.7 is seven tenths of a 1 and three tenths of a 0
    both, labels = np.concatenate([odds, odds]), np.repeat([1, 0], len(odds))
    fitted = LogisticRegression(C=np.inf).fit(both, labels, np.concatenate([outcome, 1 - outcome]))
    slope, shift = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    if slope <= 0:  # the confidence carries no information: every answer gets the mean
        slope, shift = 0.0, log_odds(float(outcome.mean()))
    return Calibration(round(slope, _DECIMALS), round(shift, _DECIMALS))
