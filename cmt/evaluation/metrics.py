"""Metrics of answers and their intervals.

Exact match and F1 follow SQuAD (Rajpurkar et al. 2016, arXiv 1606.05250, section 5.1). The
published CMT numbers call prefix match EM (docs/results.md).

Questions on one document share its errors: its memory may be poor, or not selected. So every
interval is a percentile bootstrap that resamples documents, each with all its questions (the
cluster bootstrap: Davison and Hinkley 1997, Bootstrap methods and their application, section 3.8;
for scores of language models: Miller 2024, arXiv 2411.00640, section 2.2). With one question a
document it is Efron's bootstrap of the questions.
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
    # a reference of nothing but articles is normalised to "", which every prediction starts with
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


def summarise(
    marks: Marks, documents: Sequence[str], *, recalled: Sequence[bool] | None, seed: int
) -> Scores:
    """Means of the marks in per cent, the interval of F1, and the share of `recalled` questions.

    `documents`: id of the document of each question.
    """
    count = len(marks.f1)
    if not count:
        return Scores(0.0, 0.0, 0.0, (0.0, 0.0), None if recalled is None else 0.0, 0)
    low, high = bootstrap_interval(marks.f1, documents, seed=seed)
    return Scores(
        em=100 * float(marks.em.mean()),
        em_prefix=100 * float(marks.em_prefix.mean()),
        f1=100 * float(marks.f1.mean()),
        ci=(100 * low, 100 * high),
        recall=None if recalled is None else float(np.mean(recalled)),
        n=count,
    )


def bootstrap_interval(
    values: Floats, documents: Sequence[str], *, seed: int
) -> tuple[float, float]:
    """95 % interval of the mean of `values` (n,), n >= 1, clustered by `documents` (n).

    A single document gives an interval of no width.
    """
    means = _resampled_means(values, documents, np.random.default_rng(seed))
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def paired_bootstrap(
    ours: Floats, theirs: Floats, documents: Sequence[str], *, seed: int
) -> Difference:
    """Mean of `ours` − `theirs`, both (n,) with n >= 1 in the same order of questions, and its 95 %
    interval, clustered by `documents` (n).

    The differences are resampled, so the two answers to a question stay together. Source: Efron and
    Tibshirani 1993 (An introduction to the bootstrap), for systems on one test set as in Koehn 2004
    (EMNLP, W04-3250). Raises ConfigError on different numbers of questions.
    """
    if ours.shape != theirs.shape:
        raise ConfigError(
            f"{len(ours)} values cannot be paired with {len(theirs)}: both need the same questions"
        )
    differences = ours - theirs
    low, high = bootstrap_interval(differences, documents, seed=seed)
    return Difference(float(differences.mean()), low, high)


def unpaired_bootstrap(
    ours: Floats,
    theirs: Floats,
    documents: tuple[Sequence[str], Sequence[str]],
    *,
    tail: float,
    seed: int,
) -> Difference:
    """Mean of `ours` (n,) minus mean of `theirs` (m,), and the interval that excludes the share
    `tail` on either side, clustered by the `documents` of ours (n) and theirs (m).

    The samples are resampled independently (Efron and Tibshirani 1993, chapter 16).
    """
    random = np.random.default_rng(seed)
    our_means = _resampled_means(ours, documents[0], random)
    their_means = _resampled_means(theirs, documents[1], random)
    low, high = np.percentile(our_means - their_means, [100 * tail, 100 * (1 - tail)])
    return Difference(float(ours.mean() - theirs.mean()), float(low), float(high))


def _resampled_means(
    values: Floats, documents: Sequence[str], random: np.random.Generator
) -> Floats:
    """Means of `values` (n,) over RESAMPLES draws of as many documents as there are, each with all
    its questions: (RESAMPLES,).
    """
    if len(documents) != len(values):
        raise ConfigError(f"{len(values)} values have {len(documents)} documents: each needs one")
    # 1. sum and number of the values of each document, in order of appearance
    places: dict[str, int] = {}
    cluster = [places.setdefault(document, len(places)) for document in documents]
    sums = np.bincount(cluster, weights=values)  # (documents,)
    counts = np.bincount(cluster)  # (documents,)
    # 2. draw documents, a block of resamples at a time
    means = []
    block = max(1, _BLOCK // len(places))
    for start in range(0, RESAMPLES, block):
        size = (min(block, RESAMPLES - start), len(places))
        drawn = random.integers(len(places), size=size)  # (resamples, documents)
        means.append(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
    return np.concatenate(means)


def _overlap(prediction: str, reference: str) -> float:
    ours, theirs = normalise_answer(prediction).split(), normalise_answer(reference).split()
    if not ours or not theirs:
        return float(ours == theirs)
    common = (Counter(ours) & Counter(theirs)).total()
    return 2 * common / (len(ours) + len(theirs))
