"""LoRA adapters (arXiv 2106.09685) on layers of the LM: new modules around its weights, which do
not change.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from cmt.errors import ModelError
from cmt.lm.model import FrozenLM, slice_layers

LORA_SCALE = 2  # alpha / rank
LORA_SUFFIXES = (
    ".lora_A.default.weight",
    ".lora_B.default.weight",
)  # after a linear's name, as peft names them
# any plain text works: the measurement finds the few dimensions in which an LM's states lie far
# from zero
PROSE = (
    "The ferry left the harbour at seven, an hour after the mayor had opened the new bridge. It "
    "carried 212 "
    "passengers, nine cars and a brass band from Dunmarrow that played until the pilot asked for "
    "silence. In 1974 the "
    "same crossing took two days; the widow Anna Holt, who rowed it first, is said to have "
    "charged a penny and a song."
)


class StateStatistics(NamedTuple):
    """Statistics of the LM's states on a plain text; (D,) each."""

    mean: Tensor
    spread: Tensor  # standard deviation over tokens
    sink: Tensor  # state of the first token, an attention sink (arXiv 2309.17453)


def placeholder_statistics(lm: FrozenLM) -> StateStatistics:
    """Ones, instead of measured statistics, for a checkpoint to overwrite; measuring takes a pass
    of the LM.
    """
    return StateStatistics(*(torch.ones(lm.hidden_size, device=lm.device) for _ in range(3)))


def layers_with_lora(lm: FrozenLM, first: int, count: int, rank: int) -> nn.Module:
    """A decoder of `count` layers of the LM from layer `first` on, with LoRA on every linear: A ~
    N(0, 1/in), B = 0.

    Raises ModelError if peft cannot adapt exactly these linears.
    """
    from peft import LoraConfig, inject_adapter_in_model

    decoder = slice_layers(lm, first, count)
    names = list(_linears(decoder))
    fan_in_fan_out = any(isinstance(module, Conv1D) for module in decoder.modules())
    config = LoraConfig(
        r=rank, lora_alpha=LORA_SCALE * rank, target_modules=names, fan_in_fan_out=fan_in_fan_out
    )
    adapted = inject_adapter_in_model(config, decoder)
    found = {
        name.removesuffix(LORA_SUFFIXES[0])
        for name, _ in adapted.named_parameters()
        if name.endswith(LORA_SUFFIXES[0])
    }
    if wrong := sorted(
        found.symmetric_difference(names)
    ):  # peft changes the names of some mixtures of experts
        raise ModelError(
            f"peft does not adapt {wrong[0]} of {type(lm.backbone).__name__}: use another LM"
        )
    cast_lora_inputs(
        adapted, enabled=False
    )  # autocast chooses the type; peft would cast to float32 in between
    for name, parameter in adapted.named_parameters():
        parameter.requires_grad_("lora_" in name)
        if "lora_A" in name:
            parameter.data = torch.randn(parameter.shape) * parameter.shape[1] ** -0.5
        elif "lora_B" in name:
            parameter.data = parameter.data.float()
    return adapted


def cast_lora_inputs(model: nn.Module, *, enabled: bool = True) -> None:
    """Let the adapters cast their input to float32, for a training without autocast."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            module.cast_input_dtype_enabled = enabled


@torch.no_grad()
def merge_lora(decoder: nn.Module, adapters: dict[str, Tensor]) -> None:
    """Merge trained adapters into copies of a decoder's weights: W + 2·B·A, as peft does.

    Answering then takes one matrix product instead of three and a sum. `adapters` have the names of
    `layers_with_lora`. The LM's own weights stay. Raises ModelError if the adapters do not belong
    to exactly this decoder's linear layers.
    """
    linears = _linears(decoder)
    expected = {name + suffix for name in linears for suffix in LORA_SUFFIXES}
    if wrong := sorted(expected ^ adapters.keys()):
        raise _misfit(wrong[0])
    for name, linear in linears.items():
        down, up = (
            adapters[name + suffix].float() for suffix in LORA_SUFFIXES
        )  # (r, in), (out, r)
        try:
            change = (
                up * LORA_SCALE
            ) @ down  # (out, in); a power of two, so exact on either side of the product
            weight = linear.weight + (
                change.T if isinstance(linear, Conv1D) else change
            )  # float32: `+=` is slower
        except RuntimeError:
            raise _misfit(name) from None
        linear.weight = nn.Parameter(weight.to(linear.weight.dtype), requires_grad=False)


def _linears(decoder: nn.Module) -> dict[str, Any]:
    """The linear layers of `decoder` that have adapters, by their names; a router returns more than
    a product.
    """
    return {
        name: module
        for name, module in decoder.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and "Router" not in type(module).__name__
    }


def _misfit(name: str) -> ModelError:
    return ModelError(
        f"the adapters do not fit the configuration ({name}): train again, or restore config.json"
    )


@torch.no_grad()
def state_statistics(lm: FrozenLM, layers: int, *, normed: bool) -> StateStatistics:
    """Statistics of the states after the LM's first `layers`, and with `normed` after its final
    norm.
    """
    ids = torch.tensor([[lm.bos, *lm.tokenize(PROSE)]], device=lm.device)
    if normed:
        states = slice_layers(lm, 0, layers)(
            input_ids=ids, use_cache=False
        ).last_hidden_state  # (1, 1 + T, D)
    else:
        states = lm.backbone(
            input_ids=ids, output_hidden_states=True, use_cache=False
        ).hidden_states[layers]
    sink, text = states[0, 0].float(), states[0, 1:].float()  # (D,), (T, D)
    return StateStatistics(text.mean(0), text.std(0), sink)
