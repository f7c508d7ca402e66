"""LoRA adapters around the LM's layers."""

import pytest
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from cmt.errors import ModelError
from cmt.lm.model import FrozenLM, slice_layers, weights_digest
from cmt.modeling.lora import (
    PROSE,
    cast_lora_inputs,
    layers_with_lora,
    merge_lora,
    state_statistics,
)
from tests.helpers.architectures import build as build_architecture
from tests.helpers.lms import KINDS, TinyLm, build, tokenizer

EVERY_KIND = pytest.mark.parametrize("kind", KINDS)


def adapted_layers(lm: FrozenLM, *, trained: bool = True) -> nn.Module:
    """Two layers with adapters of rank 2; `trained` ones have a B that is not zero."""
    torch.manual_seed(3)
    layers = layers_with_lora(lm, 0, 2, 2).eval()
    with torch.no_grad():
        for name, parameter in layers.named_parameters():
            if trained and "lora_B" in name:
                parameter.add_(0.1 * torch.randn(parameter.shape))
    return layers


def run(layers: nn.Module, lm: FrozenLM) -> torch.Tensor:
    with torch.no_grad():
        states: torch.Tensor = layers(
            input_ids=torch.tensor([[lm.bos, *lm.tokenize(PROSE)]])
        ).last_hidden_state
    return states


def test_every_linear_of_the_layers_has_an_adapter(tiny_lm: TinyLm) -> None:
    layers = adapted_layers(tiny_lm("llama"), trained=False)
    down = {name: parameter for name, parameter in layers.named_parameters() if "lora_A" in name}
    up = [parameter for name, parameter in layers.named_parameters() if "lora_B" in name]
    assert len(down) == len(up) == 2 * 7
    assert all(
        parameter.requires_grad == ("lora_" in name)
        for name, parameter in layers.named_parameters()
    )
    assert not any(parameter.any() for parameter in up)
    assert all(parameter.shape[0] == 2 for parameter in down.values())
    deviation = torch.cat([(p * p.shape[1] ** 0.5).flatten() for p in down.values()]).std()
    assert 0.9 < deviation < 1.1  # A ~ N(0, 1/in)


def trained_adapters(layers: nn.Module) -> dict[str, torch.Tensor]:
    return {
        name: parameter.detach() for name, parameter in layers.named_parameters() if "lora_" in name
    }


@EVERY_KIND
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_merged_layers_have_the_weights_that_peft_gives_them(kind: str, dtype: str) -> None:
    lm = build(kind)
    lm.model.to(getattr(torch, dtype))
    digest = weights_digest(lm.model)
    layers = adapted_layers(lm)
    merged = slice_layers(lm, 0, 2).eval()
    before = run(layers, lm) if dtype == "float32" else None
    merge_lora(merged, trained_adapters(layers))
    assert weights_digest(lm.model) == digest
    assert not trained_adapters(merged)
    if before is not None:
        torch.testing.assert_close(run(merged, lm), before, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        for name, module in layers.named_modules():
            if isinstance(module, BaseTunerLayer):
                base = module.get_base_layer()
                base.weight = nn.Parameter(base.weight.detach().clone(), requires_grad=False)
                module.merge()
                weight = merged.get_submodule(name).weight
                assert isinstance(weight, torch.Tensor)
                assert torch.equal(weight, base.weight)


def test_adapters_of_other_layers_are_refused(tiny_lm: TinyLm) -> None:
    lm = tiny_lm("llama")
    adapters = trained_adapters(adapted_layers(lm))
    first, *_ = sorted(adapters)
    missing = {name: tensor for name, tensor in adapters.items() if name != first}
    for wrong in (
        missing,
        adapters | {"layers.7" + first: adapters[first]},
        adapters | {first: torch.ones(3, 5)},
    ):
        with pytest.raises(ModelError, match="do not fit the configuration"):
            merge_lora(slice_layers(lm, 0, 2), wrong)


def test_inputs_are_cast_on_request_only(tiny_lm: TinyLm) -> None:
    layers = adapted_layers(tiny_lm("llama"))
    flags = [
        module.cast_input_dtype_enabled for module in layers.modules() if hasattr(module, "lora_A")
    ]
    assert len(flags) == 2 * 7
    assert not any(flags)
    cast_lora_inputs(layers)
    assert all(
        module.cast_input_dtype_enabled for module in layers.modules() if hasattr(module, "lora_A")
    )


@EVERY_KIND
def test_statistics_are_those_of_the_lms_states(tiny_lm: TinyLm, kind: str) -> None:
    lm = tiny_lm(kind)
    ids = torch.tensor([[lm.bos, *lm.tokenize(PROSE)]])
    with torch.no_grad():
        states = lm.model(ids, output_hidden_states=True).hidden_states[1][0]
        final = lm.backbone(ids).last_hidden_state[0]
    inner = state_statistics(lm, 1, normed=False)
    outer = state_statistics(lm, lm.layers, normed=True)
    torch.testing.assert_close(inner.sink, states[0])
    torch.testing.assert_close(inner.mean, states[1:].mean(0))
    torch.testing.assert_close(inner.spread, states[1:].std(0))
    torch.testing.assert_close(outer.mean, final[1:].mean(0))


@pytest.mark.filterwarnings("ignore:The following:RuntimeWarning")
def test_linears_that_peft_does_not_adapt_are_named_before_a_training() -> None:
    lm = FrozenLM(build_architecture("glm4_moe"), tokenizer(), "digest")
    with pytest.raises(ModelError, match=r"peft does not adapt layers.*Glm4MoeModel"):
        layers_with_lora(lm, 0, 2, 2)
