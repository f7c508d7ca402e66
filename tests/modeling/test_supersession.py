"""What news say anew, and what the document that they supersede said already."""

import math

import pytest
import torch
from torch import Tensor

from cmt.modeling.span_decoding import best_answer_span, token_log_probabilities
from cmt.modeling.supersession import MAX_DISCOUNT, discount_superseded

NEWS = [
    "The",
    " rate",
    " falls",
    " to",
    " ",
    "3",
    ".",
    "5",
    " percent",
    " after",
    " ",
    "3",
    ".",
    "7",
    "5",
    " percent",
    ".",
]
BEFORE = ["The", " rate", " is", " now", " 3", ".", "75", " percent", "."]
NEW, OLD = (5, 8), (11, 15)  # first and last token of the values


def favouring(*spans: tuple[int, int], by: float = 6.0) -> Tensor:
    scores = torch.full((len(NEWS), 2), -6.0)
    for first, last in spans:
        scores[first, 0] += by
        scores[last, 1] += by
    return scores


def quoted(scores: Tensor) -> str:
    quote = best_answer_span(token_log_probabilities(scores[None, None])[0], [list(range(len(scores)))])
    return "".join(NEWS[token] for token in quote.tokens).strip()


def test_of_two_values_the_one_is_read_that_was_not_there_before() -> None:
    scores = favouring(NEW, OLD)
    scores[OLD[0], 0] += MAX_DISCOUNT / 4  # the old one a little ahead
    assert quoted(scores) == "3.75 percent"
    assert quoted(discount_superseded(scores, NEWS, BEFORE)) == "3.5 percent"


def test_what_is_far_ahead_stays_ahead_though_it_is_not_new() -> None:
    scores = favouring(NEW, OLD)
    scores[OLD[0], 0] += MAX_DISCOUNT + 1
    assert quoted(discount_superseded(scores, NEWS, BEFORE)) == "3.75 percent"


def test_that_the_news_hold_the_answer_becomes_neither_more_nor_less_likely() -> None:
    scores = torch.randn(len(NEWS), 2, generator=torch.Generator().manual_seed(3)) * 4
    changed = discount_superseded(scores, NEWS, BEFORE)
    assert not torch.allclose(changed, scores, atol=0.1)
    torch.testing.assert_close(changed.logsumexp(0), scores.logsumexp(0))


@pytest.mark.parametrize("before", [["Nothing", " alike"], ["!"]])
def test_beside_a_document_without_a_common_word_nothing_changes(before: list[str]) -> None:
    scores = favouring(NEW, OLD)
    torch.testing.assert_close(discount_superseded(scores, NEWS, before), scores)


def test_news_that_say_nothing_new_are_read_as_they_are() -> None:
    pieces = ["The", " ferry", " costs", " six", " crowns"]
    scores = torch.randn(5, 2, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(discount_superseded(scores, pieces, [piece.upper() for piece in pieces]), scores)


def test_a_stretch_loses_by_the_share_of_its_words_that_were_said() -> None:
    pieces, before = [" two", " August", "."], [" fourteen", " august"]
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
    torch.testing.assert_close(discount_superseded(scores, pieces, before), expected)


def test_a_word_in_several_pieces_is_one_word() -> None:
    pieces, before = [" Har", "bour", " of", " Ell", "ery"], [" Ell", "en", " of", " har", "bour"]
    change = discount_superseded(torch.zeros(5, 2), pieces, before)
    assert change[3, 0] > change[0, 0]
    assert change[4, 1] > change[1, 1]
    assert change[3, 0] > change[2, 0]
