"""Confidence, against its formula written out, and its distance from the threshold."""

import math

import pytest
import torch

from cmt.answering.answerer import Answerer
from cmt.answering.confidence import CONFIDENCE_WEIGHTS, answer_confidence, log_odds, threshold_margin, verdict_of
from cmt.config import SelectionParams
from cmt.retrieval.selector import Selection
from tests.helpers.untrained import NOW

QUESTION = "What does the ferry cost?"
ROWS = [{"similarity": 0.3}, {"similarity": 0.7}]
TEXTS = ["Moss is the mayor.", "The ferry costs six crowns."]


def test_confidence_is_logistic_in_log_odds_coverage_and_lead() -> None:
    begin_probability = torch.tensor([[0.1, 0.2], [0.3, 0.2]])
    confidence = answer_confidence(QUESTION, Selection(ROWS, lead=2.0), TEXTS, begin_probability)
    on_reader, on_coverage, on_lead, constant = CONFIDENCE_WEIGHTS
    covered = 5 / 9  # of the letters of "ferry" and "cost"
    logit = on_reader * math.log(0.8 / 0.2) + on_coverage * covered + on_lead * 2.0 + constant
    assert confidence == pytest.approx(1 / (1 + math.exp(-logit)), rel=1e-6)


def test_confidence_grows_with_each_feature() -> None:
    low, high = torch.full((2, 2), 0.05), torch.full((2, 2), 0.2)
    base = answer_confidence(QUESTION, Selection(ROWS, 1.0), TEXTS[:1], low)
    assert answer_confidence(QUESTION, Selection(ROWS, 1.0), TEXTS[:1], high) > base
    assert answer_confidence(QUESTION, Selection(ROWS, 1.0), TEXTS, low) > base
    assert answer_confidence(QUESTION, Selection(ROWS, 3.0), TEXTS[:1], low) > base


@pytest.mark.parametrize(
    ("confidence", "verdict"), [(0.29, "not_in_memory"), (0.3, "unsure"), (0.69, "unsure"), (0.7, "likely")]
)
def test_a_verdict_goes_by_two_thresholds(confidence: float, verdict: str) -> None:
    assert verdict_of(confidence, SelectionParams(threshold=0.3, likely=0.7)) == verdict


def test_without_token_scores_confidence_is_the_best_cosine() -> None:
    assert answer_confidence(QUESTION, Selection(ROWS), TEXTS, None) == 0.7


def test_without_memories_confidence_is_zero() -> None:
    assert answer_confidence(QUESTION, Selection([]), [], None) == 0.0
    assert answer_confidence(QUESTION, Selection([]), [], torch.zeros(0, 3)) == 0.0


def test_log_odds_are_finite_at_zero_and_one() -> None:
    assert log_odds(0.5) == 0.0
    assert log_odds(0.8) == pytest.approx(math.log(4))
    assert -21 < log_odds(0.0) < -20 < 20 < log_odds(1.0) < 21


def test_the_threshold_margin_is_the_distance_in_log_odds() -> None:
    assert threshold_margin(0.8, 0.5) == pytest.approx(math.log(4))
    assert threshold_margin(0.5, 0.8) == pytest.approx(math.log(4))
    assert threshold_margin(0.5, 0.5) == 0.0


@pytest.mark.parametrize("threshold", [-1.0, 0.0, 1.0])
def test_a_threshold_that_no_confidence_crosses_has_an_infinite_margin(threshold: float) -> None:
    assert threshold_margin(0.5, threshold) == math.inf


def test_the_margin_of_a_cosine_is_scaled_by_the_temperature() -> None:
    assert threshold_margin(0.7, 0.5, temperature=20.0) == pytest.approx(4.0)
    assert threshold_margin(0.7, -1.0, temperature=20.0) == pytest.approx(34.0)


def test_a_question_whose_words_are_in_no_text_has_less_confidence(mayors: Answerer) -> None:
    known, strange = mayors.answer(
        ["What does the ferry to Saltby cost?", "Xx yyy zzz qqqqqq vvv wwww?"], as_of=NOW[:2]
    )
    assert known.confidence > strange.confidence
