"""The rule by which a challenger becomes the champion."""

from dataclasses import replace

import pytest

from cmt.common.difference import Difference
from cmt.config import PromotionParams
from cmt.evaluation.challenger_decision import Figures, Measured, decide

OLD = Measured(f1=70.0, base_f1=60.0, first_token_seconds=0.2, bytes_per_document=1000.0)
BETTER = Difference(3.0, 0.1, 6.0)
EQUAL = Difference(0.0, -0.9, 0.9)
UNCERTAIN = Difference(1.0, -2.0, 4.0)
WORSE = Difference(-3.0, -6.0, -0.1)
FIGURES = Figures(
    slice_id="2031-04/0001",
    questions=80,
    base_questions=500,
    challenger=OLD,
    champion=OLD,
    gain=BETTER,
    base_gain=EQUAL,
)


@pytest.mark.parametrize(
    ("gain", "base_gain", "promoted", "reason"),
    [
        (
            BETTER,
            EQUAL,
            True,
            "F1 +3.0 (+0.1 to +6.0) on 2031-04/0001, +0.0 (-0.9 to +0.9) on held-out base articles",
        ),
        (BETTER, UNCERTAIN, False, "a loss above 1 on the base data is not excluded"),
        (BETTER, WORSE, False, "a loss above 1 on the base data is not excluded"),
        (UNCERTAIN, BETTER, False, "neither a gain nor equality on the stream is shown"),
        (WORSE, BETTER, False, "neither a gain nor equality on the stream is shown"),
        (EQUAL, EQUAL, False, "as good, but not 10% smaller or faster"),
    ],
)
def test_a_gain_on_the_stream_promotes_if_nothing_was_unlearned(
    gain: Difference, base_gain: Difference, promoted: bool, reason: str
) -> None:
    decision = decide(replace(FIGURES, gain=gain, base_gain=base_gain), PromotionParams())
    assert (decision.promoted, reason in decision.reason) == (promoted, True)


@pytest.mark.parametrize(
    ("challenger", "said"),
    [
        (replace(OLD, bytes_per_document=800.0), "as good, and 20% smaller"),
        (replace(OLD, first_token_seconds=0.15), "as good, and 25% faster"),
    ],
)
def test_one_that_is_as_good_has_to_be_smaller_or_faster(challenger: Measured, said: str) -> None:
    figures = replace(FIGURES, gain=EQUAL, challenger=challenger)
    assert said in decide(figures, PromotionParams()).reason
    assert decide(figures, PromotionParams()).promoted
    assert not decide(figures, PromotionParams(min_saving=0.3)).promoted
    assert not decide(replace(figures, gain=UNCERTAIN), PromotionParams()).promoted


def test_the_figures_are_tags_of_the_version() -> None:
    tags = FIGURES.to_tags()
    assert tags["cmt.decided_on"] == "2031-04/0001, 80 questions"
    assert (tags["cmt.gain"], tags["cmt.champion.first_token_seconds"]) == (
        "+3.0 (+0.1 to +6.0)",
        "0.2",
    )
