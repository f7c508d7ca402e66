"""π: from memories to what the frozen LM attends to (method §2, alignment).

`TextAlignment` gives the LM the chosen windows in its own embeddings, lit up by their probability, behind a short
key/value prefix that carries the form of an answer. `PrefixAlignment` is the published (K_l, V_l) = π(M*).
"""

import torch
from torch import Tensor, nn

from cmt.lm.model import FrozenLM
from cmt.lm.prompt import Prefix
from cmt.modeling.compressor import Encoding

PREFIX_STD = 0.004  # values near zero: training starts at the closed-book answer (method §7)


class KeyValueMap(nn.Module):
    """(B, P, D) → keys and values (layers, B, kv heads, P, head size): RMSNorm and one linear for all layers."""

    def __init__(self, lm: FrozenLM) -> None:
        super().__init__()
        self.shape = (lm.layers, 2, lm.kv_heads, lm.head_size)
        self.norm = nn.RMSNorm(lm.hidden_size)
        self.out = nn.Linear(lm.hidden_size, 2 * lm.layers * lm.kv_heads * lm.head_size, bias=False)
        nn.init.normal_(self.out.weight, std=PREFIX_STD)

    def forward(self, slots: Tensor) -> Prefix:
        both = self.out(self.norm(slots)).unflatten(-1, self.shape)  # (B, P, layers, 2, heads, size)
        keys, values = both.permute(3, 2, 0, 4, 1, 5).unbind()
        return keys, values


class TextAlignment(nn.Module):
    """Prefix from learned slots and the pooled question; soft tokens = embeddings + probability · highlight."""

    def __init__(self, lm: FrozenLM, slots: int) -> None:
        super().__init__()
        self.slots = nn.Parameter(torch.randn(slots, lm.hidden_size))
        self.question = nn.Linear(lm.hidden_size, lm.hidden_size, bias=False)
        nn.init.eye_(self.question.weight)
        self.to_prefix = KeyValueMap(lm)
        self.highlight = nn.Parameter(torch.zeros(2, lm.hidden_size))

    def prefix(self, question: Encoding) -> Prefix:
        """The key/value prefix of `slots` positions for each question."""
        prefix: Prefix = self.to_prefix(self.slots + self.question(question.pooled).unsqueeze(1))
        return prefix

    def soft_tokens(self, embeds: Tensor, probability: Tensor) -> Tensor:
        """`embeds` (B, T, D) of the text → (B, T, D), lit where the answer begins and where it ends.

        `probability` (B, T, 2) is that of each token's window, 0 outside.
        """
        return embeds.float() + probability @ self.highlight


class PrefixAlignment(nn.Module):
    """Published π: M* (B, k, D) → a key/value prefix of k positions in every layer; a shared trunk, then one map."""

    def __init__(self, lm: FrozenLM) -> None:
        super().__init__()
        width = lm.hidden_size
        feed = nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        self.trunk = nn.Sequential(nn.RMSNorm(width), *feed)
        self.to_prefix = KeyValueMap(lm)

    def forward(self, aggregated: Tensor) -> Prefix:
        prefix: Prefix = self.to_prefix(aggregated + self.trunk(aggregated))
        return prefix
