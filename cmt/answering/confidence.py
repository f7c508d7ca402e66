"""Confidence that an answer is right (docs/method.md#confidence)."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from cmt.answering.answer import Verdict
from cmt.config import SelectionParams
from cmt.modeling.span_decoding import AnswerSpan
from cmt.text.overlap import coverage, names_covered
from cmt.text.question_names import NO_NAMES, NamesFound


class Evidence(NamedTuple):
    """Features of the confidence model."""

    reader: float  # log-odds of ψ that one of the memories holds the answer
    # log-odds of the agreement of the likely answers with the quote (`AnswerSpan.agreement`)
    agreement: float
    coverage: float  # share of the question's words in the memory of the quote, 0–1
    # share of the question's names and numbers in it, 0–1; 1 for a question without any
    names: float


class Calibration(NamedTuple):
    """Platt scaling of a confidence (Platt 1999, "Probabilistic outputs for support vector
    machines").

    σ(`slope` · log-odds of the confidence + `shift`)
    """

    slope: float
    shift: float

    def apply(self, confidence: float) -> float:
        """The calibrated confidence, 0–1."""
        if self == NO_CALIBRATION:
            return confidence
        return _sigmoid(self.slope * log_odds(confidence) + self.shift)


NO_CALIBRATION = Calibration(slope=1.0, shift=0.0)  # the identity


# Fitted on held-out training articles by benchmarks/fit_confidence.py.
WEIGHTS = Evidence(reader=0.105, agreement=0.538, coverage=1.306, names=0.336)
CONSTANT = -2.259
# nats by which the confidence falls if the document of the answer lacks a name of the question
MISSING_NAME = 2.0


def evidence(
    question: str,
    texts: Sequence[str],
    begin_probability: Tensor,
    quote: AnswerSpan,
) -> Evidence:
    """The evidence for the answer to `question` from memories with the `texts`.

    `begin_probability` (S, n): probability that the answer begins with each token.
    """
    text = texts[quote.span.memory]
    return Evidence(
        reader=log_odds(float(begin_probability.sum())),
        agreement=log_odds(quote.agreement),
        coverage=coverage(question, text),
        names=names_covered(question, text),
    )


def confidence_of(found: Evidence, names: NamesFound = NO_NAMES) -> float:
    """Expected F1 of an answer with this evidence, 0–1: σ(weights · evidence + constant).

    `names`: the document of the answer may lack some.
    """
    confidence = _sigmoid(float(np.dot(WEIGHTS, found)) + CONSTANT)
    return _sigmoid(log_odds(confidence) - MISSING_NAME) if names.missing else confidence


def verdict_of(
    confidence: float, calibrated: float, selection: SelectionParams, names: NamesFound
) -> Verdict:
    """The verdict on an answer. The confidence before calibration refuses it, the calibrated one
    makes it likely.

    `names`: those of the question in the document of the answer. If all are missing the answer is
    refused, and if some are missing or doubtful it is unsure at most.
    """
    never = selection.abstain_below == -1
    if confidence < selection.abstain_below or (names.all_missing and not never):
        return "not_in_memory"
    complete = not (names.missing or names.doubtful)
    return "likely" if complete and calibrated >= selection.likely_from else "unsure"


def threshold_margin(
    confidence: float, threshold: float, *, temperature: float | None = None
) -> float:
    """Distance of a confidence from the threshold on the scale of log-probabilities, in nats.

    `temperature`: of the selection, if the confidence is a cosine. Infinite if no confidence can
    cross the threshold.
    """
    if temperature is not None:
        return abs(confidence - threshold) * temperature
    if not 0 < threshold < 1:
        return math.inf
    return abs(log_odds(confidence) - log_odds(threshold))


def log_odds(probability: float) -> float:
    """log(p / (1 − p)), with p clipped to 1e-9 … 1 − 1e-9."""
    probability = min(max(probability, 1e-9), 1 - 1e-9)
    return math.log(probability / (1 - probability))


def _sigmoid(log_odds: float) -> float:
    return 1 / (1 + math.exp(-log_odds))
