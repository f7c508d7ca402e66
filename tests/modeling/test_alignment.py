"""π: prefixes start near zero and depend on the question."""

import pytest
import torch

from cmt.modeling._alignment import TextAlignment
from cmt.modeling.compressor import Encoding
from cmt.modeling.published import PrefixAlignment
from tests.helpers.lms import TinyLm


def question() -> Encoding:
    torch.manual_seed(1)
    states, mask = torch.randn(2, 4, 32), torch.ones(2, 4, dtype=torch.long)
    return Encoding(states, mask, states, mask, states.mean(1), states.mean(1))


@pytest.mark.parametrize("published", [False, True])
def test_a_new_prefix_is_near_zero(tiny_lm: TinyLm, published: bool) -> None:
    lm = tiny_lm("llama")
    torch.manual_seed(0)
    prefix = (
        PrefixAlignment(lm)(torch.randn(2, 8, 32))
        if published
        else TextAlignment(lm, 8).prefix(question())
    )
    for part in prefix:
        # after RMSNorm the 32 inputs have size one; their weighted sum has this deviation
        assert part.std().item() == pytest.approx(0.004 * 32**0.5, rel=0.2)


def test_keys_and_values_depend_on_layer_and_question(tiny_lm: TinyLm) -> None:
    keys, values = TextAlignment(tiny_lm("llama"), 3).prefix(question())
    parts = [part for layer in (*keys, *values) for part in layer]
    assert not any(torch.allclose(a, b) for i, a in enumerate(parts) for b in parts[:i])
