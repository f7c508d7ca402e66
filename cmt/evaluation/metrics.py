"""Metrics of answers and their intervals.

Exact match and F1 follow SQuAD (Rajpurkar et al. 2016, arXiv 1606.05250, section 5.1). The
published CMT numbers call prefix match EM (docs/results.md). Intervals are Efron's percentile
bootstrap. The other functions name their source.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cmt.common.difference import Difference
from cmt.errors import ConfigError
from cmt.text.answers import normalise_answer

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

RESAMPLES = 1000
_BLOCK = 2**22  # resampled positions at once: 32 MB for any number of questions


@dataclass(frozen=True)
class Marks:
    """Scores of each question, each (n,) in 0–1: exact match, prefix match, token F1."""

    em: Floats
    em_prefix: Floats
    f1: Floats


@dataclass(frozen=True)
class Scores:
    """Means over `n` questions: `em`, `em_prefix`, `f1` and its 95 % interval `ci` in 0–100,
    `recall` in 0–1.

    `recall` is None if nothing is retrieved. Without questions all values are 0.
    """

    em: float
    em_prefix: float
    f1: float
    ci: tuple[float, float]
    recall: float | None
    n: int


def exact_match(prediction: str, references: Sequence[str]) -> float:
    """1.0 if the normalised prediction equals any normalised reference, else 0.0."""
    normalised = normalise_answer(prediction)
    return float(any(normalise_answer(reference) == normalised for reference in references))


def prefix_match(prediction: str, references: Sequence[str]) -> float:
    """1.0 if the normalised prediction starts with the shortest reference, normalised; else 0.0."""
    reference = normalise_answer(min(references, key=len))
    answer = normalise_answer(prediction)
    # a reference of articles alone is normalised to "", which every prediction starts with
    return float(answer.startswith(reference)) if reference else float(not answer)


def f1(prediction: str, references: Sequence[str]) -> float:
    """F1 of the bags of normalised words, 0–1, with the reference that gives the highest.

    If either side has no words: 1.0 if both have none, else 0.0 (the rule of SQuAD 2.0), so that em
    <= f1.
    """
    return max(_overlap(prediction, reference) for reference in references)


def mark(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> Marks:
    """The marks of each prediction against the references at its position."""
    pairs = list(zip(predictions, references, strict=True))
    return Marks(
        em=np.array([exact_match(*pair) for pair in pairs], dtype=np.float64),
        em_prefix=np.array([prefix_match(*pair) for pair in pairs], dtype=np.float64),
        f1=np.array([f1(*pair) for pair in pairs], dtype=np.float64),
    )


def summarise(marks: Marks, *, recalled: Sequence[bool] | None, seed: int) -> Scores:
    """Means of the marks in per cent, the bootstrap interval of F1, and the share of `recalled`
    questions.
    """
    count = len(marks.f1)
    if not count:
        return Scores(0.0, 0.0, 0.0, (0.0, 0.0), None if recalled is None else 0.0, 0)
    low, high = bootstrap_interval(marks.f1, seed=seed)
    return Scores(
        em=100 * float(marks.em.mean()),
        em_prefix=100 * float(marks.em_prefix.mean()),
        f1=100 * float(marks.f1.mean()),
        ci=(100 * low, 100 * high),
        recall=None if recalled is None else float(np.mean(recalled)),
        n=count,
    )


def bootstrap_interval(values: Floats, *, seed: int) -> tuple[float, float]:
    """95 % percentile interval of the mean of `values` (n,), n >= 1, from RESAMPLES seeded
    resamples.
    """
    random = np.random.default_rng(seed)
    block = max(1, _BLOCK // len(values))
    means = [
        values[
            random.integers(len(values), size=(min(block, RESAMPLES - start), len(values)))
        ].mean(axis=1)
        for start in range(0, RESAMPLES, block)
    ]
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return float(low), float(high)


def paired_bootstrap(ours: Floats, theirs: Floats, *, seed: int) -> Difference:
    """Mean of `ours` − `theirs`, both (n,) with n >= 1 in the same order of questions, and its 95 %
    interval.

    The differences are resampled, so the two answers to a question stay together. Source: Efron and
    Tibshirani 1993 (An introduction to the bootstrap), for systems on one test set as in Koehn 2004
    (EMNLP, W04-3250). Raises ConfigError on different numbers of questions.
    """
    if ours.shape != theirs.shape:
        raise ConfigError(
            f"{len(ours)} values cannot be paired with {len(theirs)}: both need the same questions"
        )
    differences = ours - theirs
    return Difference(float(differences.mean()), *bootstrap_interval(differences, seed=seed))


def unpaired_bootstrap(ours: Floats, theirs: Floats, *, tail: float, seed: int) -> Difference:
    """Mean of `ours` (n,) minus mean of `theirs` (m,), and the interval that excludes the share
    `tail` on either side.

    The samples are resampled independently (Efron and Tibshirani 1993, chapter 16).
    """
    random = np.random.default_rng(seed)
    means = [
        values[random.integers(len(values), size=(RESAMPLES, len(values)))].mean(axis=1)
        for values in (ours, theirs)
    ]
    low, high = np.percentile(means[0] - means[1], [100 * tail, 100 * (1 - tail)])
    return Difference(float(ours.mean() - theirs.mean()), float(low), float(high))


def _overlap(prediction: str, reference: str) -> float:
    ours, theirs = normalise_answer(prediction).split(), normalise_answer(reference).split()
    if not ours or not theirs:
        return float(ours == theirs)
    common = (Counter(ours) & Counter(theirs)).total()
    return 2 * common / (len(ours) + len(theirs))
