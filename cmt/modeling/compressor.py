"""Θ: encodes a text as memory vectors and a search key (docs/method.md#compressor); questions go
through the same Θ.

Θ consists of the LM's first layers with LoRA adapters. Their output is shifted and scaled to mean 0
and deviation 1, because a few dimensions with states far from zero would dominate every cosine and
eight-bit scale.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmt.config import CompressorParams
from cmt.lm.model import FrozenLM, slice_layers
from cmt.modeling.lora import layers_with_lora, placeholder_statistics, state_statistics


@dataclass(frozen=True)
class Encoding:
    """Output of Θ for a batch of B texts of T tokens."""

    states: Tensor  # (B, T, D) state of each token; ψ reads the states of a question
    mask: Tensor  # (B, T) 1 on tokens of the text, 0 on padding
    vectors: Tensor  # (B, k, D) the memory: one vector per window or memory token
    vector_mask: Tensor  # (B, k) 1 on vectors, 0 on padding
    pooled: Tensor  # (B, D) mean of the states
    key: Tensor  # (B, p) search key of unit length


class Compressor(nn.Module):
    """Θ. A vector is the mean of the states of W tokens, so k = ⌈n/W⌉."""

    def __init__(
        self,
        lm: FrozenLM,
        params: CompressorParams,
        *,
        key_dim: int | None = None,
        trainable: bool = True,
    ) -> None:
        """`key_dim`: p; None: D. `trainable=False` leaves out what a checkpoint replaces: adapters
        and statistics.
        """
        super().__init__()
        self.params = params
        width = lm.hidden_size
        layers = min(params.layers, lm.layers)
        if trainable:
            self.encoder = layers_with_lora(lm, 0, layers, params.lora_rank)
            statistics = state_statistics(lm, layers, normed=True)
        else:
            self.encoder, statistics = slice_layers(lm, 0, layers), placeholder_statistics(lm)
        self.shift, self.scale = nn.Parameter(statistics.mean), nn.Parameter(1 / statistics.spread)
        self.to_key = nn.Linear(width, key_dim or width, bias=False)
        nn.init.eye_(self.to_key.weight)

    def forward(self, embeds: Tensor, mask: Tensor, window: int | None = None) -> Encoding:
        """Encode `embeds` (B, 1 + T, D) with `mask` (B, 1 + T): BOS, text, padding. `window`: its
        tokens; None: W.
        """
        states, text_mask = self._states(embeds, mask)[:, 1:], mask[:, 1:]  # without BOS
        vectors, vector_mask = window_means(states, text_mask, window or self.params.window)
        pooled = masked_mean(states, text_mask)  # (B, D)
        key = F.normalize(self.to_key(pooled).float(), dim=-1)  # (B, p)
        return Encoding(states, text_mask, vectors, vector_mask, pooled, key)

    def _states(self, embeds: Tensor, mask: Tensor) -> Tensor:
        """States (B, T, D). With causal attention and padding on the right, no state depends on the
        padding.
        """
        out = self.encoder(
            inputs_embeds=embeds, attention_mask=mask, use_cache=False
        ).last_hidden_state
        return (out.float() - self.shift) * self.scale


def window_means(states: Tensor, mask: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """Means (B, ⌈T/W⌉, D) of states (B, T, D) over windows of W tokens, and their mask (B, ⌈T/W⌉).

    Positions where `mask` (B, T) is 0 do not count; the last window may be shorter.
    """
    missing = -states.shape[1] % window
    states, mask = F.pad(states, (0, 0, 0, missing)), F.pad(mask, (0, missing))
    grouped = torch.unflatten(mask, 1, (-1, window))  # (B, k, W)
    weight = grouped.unsqueeze(-1).to(states.dtype)  # (B, k, W, 1)
    means = (torch.unflatten(states, 1, (-1, window)) * weight).sum(2) / weight.sum(2).clamp(
        min=1
    )  # (B, k, D)
    return means, grouped.amax(-1)


def masked_mean(states: Tensor, mask: Tensor) -> Tensor:
    """Mean (B, D) of states (B, T, D) over the positions where `mask` (B, T) is 1."""
    weight = mask.unsqueeze(-1).to(states.dtype)
    return (states * weight).sum(1) / weight.sum(1).clamp(min=1)
