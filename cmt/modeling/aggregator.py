"""ψ: the question's code C and the selected memories {M^i} → what matters for the answer (method §2, aggregation).

Two shapes behind one switch. `LayerReader` scores every token of every selected memory, so that the best ones can be
read and quoted; `CrossAttention` is the published M* = ψ(C, {M^i}). Neither has a position code across documents: the
order of the bank must not matter (§6 c).
"""

from collections.abc import Iterator, Sequence
from itertools import groupby, islice

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmt.config import AggregatorParams
from cmt.lm.model import FrozenLM
from cmt.lm.prompt import padded_length
from cmt.modeling.compressor import Encoding
from cmt.modeling.lora import input_statistics, layers_with_lora

PAIRS_PER_BATCH = 16  # pairs of a question and a memory that run together
POSITION_GAP = 2  # positions between a question and the text
POINTER_DIM = 128  # width in which a window's state meets its tokens


class SpanReader(nn.Module):
    """Scores (B, S, n, 2) of the tokens: the answer begins with it, the answer ends with it.

    The blocks are the LM's own layers above those of Θ, with adapters of their own: they go on where Θ stopped, now
    over the question's states and one memory's windows together. The question stands first, as a causal LM has it;
    windows attend to the question and to all windows of their own memory. A window's state scores the window, the
    places in it, and, met with the LM's embeddings of its tokens and their neighbours, the tokens themselves.
    """

    def __init__(self, lm: FrozenLM, params: AggregatorParams, *, first: int, window: int) -> None:
        super().__init__()
        self.window, self.dtype, self.embed = window, lm.model.dtype, lm.embed
        self.blocks = layers_with_lora(lm, first, params.blocks, params.lora_rank)
        below = input_statistics(lm, first)
        self.sink = nn.Parameter(below.sink)
        self.shift, self.scale = nn.Parameter(below.mean), nn.Parameter(below.spread)
        self.norm = nn.RMSNorm(lm.hidden_size)
        self.out = nn.Linear(lm.hidden_size, 2)
        self.place = nn.Linear(lm.hidden_size, 2 * window, bias=False)
        self.pointer = nn.Linear(lm.hidden_size, 2 * POINTER_DIM, bias=False)
        self.word = nn.Linear(3 * lm.hidden_size, POINTER_DIM, bias=False)
        for start_at_zero in (self.out.weight, self.out.bias, self.place.weight, self.pointer.weight):
            nn.init.zeros_(start_at_zero)

    def forward(self, question: Encoding, windows: Tensor, mask: Tensor, ids: Tensor) -> Tensor:
        """Scores (B, S, n, 2) of S memories' tokens, −inf on padding.

        `windows` (B, S, k, D), `mask` (B, S, k), `ids` (B, S, n) of their tokens, n = W·k, −1 on padding.
        """
        rows, memories, count, _ = windows.shape
        windows, mask, ids = windows.flatten(0, 1), mask.flatten(0, 1), ids.flatten(0, 1)
        lengths = mask.sum(1)
        parts, order = [], [pair for pair in lengths.argsort().tolist() if lengths[pair]]
        for group in self._alike(order, lengths.tolist()):
            pairs = torch.tensor(group, device=windows.device)
            longest = min(count, padded_length(int(lengths[pairs[-1]])))
            asked = question.states[pairs // memories], question.mask[pairs // memories]
            tokens = longest * self.window
            part = self._pairs(*asked, windows[pairs, :longest], mask[pairs, :longest], ids[pairs, :tokens])
            parts.append(F.pad(part, (0, 0, 0, ids.shape[1] - tokens), value=float("-inf")))
        scores = windows.new_full((*ids.shape, 2), float("-inf"), dtype=torch.float32)
        if parts:
            scores = scores.index_put((torch.tensor(order, device=windows.device),), torch.cat(parts))
        return scores.view(rows, memories, -1, 2)

    def _alike(self, order: Sequence[int], lengths: Sequence[int]) -> Iterator[Sequence[int]]:
        """At most GROUP pairs, all padded alike: how wide a row is must not depend on the others (`prompt.STEP`)."""
        for _, alike in groupby(order, key=lambda pair: padded_length(lengths[pair])):
            while group := list(islice(alike, PAIRS_PER_BATCH)):
                yield group

    def _pairs(self, asked: Tensor, asked_mask: Tensor, windows: Tensor, mask: Tensor, ids: Tensor) -> Tensor:
        """A question and a memory a row: (N, T, D), (N, T), (N, k, D), (N, k), (N, n) → (N, n, 2)."""
        rows, before = len(asked), 1 + asked.shape[1]
        ahead = torch.arange(before, device=asked.device).expand(rows, -1)
        text = torch.arange(windows.shape[1], device=asked.device) * self.window + self.window // 2
        places = torch.cat([ahead, text + asked_mask.sum(1, keepdim=True) + 1 + POSITION_GAP], 1)
        states = torch.cat([asked, windows], 1) * self.scale + self.shift
        states = torch.cat([self.sink.expand(rows, 1, -1), states], 1).to(self.dtype)
        real = torch.cat([mask.new_ones(rows, 1), asked_mask, mask], 1).bool()
        read = self.blocks(
            inputs_embeds=states, attention_mask=self._open(real, before), position_ids=places, use_cache=False
        ).last_hidden_state[:, before:]
        scores = self._point(self.norm(read.float()), ids).flatten(1, 2)
        return scores.masked_fill(ids.unsqueeze(-1) < 0, float("-inf"))

    def _point(self, read: Tensor, ids: Tensor) -> Tensor:
        """States (N, k, D) of windows and their tokens (N, n) → (N, k, W, 2)."""
        embeds = self.embed(ids.clamp(min=0)).float()
        embeds = F.rms_norm(embeds, embeds.shape[-1:]) * (ids >= 0).unsqueeze(-1)
        around = torch.cat([F.pad(embeds, (0, 0, 1, 0))[:, :-1], embeds, F.pad(embeds, (0, 0, 0, 1))[:, 1:]], -1)
        words = torch.unflatten(self.word(around), 1, (-1, self.window))  # (N, k, W, P)
        pointer = torch.unflatten(self.pointer(read), -1, (POINTER_DIM, 2))
        placed = torch.unflatten(self.place(read), -1, (self.window, 2))
        scores: Tensor = self.out(read).unsqueeze(2) + placed + words @ pointer / POINTER_DIM**0.5
        return scores.float()

    def _open(self, real: Tensor, before: int) -> Tensor:
        """(N, 1, T, T) to add to attention scores: the question is read as the LM reads, windows see everything."""
        size = real.shape[1]
        open_ = torch.ones(size, size, dtype=torch.bool, device=real.device).tril()
        open_[before:] = True
        shut = ~(open_ & real[:, None, :]).unsqueeze(1)
        return torch.zeros(shut.shape, dtype=self.dtype, device=real.device).masked_fill(
            shut & ~torch.eye(size, dtype=torch.bool, device=real.device), torch.finfo(self.dtype).min
        )


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

    def forward(self, question: Encoding, memories: Tensor, mask: Tensor) -> Tensor:
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
