"""ψ: the question's code C and the selected memories {M^i} → what matters for the answer (method §2, aggregation).

Two shapes behind one switch. `WindowReader` scores every window of every selected memory, so that the best ones can be
read; `CrossAttention` is the published M* = ψ(C, {M^i}). Neither has a position code across documents: the order of the
bank must not matter (§6 c).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmt.config import AggregatorParams
from cmt.memory.compressor import Code

SCORE_WIDTH = 128
SCORE_SCALE = 4.0
POSITIONS = 512  # windows of one memory that have a position of their own; later ones share the last


class WindowReader(nn.Module):
    """Scores (B, S, k) of the windows: a dot product with the question plus a small reader that starts at zero."""

    def __init__(self, dim: int, params: AggregatorParams) -> None:
        super().__init__()
        self.question_score = nn.Linear(dim, SCORE_WIDTH, bias=False)
        self.window_score = nn.Linear(dim, SCORE_WIDTH, bias=False)
        self.question_in = nn.Linear(dim, params.width)
        self.window_in = nn.Linear(dim, params.width)
        self.position = nn.Parameter(torch.randn(POSITIONS, params.width) * 0.02)
        self.blocks = nn.ModuleList(ReaderBlock(params.width, params.heads) for _ in range(params.blocks))
        self.norm = nn.LayerNorm(params.width)
        self.out = nn.Linear(params.width, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, question: Code, windows: Tensor, mask: Tensor) -> Tensor:
        """`windows` (B, S, k, D) of S memories, `mask` (B, S, k) → scores (B, S, k), −inf on padding."""
        rows, memories, count, _ = windows.shape
        dot = torch.einsum("bd,bskd->bsk", self.question_score(question.pooled), self.window_score(windows))
        # one memory at a time: windows of different documents do not see each other
        place = torch.arange(count, device=windows.device).clamp(max=POSITIONS - 1)
        x = (self.window_in(windows) + self.position[place]).flatten(0, 1)  # (B·S, k, width)
        asked = self.question_in(question.states).repeat_interleave(memories, 0)
        asked_mask = question.mask.repeat_interleave(memories, 0).bool()
        for block in self.blocks:
            x = block(x, asked, asked_mask, mask.flatten(0, 1).bool())
        read = self.out(self.norm(x)).view(rows, memories, count)
        scores = dot * (SCORE_SCALE / SCORE_WIDTH**0.5) + read
        real: Tensor = scores.float().masked_fill(~mask.bool(), float("-inf"))
        return real


class ReaderBlock(nn.Module):
    """Pre-norm: windows attend to the question, then to each other, then a feed-forward."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ask, self.look = Attention(width, heads), Attention(width, heads)
        self.feed = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))

    def forward(self, x: Tensor, asked: Tensor, asked_mask: Tensor, mask: Tensor) -> Tensor:
        """`x` (N, k, width), `asked` (N, T, width) → (N, k, width)."""
        x = x + self.ask(self.norms[0](x), asked, asked_mask)
        normed = self.norms[1](x)
        x = x + self.look(normed, normed, mask)
        fed: Tensor = x + self.feed(self.norms[2](x))
        return fed


class Attention(nn.Module):
    """Multi-head attention of `x` (N, Q, width) over `memory` (N, K, width) with `mask` (N, K)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.query(x), self.key(memory), self.value(memory))
        )
        # a memory that is all padding attends everywhere; its result is masked out later
        open_mask = mask | ~mask.any(-1, keepdim=True)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=open_mask[:, None, None])
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out


class CrossAttention(nn.Module):
    """Published ψ: M* = ψ(C, {M^i}) (B, k, D); Q = C, K and V = all vectors of the selected memories."""

    def __init__(self, dim: int, params: AggregatorParams) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(CrossBlock(dim, params.heads) for _ in range(params.blocks))
        self.norm = nn.LayerNorm(dim)

    def forward(self, question: Code, memories: Tensor, mask: Tensor) -> Tensor:
        """`memories` (B, S, k, D), `mask` (B, S, k) → M* (B, k_C, D)."""
        x, flat, flat_mask = question.vectors, memories.flatten(1, 2), mask.flatten(1, 2).bool()
        for block in self.blocks:
            x = block(x, flat, flat_mask)
        aggregated: Tensor = self.norm(x)
        return aggregated


class CrossBlock(nn.Module):
    """Pre-norm cross-attention and feed-forward."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attend = Attention(width, heads)
        self.feed = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        """`x` (B, k, width), `memory` (B, N, width), `mask` (B, N) → (B, k, width)."""
        x = x + self.attend(self.norms[0](x), self.norms[1](memory), mask)
        fed: Tensor = x + self.feed(self.norms[2](x))
        return fed
