"""ψ: scores the tokens of the selected memories (docs/method.md#aggregation).

`SpanReader` scores every token of every selected memory as the beginning and as the end of the
answer. It has no positions across memories, so their order does not matter (check c of
docs/method.md#checks).
"""

from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cmt.config import AggregatorParams
from cmt.lm.model import FrozenLM, slice_layers
from cmt.lm.prompt import padded_length
from cmt.modeling.checkpoint import position_weights_at
from cmt.modeling.compressor import Encoding
from cmt.modeling.lora import layers_with_lora, placeholder_statistics, state_statistics

PAIRS_PER_BATCH = 16  # pairs of a question and a memory
RECOMPUTED_FROM = 96  # vectors of a memory above which training recomputes its activations
POSITION_GAP = 2  # positions between the question and the memory
POINTER_DIM = 128  # dimension of the product of a window's state and a token's embeddings


class SpanReader(nn.Module):
    """ψ as a reader: scores of each token as beginning and as end of the answer.

    The blocks are the LM's layers above those of Θ, with their own LoRA adapters. They continue
    where Θ stopped, over the question's states and one memory's windows. The question comes first
    and is read causally; windows attend to the question and to all windows of the same memory. The
    output state of a window scores the window as a whole, the positions in it, and its tokens, the
    last by a product with the LM's embeddings of each token and its neighbours. It reads windows of
    any size that is a multiple or a divisor of the trained one.
    """

    def __init__(
        self,
        lm: FrozenLM,
        params: AggregatorParams,
        *,
        first: int,
        window: int,
        trainable: bool = True,
    ) -> None:
        """`trainable=False` leaves out adapters and statistics, which a checkpoint replaces."""
        super().__init__()
        self.dtype, self.embed = lm.model.dtype, lm.embed
        if trainable:
            self.blocks = layers_with_lora(lm, first, params.blocks, params.lora_rank)
            statistics = state_statistics(lm, first, normed=False)
        else:
            self.blocks = slice_layers(lm, first, params.blocks)
            statistics = placeholder_statistics(lm)
        self.sink = nn.Parameter(statistics.sink)
        self.shift, self.scale = nn.Parameter(statistics.mean), nn.Parameter(statistics.spread)
        self.norm = nn.RMSNorm(lm.hidden_size)
        self.out = nn.Linear(lm.hidden_size, 2)
        self.place = nn.Linear(lm.hidden_size, 2 * window, bias=False)
        self.pointer = nn.Linear(lm.hidden_size, 2 * POINTER_DIM, bias=False)
        self.word = nn.Linear(3 * lm.hidden_size, POINTER_DIM, bias=False)
        # all scores are 0 at the start of a training
        for parameter in (self.out.weight, self.out.bias, self.place.weight, self.pointer.weight):
            nn.init.zeros_(parameter)

    def forward(self, question: Encoding, windows: Tensor, mask: Tensor, ids: Tensor) -> Tensor:
        """Scores (B, S, n, 2) of the tokens of S memories a question; −inf on padding.

        `windows` (B, S, k, D) with `mask` (B, S, k); `ids` (B, S, n) are their tokens, n = W·k, −1
        on padding.
        """
        rows, memories, count, _ = windows.shape
        window = ids.shape[2] // count  # W
        windows, mask, ids = (
            windows.flatten(0, 1),
            mask.flatten(0, 1),
            ids.flatten(0, 1),
        )  # B·S pairs first
        # 1. order the pairs by length, without pairs of padding
        lengths = mask.sum(1).tolist()  # (B·S,)
        order = [pair for pair in mask.sum(1).argsort().tolist() if lengths[pair]]
        # 2. score batches of N pairs of one padded width, since a row must not depend on other rows
        groups = [
            list(group)
            for _, group in groupby(order, key=lambda pair: padded_length(lengths[pair]))
        ]
        batches = [
            group[i : i + PAIRS_PER_BATCH]
            for group in groups
            for i in range(0, len(group), PAIRS_PER_BATCH)
        ]
        parts = []
        for batch in batches:
            pairs = torch.tensor(batch, device=windows.device)  # (N,)
            longest = min(count, padded_length(lengths[batch[-1]]))
            tokens = longest * window
            inputs = (
                question.states[pairs // memories],  # (N, T, D)
                question.mask[pairs // memories],  # (N, T)
                windows[pairs, :longest],  # (N, k', D)
                mask[pairs, :longest],  # (N, k')
                ids[pairs, :tokens],  # (N, n')
            )
            if torch.is_grad_enabled() and longest > RECOMPUTED_FROM:
                part = checkpoint(
                    self._score_pairs, *inputs, use_reentrant=False, preserve_rng_state=False
                )
            else:
                part = self._score_pairs(*inputs)
            parts.append(
                F.pad(part, (0, 0, 0, ids.shape[1] - tokens), value=float("-inf"))
            )  # (N, n, 2)
        # 3. restore the order of the pairs
        scores = windows.new_full(
            (*ids.shape, 2), float("-inf"), dtype=torch.float32
        )  # (B·S, n, 2)
        if parts:
            scores = scores.index_put(
                (torch.tensor(order, device=windows.device),), torch.cat(parts)
            )
        return scores.view(rows, memories, -1, 2)

    def _score_pairs(
        self, question: Tensor, question_mask: Tensor, windows: Tensor, mask: Tensor, ids: Tensor
    ) -> Tensor:
        """Scores (N, n, 2) of pairs of a question (N, T, D), (N, T) and a memory (N, k, D), (N, k),
        (N, n).
        """
        # 1. states: the sink, the question, the windows, in the range of the LM's states
        rows, before = len(question), 1 + question.shape[1]
        states = torch.cat([question, windows], 1) * self.scale + self.shift
        states = torch.cat([self.sink.expand(rows, 1, -1), states], 1).to(
            self.dtype
        )  # (N, 1 + T + k, D)
        real = torch.cat([mask.new_ones(rows, 1), question_mask, mask], 1).bool()  # (N, 1 + T + k)
        # 2. positions: a window takes the position of its middle token, counted from the end of the
        #    question
        question_positions = torch.arange(before, device=question.device).expand(rows, -1)
        window = ids.shape[1] // windows.shape[1]  # W
        middles = torch.arange(windows.shape[1], device=question.device) * window + window // 2
        window_positions = middles + question_mask.sum(1, keepdim=True) + 1 + POSITION_GAP
        positions = torch.cat([question_positions, window_positions], 1)  # (N, 1 + T + k)
        # 3. attention: causal for the question, open for the windows; padding attends to itself
        #    only
        size = real.shape[1]
        allowed = torch.ones(size, size, dtype=torch.bool, device=real.device).tril()
        allowed[before:] = True
        allowed = (allowed & real[:, None]) | torch.eye(
            size, dtype=torch.bool, device=real.device
        )  # (N, T', T')
        bias = torch.zeros(allowed.shape, dtype=self.dtype, device=real.device)
        bias = bias.masked_fill(~allowed, torch.finfo(self.dtype).min).unsqueeze(
            1
        )  # (N, 1, T', T')
        # 4. read and score
        read = self.blocks(
            inputs_embeds=states, attention_mask=bias, position_ids=positions, use_cache=False
        )
        read = read.last_hidden_state[:, before:]  # (N, k, D)
        scores = self._score_tokens(self.norm(read.float()), ids).flatten(1, 2)  # (N, n, 2)
        return scores.masked_fill(ids.unsqueeze(-1) < 0, float("-inf"))

    def _score_tokens(self, read: Tensor, ids: Tensor) -> Tensor:
        """Scores (N, k, W, 2) of tokens `ids` (N, n) from the output states `read` (N, k, D) of
        their windows.
        """
        # 1. embeddings of each token and its two neighbours, 0 on padding
        embeds = self.embed(ids.clamp(min=0)).float()  # (N, n, D)
        embeds = F.rms_norm(embeds, embeds.shape[-1:]) * (ids >= 0).unsqueeze(-1)
        previous = F.pad(embeds, (0, 0, 1, 0))[:, :-1]
        following = F.pad(embeds, (0, 0, 0, 1))[:, 1:]
        words = self.word(torch.cat([previous, embeds, following], -1))  # (N, n, P)
        words = torch.unflatten(words, 1, (read.shape[1], -1))  # (N, k, W, P)
        # 2. window + position + token
        pointer = torch.unflatten(self.pointer(read), -1, (POINTER_DIM, 2))  # (N, k, P, 2)
        window = words.shape[2]
        position_weights = position_weights_at(self.place.weight, window)  # (2·W, D)
        positions = torch.unflatten(
            F.linear(read, position_weights), -1, (window, 2)
        )  # (N, k, W, 2)
        return (
            self.out(read).unsqueeze(2) + positions + words @ pointer / POINTER_DIM**0.5
        ).float()
