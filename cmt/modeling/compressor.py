"""Θ: text → memory vectors M (k, D) and a search key (method §2, first row; the same Θ reads the question).

Θ is the LM's own first layers with LoRA adapters; their output is shifted and scaled to mean 0 and spread 1, for an
LM's states lie far off zero in a few dimensions that would drown the others in a cosine or in eight bits.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmt.config import CompressorParams
from cmt.lm.model import FrozenLM
from cmt.modeling.lora import layers_with_lora, output_statistics


@dataclass(frozen=True)
class Encoding:
    """What Θ makes of a batch of texts."""

    states: Tensor
    """(B, T, D) one state a token; the question's side of ψ."""
    mask: Tensor
    """(B, T) 1 on tokens of the text."""
    vectors: Tensor
    """(B, k, D) the memory: windows of the text, or the memory tokens."""
    vector_mask: Tensor
    """(B, k) 1 on real vectors."""
    pooled: Tensor
    """(B, D) mean of the states."""
    key: Tensor
    """(B, D) unit length; self-matching compares keys."""


class Compressor(nn.Module):
    """Θ. `kind` windows: M = mean of the states over W tokens, k = ⌈n/W⌉; tokens: states at k learned tokens."""

    def __init__(self, lm: FrozenLM, params: CompressorParams) -> None:
        super().__init__()
        self.params = params
        width = lm.hidden_size
        layers = min(params.layers, lm.layers)
        self.encoder = layers_with_lora(lm, 0, layers, params.lora_rank)
        start = output_statistics(lm, layers)
        self.shift, self.scale = nn.Parameter(start.mean), nn.Parameter(1 / start.spread)
        self.to_key = _identity(width)
        if params.kind == "tokens":
            mean = lm.embed(torch.arange(min(1000, lm.model.config.vocab_size), device=lm.device)).float().mean(0).cpu()
            self.memory_tokens = nn.Parameter(mean + 0.02 * torch.randn(params.memory_tokens, width))

    def forward(self, embeds: Tensor, mask: Tensor) -> Encoding:
        """`embeds` (B, T, D) start with the LM's BOS and are padded on the right; `mask` (B, T)."""
        if self.params.kind == "tokens":
            return self._memory_tokens(embeds, mask)
        states, text = self._states(embeds, mask)[:, 1:], mask[:, 1:]  # BOS is no content
        vectors, vector_mask = window_means(states, text, self.params.window)
        return self._code(states, text, vectors, vector_mask)

    def _memory_tokens(self, embeds: Tensor, mask: Tensor) -> Encoding:
        """The learned tokens stand right behind each text, before its padding: the batch must not matter (§6 e)."""
        rows, count = embeds.shape[0], self.params.memory_tokens
        places = mask.sum(1, keepdim=True) + torch.arange(count, device=mask.device)  # (B, k)
        embeds, mask = F.pad(embeds, (0, 0, 0, count)), F.pad(mask, (0, count)).scatter(1, places, 1)
        tokens = self.memory_tokens.to(embeds.dtype).expand(rows, -1, -1)
        embeds = embeds.scatter(1, places[..., None].expand_as(tokens), tokens)
        states = self._states(embeds, mask)
        vectors = states.gather(1, places[..., None].expand(-1, -1, states.shape[-1]))
        text = mask.scatter(1, places, 0)[:, 1:]
        return self._code(states[:, 1:], text, vectors, torch.ones_like(places))

    def _states(self, embeds: Tensor, mask: Tensor) -> Tensor:
        """(B, T, D). Causal attention and padding on the right: no state depends on the padding."""
        out = self.encoder(inputs_embeds=embeds, attention_mask=mask, use_cache=False).last_hidden_state
        states: Tensor = (out.float() - self.shift) * self.scale
        return states

    def _code(self, states: Tensor, mask: Tensor, vectors: Tensor, vector_mask: Tensor) -> Encoding:
        pooled = masked_mean(vectors, vector_mask) if self.params.kind == "tokens" else masked_mean(states, mask)
        return Encoding(states, mask, vectors, vector_mask, pooled, F.normalize(self.to_key(pooled).float(), dim=-1))


def window_means(states: Tensor, mask: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """Mean over windows of tokens: (B, T, D), (B, T) → (B, ⌈T/W⌉, D) and its mask; a short last window counts."""
    short = -states.shape[1] % window
    states, mask = F.pad(states, (0, 0, 0, short)), F.pad(mask, (0, short))
    grouped = torch.unflatten(mask, 1, (-1, window))  # (B, k, W)
    weight = grouped.unsqueeze(-1).to(states.dtype)
    means = (torch.unflatten(states, 1, (-1, window)) * weight).sum(2) / weight.sum(2).clamp(min=1)
    return means, grouped.amax(-1)


def masked_mean(states: Tensor, mask: Tensor) -> Tensor:
    """(B, T, D) → (B, D) over the positions where mask is 1."""
    weight = mask.unsqueeze(-1).to(states.dtype)
    return (states * weight).sum(1) / weight.sum(1).clamp(min=1)


def _identity(width: int) -> nn.Linear:
    linear = nn.Linear(width, width, bias=False)
    nn.init.eye_(linear.weight)
    return linear
