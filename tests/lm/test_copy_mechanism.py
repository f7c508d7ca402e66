"""Copy mechanism: the LM's distribution mixed with the hypothesis that the answer is the quote."""

import pytest
import torch

from cmt.lm.copy_mechanism import CopyHypothesis, mix_with_copies, update_hypotheses
from cmt.lm.decoding import generate
from tests.helpers.lms import TinyLm, with_bos


def test_each_row_is_mixed_with_its_own_hypothesis() -> None:
    lm_probability = torch.tensor([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]])
    mixed = mix_with_copies(lm_probability, [CopyHypothesis([2], 0.4), CopyHypothesis([0, 2], 0.0)])
    torch.testing.assert_close(mixed, torch.tensor([[0.3, 0.3, 0.4], [0.2, 0.3, 0.5]]))
    torch.testing.assert_close(mixed.sum(1), torch.ones(2))


def test_a_token_of_the_quote_that_the_lm_did_not_expect_raises_the_probability() -> None:
    copy = CopyHypothesis([7, 8, 9], 0.5)
    copy.update(7, 0.25)
    assert copy.probability == pytest.approx(0.8)
    assert copy.next_token == 8
    copy.update(8, 1.0)
    assert copy.probability == pytest.approx(0.8)


@pytest.mark.parametrize(("tokens", "token"), [([7, 8], 6), ([7], 7)])
def test_another_token_or_the_end_of_the_quote_sets_the_probability_to_zero(tokens: list[int], token: int) -> None:
    copy = CopyHypothesis(tokens, 1.0)
    copy.update(token, 0.5)
    assert copy.probability == 0.0


def test_each_hypothesis_is_updated_with_the_token_of_its_row() -> None:
    copies = [CopyHypothesis([1, 2], 0.5), CopyHypothesis([1, 2], 0.5)]
    lm_probability = torch.tensor([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25]])
    update_hypotheses(copies, torch.tensor([1, 0]), lm_probability)
    assert copies[0].probability == pytest.approx(0.8)
    assert copies[1].probability == 0.0


def test_a_certain_quote_is_generated_and_an_impossible_one_changes_nothing(tiny_lm: TinyLm) -> None:
    lm = tiny_lm("llama")
    rows = [with_bos(lm, text) for text in ("Who built it?", "What does the ferry cost?")]
    quote = lm.tokenize(" six crowns")
    plain = generate(lm, lm.prompt(rows, left=True), max_new_tokens=6).tokens
    copies = [CopyHypothesis([*quote, lm.eos], 1.0), CopyHypothesis([*quote, lm.eos], 0.0)]
    assert generate(lm, lm.prompt(rows, left=True), max_new_tokens=6, copies=copies).tokens == [quote, plain[1]]
