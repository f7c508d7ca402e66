"""Copy mechanism: the LM's distribution mixed with the hypothesis that the answer is the quote."""

import pytest
import torch

from cmt.lm.copy_mechanism import CopyHypothesis, mix_with_copies, update_hypotheses


def test_each_row_is_mixed_with_its_own_hypothesis() -> None:
    lm_probability = torch.tensor([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]])
    mixed = mix_with_copies(lm_probability, [CopyHypothesis([2], 0.4), CopyHypothesis([0, 2], 0.0)])
    torch.testing.assert_close(mixed, torch.tensor([[0.3, 0.3, 0.4], [0.2, 0.3, 0.5]]))
    torch.testing.assert_close(mixed.sum(1), torch.ones(2))


@pytest.mark.parametrize(
    ("tokens", "token", "lm_probability", "probability"),
    [
        ([1, 2, 3], 1, 0.25, 0.8),  # a token of the quote that the LM did not expect
        ([1, 2, 3], 1, 1.0, 0.5),
        ([1, 2], 0, 0.5, 0.0),  # another token
        ([1], 1, 0.5, 0.0),  # the end of the quote
    ],
)
def test_each_hypothesis_is_updated_with_the_token_of_its_row(
    tokens: list[int], token: int, lm_probability: float, probability: float
) -> None:
    copies = [CopyHypothesis(tokens, 0.5), CopyHypothesis([1, 2], 0.5)]
    update_hypotheses(copies, torch.tensor([token, 1]), torch.full((2, 4), lm_probability))
    assert copies[0].probability == pytest.approx(probability)
    assert copies[1].probability == pytest.approx(0.5 / (0.5 + 0.5 * lm_probability))
    if probability:
        assert copies[0].tokens[copies[0].position] == 2
