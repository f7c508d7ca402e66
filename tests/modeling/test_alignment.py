"""π: prefixes and soft tokens fit the LM and start near zero."""

import pytest
import torch

from cmt.modeling.alignment import PrefixAlignment, TextAlignment
from cmt.modeling.compressor import Encoding
from tests.helpers.lms import KINDS, TinyLm

HEADS = {"llama": 2, "qwen2": 2, "gpt2": 4}


def question(rows: int) -> Encoding:
    torch.manual_seed(1)
    states, mask = torch.randn(rows, 4, 32), torch.ones(rows, 4, dtype=torch.long)
    return Encoding(states, mask, states, mask, states.mean(1), states.mean(1))


@pytest.mark.parametrize("kind", KINDS)
def test_a_prefix_has_the_shape_of_the_lms_cache(tiny_lm: TinyLm, kind: str) -> None:
    lm = tiny_lm(kind)
    for keys, values in (TextAlignment(lm, 6).prefix(question(2)), PrefixAlignment(lm)(torch.randn(2, 6, 32))):
        assert keys.shape == values.shape == (3, 2, HEADS[kind], 6, 8)
        assert lm.prompt([[1, 2], [3]], prefix=(keys, values)).whole_mask.shape == (2, 6 + 8)


@pytest.mark.parametrize("published", [False, True])
def test_a_new_prefix_is_near_zero(tiny_lm: TinyLm, published: bool) -> None:
    lm = tiny_lm("llama")
    torch.manual_seed(0)
    prefix = PrefixAlignment(lm)(torch.randn(2, 8, 32)) if published else TextAlignment(lm, 8).prefix(question(2))
    for part in prefix:
        # after RMSNorm the 32 inputs have size one; their weighted sum has this deviation
        assert part.std().item() == pytest.approx(0.004 * 32**0.5, rel=0.2)


def test_keys_and_values_depend_on_layer_and_question(tiny_lm: TinyLm) -> None:
    keys, values = TextAlignment(tiny_lm("llama"), 3).prefix(question(2))
    parts = [part for layer in (*keys, *values) for part in layer]
    assert not any(torch.allclose(a, b) for i, a in enumerate(parts) for b in parts[:i])


def test_soft_tokens_are_embeddings_highlighted_by_their_probability(tiny_lm: TinyLm) -> None:
    alignment = TextAlignment(tiny_lm("llama"), 3)
    embeds, probability = torch.randn(1, 3, 32), torch.tensor([[[0.0, 0.0], [0.25, 0.0], [0.5, 1.0]]])
    torch.testing.assert_close(alignment.soft_tokens(embeds, probability), embeds)  # a new highlight is zero
    with torch.no_grad():
        alignment.highlight[0], alignment.highlight[1] = 2.0, 10.0
    added = alignment.soft_tokens(embeds, probability) - embeds
    torch.testing.assert_close(added, torch.tensor([0.0, 0.5, 11.0]).view(1, 3, 1).expand(1, 3, 32))


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_pass_through_the_frozen_lm(tiny_lm: TinyLm, kind: str) -> None:
    lm = tiny_lm(kind)
    alignment = PrefixAlignment(lm)
    prompt = lm.prompt([[5, 6, 7]], prefix=alignment(torch.randn(1, 4, 32)))
    lm.logits(prompt, torch.tensor([[0, 2]])).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in alignment.parameters())
    assert all(parameter.grad is None for parameter in lm.model.parameters())
