"""Layers of the LM with LoRA adapters, on their own modules around the same weight tensors: the LM never sees them."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cmt.lm.model import FrozenLM, slice_layers

LORA_SCALE = 2  # alpha / rank
# any plain prose; what is measured on it are the few dimensions in which an LM's states lie far from zero
PROSE = (
    "The ferry left the harbour at seven, an hour after the mayor had opened the new bridge. It carried 212 "
    "passengers, nine cars and a brass band from Dunmarrow that played until the pilot asked for silence. In 1974 the "
    "same crossing took two days; the widow Anna Holt, who rowed it first, is said to have charged a penny and a song."
)


@dataclass(frozen=True)
class StateStatistics:
    """What states (T, D) look like; all (D,)."""

    mean: Tensor
    spread: Tensor
    """Standard deviation over tokens."""
    sink: Tensor
    """State of the beginning of a text, on which attention rests that has nothing better to do."""


def layers_with_lora(lm: FrozenLM, first: int, count: int, rank: int) -> nn.Module:
    """Layers `first` … `first + count` of the LM with LoRA on every linear: A ~ N(0, 1/in), B = 0."""
    from peft import LoraConfig, inject_adapter_in_model
    from transformers.pytorch_utils import Conv1D

    decoder = slice_layers(lm, first, count)
    names = [name for name, module in decoder.named_modules() if isinstance(module, nn.Linear | Conv1D)]
    fan_in_fan_out = any(isinstance(module, Conv1D) for module in decoder.modules())
    config = LoraConfig(r=rank, lora_alpha=LORA_SCALE * rank, target_modules=names, fan_in_fan_out=fan_in_fan_out)
    adapted: nn.Module = inject_adapter_in_model(config, decoder)
    _cast_inputs(adapted, False)  # autocast chooses the type; peft would go through float32
    for name, parameter in adapted.named_parameters():
        parameter.requires_grad_("lora_" in name)
        if "lora_A" in name:
            parameter.data = torch.randn(parameter.shape) * parameter.shape[1] ** -0.5
        elif "lora_B" in name:
            parameter.data = parameter.data.float()
    return adapted


def cast_lora_inputs(model: nn.Module) -> None:
    """Let adapters cast what they read to float32 by themselves, for a training without bfloat16 products."""
    _cast_inputs(model, True)


def _cast_inputs(model: nn.Module, enabled: bool) -> None:
    from peft.tuners.tuners_utils import BaseTunerLayer

    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            module.cast_input_dtype_enabled = enabled


@torch.no_grad()
def merge_lora(model: nn.Module) -> None:
    """Add every adapter to a copy of the weight beside it: one product where there were three and a sum.

    For answering; there is nothing left to train or to save. The LM keeps its own weights.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    adapted = [(name, module) for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)]
    for name, module in adapted:
        plain = module.get_base_layer()
        plain.weight = nn.Parameter(plain.weight.detach().clone(), requires_grad=False)
        module.merge()
        model.set_submodule(name, plain)


@torch.no_grad()
def input_statistics(lm: FrozenLM, layer: int) -> StateStatistics:
    """Of the plain LM's states on their way into `layer`, before any norm."""
    ids = torch.tensor([[lm.bos, *lm.tokenize(PROSE)]], device=lm.device)
    return _statistics(lm.backbone(input_ids=ids, output_hidden_states=True, use_cache=False).hidden_states[layer])


@torch.no_grad()
def output_statistics(lm: FrozenLM, layers: int) -> StateStatistics:
    """Of what the plain LM's first `layers` make of the same text, after its final norm."""
    ids = torch.tensor([[lm.bos, *lm.tokenize(PROSE)]], device=lm.device)
    return _statistics(slice_layers(lm, 0, layers)(input_ids=ids, use_cache=False).last_hidden_state)


def _statistics(states: Tensor) -> StateStatistics:
    sink, text = states[0, 0].float(), states[0, 1:].float()
    return StateStatistics(text.mean(0), text.std(0), sink)
