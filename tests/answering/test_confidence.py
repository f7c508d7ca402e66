"""Confidence, against its formula written out, and its distance from the threshold."""

import math

import pytest
import torch

from cmt.answering.confidence import (
    CONSTANT,
    MISSING_NAME,
    WEIGHTS,
    Evidence,
    confidence_of,
    evidence,
    log_odds,
    threshold_margin,
    verdict_of,
)
from cmt.config import SelectionParams
from cmt.modeling.span_decoding import AnswerSpan, TokenSpan
from cmt.text.question_names import NO_NAMES, NamesFound

QUESTION = "What does the ferry to Saltby cost?"
TEXTS = ["Moss is the mayor.", "The ferry costs six crowns."]


def quote(memory: int) -> AnswerSpan:
    return AnswerSpan(TokenSpan(memory, 0, 1), [1, 2], probability=0.3, agreement=0.5, margin=1.0)


def test_the_evidence_is_that_of_the_quoted_memory() -> None:
    begin_probability = torch.tensor([[0.1, 0.2], [0.3, 0.2]])
    found = evidence(QUESTION, TEXTS, begin_probability, quote(1))
    assert found.reader == pytest.approx(math.log(0.8 / 0.2), rel=1e-5)
    assert found.agreement == pytest.approx(0.0)
    assert found.coverage == pytest.approx(
        5 / 15
    )  # "ferry" of the letters of "ferry", "saltby" and "cost"
    assert found.names == 0.0
    other = evidence(QUESTION, TEXTS, begin_probability, quote(0))
    assert (other.coverage, other.names) == (0.0, 0.0)
    assert evidence("Who is it?", TEXTS, begin_probability, quote(0)).names == 1.0


def test_the_confidence_grows_with_each_piece_of_evidence() -> None:
    base = Evidence(reader=1.0, agreement=0.0, coverage=0.5, names=0.5)
    low = confidence_of(base)
    assert low == pytest.approx(
        1 / (1 + math.exp(-sum(map(math.prod, zip(WEIGHTS, base, strict=True))) - CONSTANT))
    )
    for name in Evidence._fields:
        assert low < confidence_of(base._replace(**{name: getattr(base, name) + 0.1})) < 1


@pytest.mark.parametrize(
    ("confidence", "calibrated", "verdict"),
    [
        (0.29, 0.9, "not_in_memory"),
        (0.3, 0.1, "unsure"),
        (0.9, 0.69, "unsure"),
        (0.3, 0.7, "likely"),
    ],
)
def test_an_answer_is_refused_before_calibration_and_likely_after_it(
    confidence: float, calibrated: float, verdict: str
) -> None:
    selection = SelectionParams(abstain_below=0.3, likely_from=0.7)
    assert verdict_of(confidence, calibrated, selection, NO_NAMES) == verdict


def test_an_answer_is_refused_without_all_names_and_unsure_without_some() -> None:
    selection = SelectionParams(abstain_below=0.3, likely_from=0.7)
    verdicts = {
        NamesFound(("Port Ellery",), (), ()): "likely",
        NamesFound(("Port Ellery",), ("Osay",), ()): "unsure",
        NamesFound(("Port Ellery",), (), ("1987",)): "unsure",
        NamesFound((), ("Osay",), ("1987",)): "unsure",
        NamesFound((), (), ("Paris", "1987")): "not_in_memory",
    }
    assert {names: verdict_of(0.9, 0.9, selection, names) for names in verdicts} == verdicts
    never = SelectionParams(abstain_below=-1.0)
    assert verdict_of(0.9, 0.9, never, NamesFound((), (), ("Paris",))) == "unsure"


def test_a_missing_name_lowers_the_confidence() -> None:
    found = Evidence(reader=3.0, agreement=3.0, coverage=1.0, names=1.0)
    complete = confidence_of(found)
    assert confidence_of(found, NamesFound((), ("Osay",), ())) == complete
    lower = confidence_of(found, NamesFound(("Osei",), (), ("Paris",)))
    assert log_odds(complete) - log_odds(lower) == pytest.approx(MISSING_NAME)


def test_the_threshold_margin_is_the_distance_in_log_odds() -> None:
    assert -21 < log_odds(0.0) < -20 < log_odds(0.5) == 0.0 < 20 < log_odds(1.0) < 21
    assert threshold_margin(0.8, 0.5) == threshold_margin(0.5, 0.8) == pytest.approx(math.log(4))
    assert threshold_margin(0.5, 0.5) == 0.0
    for uncrossed in (-1.0, 0.0, 1.0):
        assert threshold_margin(0.5, uncrossed) == math.inf
    # that of a cosine is scaled by the temperature
    assert threshold_margin(0.7, 0.5, temperature=20.0) == pytest.approx(4.0)
    assert threshold_margin(0.7, -1.0, temperature=20.0) == pytest.approx(34.0)
