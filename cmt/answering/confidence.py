"""Confidence that the bank holds the answer (docs/method.md#confidence)."""

import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from cmt.answering.answer import Verdict
from cmt.bank.lexical import coverage
from cmt.config import SelectionParams
from cmt.retrieval.selector import Selection

# Weights of ψ's log-odds, the word coverage and the selection's lead, and a constant. Fitted on held-out articles,
# assuming that three questions in four are answerable.
CONFIDENCE_WEIGHTS = (0.36, 3.3, 0.12, -3.95)


def answer_confidence(
    question: str, selection: Selection, texts: Sequence[str], begin_probability: Tensor | None
) -> float:
    """Probability that one of the selected memories holds the answer.

    σ(w₀ · log-odds of ψ + w₁ · coverage + w₂ · lead + w₃), with coverage the largest share of the question's words in
    one of `texts` (the memories' texts) and `begin_probability` (S, n) that the answer begins with each token. Without
    `begin_probability` (the published ψ scores no tokens) it is the best cosine; without any memory it is 0.
    """
    if begin_probability is None or not selection.rows:
        return max((row["similarity"] for row in selection.rows), default=0.0)
    best_coverage = max(coverage(question, text) for text in texts)
    features = log_odds(float(begin_probability.sum())), best_coverage, selection.lead, 1.0
    return 1 / (1 + math.exp(-float(np.dot(CONFIDENCE_WEIGHTS, features))))


def verdict_of(confidence: float, selection: SelectionParams) -> Verdict:
    """The verdict on an answer of this confidence."""
    if confidence < selection.threshold:
        return "not_in_memory"
    return "likely" if confidence >= selection.likely else "unsure"


def threshold_margin(confidence: float, threshold: float, *, temperature: float | None = None) -> float:
    """Distance of a confidence from the threshold on the scale of log-probabilities, in nats.

    `temperature` is given if the confidence is a cosine. Infinite if no confidence can cross the threshold.
    """
    if temperature is not None:
        return abs(confidence - threshold) * temperature
    if not 0 < threshold < 1:
        return math.inf
    return abs(log_odds(confidence) - log_odds(threshold))


def log_odds(probability: float) -> float:
    """log(p / (1 − p)), with p kept 1e-9 away from 0 and 1."""
    probability = min(max(probability, 1e-9), 1 - 1e-9)
    return math.log(probability / (1 - probability))
