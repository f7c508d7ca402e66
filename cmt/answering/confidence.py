"""Confidence that the bank holds the answer."""

import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from cmt.bank.lexical import coverage
from cmt.retrieval.selector import Selection

# what ψ's log-odds, the words covered and the selection's lead add to the log-odds that the answer is there, and a
# constant; fitted on held-out articles, three questions in four being taken for answerable
CONFIDENCE_WEIGHTS = (0.36, 3.3, 0.12, -3.95)


def confidence_of(question: str, found: Selection, texts: Sequence[str], begins: Tensor | None) -> float:
    """Probability that a memory holds the answer: logistic in ψ's log-odds of it, the words covered and the lead."""
    if begins is None or not found.rows:
        return max((row["similarity"] for row in found.rows), default=0.0)
    covered = max(coverage(question, text) for text in texts)
    seen = log_odds(float(begins.sum())), covered, found.lead, 1.0
    return 1 / (1 + math.exp(-float(np.dot(CONFIDENCE_WEIGHTS, seen))))


def log_odds(probability: float) -> float:
    probability = min(max(probability, 1e-9), 1 - 1e-9)
    return math.log(probability / (1 - probability))
