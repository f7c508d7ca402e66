"""The mixture of what the LM would write and of the quote."""

from collections.abc import Callable

import pytest
import torch

from cmt.lm.copy_mechanism import CopyHypothesis, mix_with_copies
from cmt.lm.decoding import generate
from cmt.lm.model import FrozenLM
from cmt.modeling.span_decoding import best_answer_span, token_log_probabilities

TinyLm = Callable[[str], FrozenLM]


def test_each_row_is_mixed_with_its_own_copy() -> None:
    alone = torch.tensor([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]])
    whole = mix_with_copies(alone, [CopyHypothesis([2], 0.4), CopyHypothesis([0, 2], 0.0)])
    torch.testing.assert_close(whole, torch.tensor([[0.3, 0.3, 0.4], [0.2, 0.3, 0.5]]))
    torch.testing.assert_close(whole.sum(1), torch.ones(2))


def test_what_the_lm_would_not_have_written_speaks_for_the_quote() -> None:
    copy = CopyHypothesis([7, 8, 9], 0.5)
    copy.update(7, 0.25)
    assert copy.probability == pytest.approx(0.8)
    assert copy.next == 8
    copy.update(8, 1.0)
    assert copy.probability == pytest.approx(0.8)


@pytest.mark.parametrize(("tokens", "said"), [([7, 8], 6), ([7], 7)])
def test_a_quote_that_was_left_or_is_over_is_no_longer_believed(tokens: list[int], said: int) -> None:
    copy = CopyHypothesis(tokens, 1.0)
    copy.update(said, 0.5)
    assert copy.probability == 0.0


def test_a_quote_that_is_surely_right_is_written_and_one_that_is_surely_wrong_changes_nothing(tiny_lm: TinyLm) -> None:
    lm = tiny_lm("llama")
    rows = [[lm.bos, *lm.tokenize(text)] for text in ("Who built it?", "What does the ferry cost?")]
    quote = lm.tokenize(" six crowns")
    alone = generate(lm, lm.prompt(rows, left=True), max_new_tokens=6).tokens
    copies = [CopyHypothesis([*quote, lm.eos], 1.0), CopyHypothesis([*quote, lm.eos], 0.0)]
    assert generate(lm, lm.prompt(rows, left=True), max_new_tokens=6, copies=copies).tokens == [quote, alone[1]]


def test_spans_that_read_alike_are_believed_together() -> None:
    scores = torch.full((1, 1, 6, 2), -9.0)
    scores[0, 0, [1, 4], :] = 5.0
    probability = token_log_probabilities(scores)[0]
    alike, unlike = [[3, 7, 3, 3, 7, 3]], [[3, 7, 3, 3, 8, 3]]
    once = best_answer_span(probability, unlike).probability
    assert best_answer_span(probability, alike).probability == pytest.approx(2 * once, rel=1e-3)
    assert 0.3 < once < 0.5
    scores[0, 0] = -9.0
    assert best_answer_span(token_log_probabilities(scores)[0], alike).probability < 0.01
