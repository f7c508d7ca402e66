"""π: turns the output of ψ into input of the frozen LM (docs/method.md#alignment).

`TextAlignment` highlights the embeddings of the chosen windows and prepends a short key/value
prefix, which teaches the form of an answer.
"""

import torch
from torch import Tensor, nn

from cmt.lm.model import FrozenLM
from cmt.lm.prompt import Prefix
from cmt.modeling.compressor import Encoding

PREFIX_STD = 0.004  # keys and values near zero: training starts at the closed-book answer


class KeyValueMap(nn.Module):
    """RMSNorm and one linear map to the keys and values of all layers."""

    def __init__(self, lm: FrozenLM) -> None:
        super().__init__()
        self.shape = (lm.layers, 2, lm.kv_heads, lm.head_size)
        self.norm = nn.RMSNorm(lm.hidden_size)
        self.out = nn.Linear(lm.hidden_size, 2 * lm.layers * lm.kv_heads * lm.head_size, bias=False)
        nn.init.normal_(self.out.weight, std=PREFIX_STD)

    def forward(self, slots: Tensor) -> Prefix:
        """`slots` (B, P, D) → keys and values (layers, B, kv heads, P, head size)."""
        both = self.out(self.norm(slots)).unflatten(
            -1, self.shape
        )  # (B, P, layers, 2, kv heads, head size)
        keys, values = both.permute(3, 2, 0, 4, 1, 5).unbind()
        return keys, values


class TextAlignment(nn.Module):
    """A prefix from learned slots and the pooled question, and embeddings highlighted by a
    probability.
    """

    def __init__(self, lm: FrozenLM, slots: int) -> None:
        super().__init__()
        self.slots = nn.Parameter(torch.randn(slots, lm.hidden_size))
        self.question = nn.Linear(lm.hidden_size, lm.hidden_size, bias=False)
        nn.init.eye_(self.question.weight)
        self.to_prefix = KeyValueMap(lm)
        self.highlight = nn.Parameter(
            torch.zeros(2, lm.hidden_size)
        )  # of the tokens that begin and end the answer

    def prefix(self, question: Encoding) -> Prefix:
        """Key/value prefix of P = `slots` positions for each question."""
        slots = self.slots + self.question(question.pooled).unsqueeze(1)  # (B, P, D)
        return self.to_prefix(slots)
