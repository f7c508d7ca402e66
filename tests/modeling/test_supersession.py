"""Discount of answer spans whose words are in the superseded document."""

import math
import re

import pytest
import torch
from torch import Tensor

from cmt.modeling._supersession import MAX_DISCOUNT, discount_superseded, leave_out_value
from cmt.modeling.span_decoding import QuoteLimits, best_answer_span, token_log_probabilities

UPDATE = re.findall(r" ?[a-zA-Z]+| |\d|\.", "The rate falls to 3.5 percent after 3.75 percent.")
SUPERSEDED = ["The", " rate", " is", " now", " 3", ".", "75", " percent", "."]
NEW, OLD = (5, 8), (11, 15)  # first and last token of the values


def scores_favouring(*spans: tuple[int, int], by: float = 6.0) -> Tensor:
    """Scores (n, 2) with which `spans` are the likeliest."""
    scores = torch.full((len(UPDATE), 2), -6.0)
    for first, last in spans:
        scores[first, 0] += by
        scores[last, 1] += by
    return scores


def quote_text(scores: Tensor) -> str:
    """Text of the likeliest span."""
    limits = [QuoteLimits.of(UPDATE, "")]
    quote = best_answer_span(
        token_log_probabilities(scores[None, None])[0], [list(range(len(scores)))], limits
    )
    return "".join(UPDATE[token] for token in quote.tokens).strip()


def test_of_two_values_the_new_one_is_preferred() -> None:
    scores = scores_favouring(NEW, OLD)
    scores[OLD[0], 0] += MAX_DISCOUNT / 4  # the old value is a little ahead
    assert quote_text(scores) == "3.75 percent"
    assert quote_text(discount_superseded(scores, UPDATE, SUPERSEDED)) == "3.5 percent"


def test_an_old_value_that_is_far_ahead_stays_ahead() -> None:
    scores = scores_favouring(NEW, OLD)
    scores[OLD[0], 0] += MAX_DISCOUNT + 1
    assert quote_text(discount_superseded(scores, UPDATE, SUPERSEDED)) == "3.75 percent"


def test_the_log_sum_of_the_scores_stays() -> None:
    scores = torch.randn(len(UPDATE), 2, generator=torch.Generator().manual_seed(3)) * 4
    changed = discount_superseded(scores, UPDATE, SUPERSEDED)
    assert not torch.allclose(changed, scores, atol=0.1)
    torch.testing.assert_close(changed.logsumexp(0), scores.logsumexp(0))


@pytest.mark.parametrize(
    "superseded", [["Nothing", " alike"], ["!"], ["THE", " FERRY", " COSTS", " SIX", " CROWNS"]]
)
def test_without_a_common_word_or_without_a_new_one_nothing_changes(superseded: list[str]) -> None:
    tokens = ["The", " ferry", " costs", " six", " crowns"]
    scores = torch.randn(5, 2, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(discount_superseded(scores, tokens, superseded), scores)


def test_a_span_is_discounted_by_its_share_of_old_words() -> None:
    tokens, superseded = [" two", " August", "."], [" fourteen", " august"]
    scores = torch.tensor([[0.3, -1.0], [0.1, 0.8], [-2.0, -0.4]])
    joint = {(i, j): scores[i, 0] + scores[j, 1] for i in range(3) for j in range(i, 3)}
    share = {(0, 0): 0.0, (0, 1): 0.5, (0, 2): 0.5, (1, 1): 1.0, (1, 2): 1.0, (2, 2): 0.0}
    lowered = {span: value - MAX_DISCOUNT * share[span] for span, value in joint.items()}

    def total(of: dict[tuple[int, int], Tensor], side: int, token: int) -> float:
        return math.log(sum(math.exp(value) for span, value in of.items() if span[side] == token))

    expected = scores.clone()
    for side in (0, 1):
        for token in range(3):
            expected[token, side] += total(lowered, side, token) - total(joint, side, token)
    expected += scores.logsumexp(0) - expected.logsumexp(0)
    torch.testing.assert_close(discount_superseded(scores, tokens, superseded), expected)


def test_a_word_of_several_tokens_is_one_word() -> None:
    tokens = [" Har", "bour", " of", " Ell", "ery"]
    superseded = [" Ell", "en", " of", " har", "bour"]
    change = discount_superseded(torch.zeros(5, 2), tokens, superseded)
    assert change[3, 0] > change[0, 0]
    assert change[4, 1] > change[1, 1]
    assert change[3, 0] > change[2, 0]


def test_a_letter_that_is_longer_in_lower_case_moves_no_word() -> None:
    changes = [
        discount_superseded(torch.zeros(3, 2), [name, " has", " 4"], [" has"])
        for name in ("İzmir", "Izmir")
    ]
    torch.testing.assert_close(changes[0], changes[1])


def test_a_value_is_left_out_and_the_text_answers_as_surely_as_before() -> None:
    scores = scores_favouring(NEW, OLD)
    scores[OLD[0], 0] += 4 * MAX_DISCOUNT  # far ahead
    left = leave_out_value(scores, UPDATE, "3.75 Percent")
    assert quote_text(left) == "3.5 percent"
    torch.testing.assert_close(left.logsumexp(0), scores.logsumexp(0))


@pytest.mark.parametrize("value", ["", "3.7", "".join(UPDATE)])
def test_without_the_whole_value_or_with_nothing_else_all_stays(value: str) -> None:
    scores = scores_favouring(NEW, OLD)
    torch.testing.assert_close(leave_out_value(scores, UPDATE, value), scores)
