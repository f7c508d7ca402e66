"""The published ψ, π and Θ, and the LM without ψ, for comparison with the trained reader.

`AttentionModel` is CMT (arXiv 2412.07393): M* = ψ(C, {M^i}), with C the question's vectors, and
(K_l, V_l) = π(M*). Its Θ may be that of MAC (arXiv 2403.04317). `WholeTextModel` reads the whole
memories behind a trained prefix. Neither scores a token. ψ has no positions across memories, so
their order does not matter (check c of docs/method.md#checks).
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmt.config import AggregatorParams, CompressorParams, SelectionParams
from cmt.lm.model import FrozenLM
from cmt.lm.prompt import Prefix, Prompt, pad
from cmt.modeling._alignment import KeyValueMap, PromptBuilder, TextAlignment
from cmt.modeling.compressor import Compressor, Encoding, masked_mean
from cmt.modeling.model import MemoryModel, ReaderOutput
from cmt.modeling.span_decoding import whole_memory_spans
from cmt.modeling.token_scores import RetrievedMemory, TokenScores


class TokenCompressor(Compressor):
    """Θ of MAC: the vectors are the states at k learned tokens after the text."""

    def __init__(
        self,
        lm: FrozenLM,
        params: CompressorParams,
        *,
        key_dim: int | None = None,
        trainable: bool = True,
    ) -> None:
        super().__init__(lm, params, key_dim=key_dim, trainable=trainable)
        ids = torch.arange(min(1000, lm.model.config.vocab_size), device=lm.device)
        mean = lm.embed(ids).float().mean(0).cpu()
        self.memory_tokens = nn.Parameter(
            mean + 0.02 * torch.randn(params.memory_tokens, lm.hidden_size)
        )

    def forward(self, embeds: Tensor, mask: Tensor, window: int | None = None) -> Encoding:
        """As `Compressor.forward`; there are no windows."""
        states, text_mask, vectors, vector_mask = self._memory_tokens(embeds, mask)
        pooled = masked_mean(vectors, vector_mask)  # (B, D)
        key = F.normalize(self.to_key(pooled).float(), dim=-1)  # (B, p)
        return Encoding(states, text_mask, vectors, vector_mask, pooled, key)

    def _memory_tokens(self, embeds: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """States and mask of the text, and of the k memory tokens."""
        rows, count = embeds.shape[0], self.params.memory_tokens
        # directly behind each text, before its padding, so that no memory depends on its batch
        # (method.md, check e)
        positions = mask.sum(1, keepdim=True) + torch.arange(count, device=mask.device)  # (B, k)
        embeds = F.pad(embeds, (0, 0, 0, count))
        mask = F.pad(mask, (0, count)).scatter(1, positions, 1)
        tokens = self.memory_tokens.to(embeds.dtype).expand(rows, -1, -1)  # (B, k, D)
        embeds = embeds.scatter(
            1, positions[..., None].expand_as(tokens), tokens
        )  # (B, 1 + T + k, D)
        states = self._states(embeds, mask)
        vectors = states.gather(
            1, positions[..., None].expand(-1, -1, states.shape[-1])
        )  # (B, k, D)
        text_mask = mask.scatter(1, positions, 0)[:, 1:]
        return states[:, 1:], text_mask, vectors, torch.ones_like(positions)


class Attention(nn.Module):
    """Multi-head attention (Q = queries, K and V = memory)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        """`x` (N, Q, width) attends to `memory` (N, K, width) where `mask` (N, K) is true; → (N, Q,
        width).
        """
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(
                1, 2
            )  # (N, heads, Q or K, width / heads)
            for part in (self.query(x), self.key(memory), self.value(memory))
        )
        # a row without memories attends to its padding, since a softmax over nothing is NaN
        open_mask = mask | ~mask.any(-1, keepdim=True)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=open_mask[:, None, None])
        return self.out(mixed.transpose(1, 2).flatten(2))


class CrossAttention(nn.Module):
    """Published ψ: M* = ψ(C, {M^i}), with Q = C, K and V = all vectors of the selected memories."""

    def __init__(self, dim: int, params: AggregatorParams) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(CrossBlock(dim, params.heads) for _ in range(params.blocks))
        self.norm = nn.LayerNorm(dim)

    def forward(self, question: Encoding, memories: Tensor, mask: Tensor) -> Tensor:
        """M* (B, k_C, D) of `memories` (B, S, k, D) with `mask` (B, S, k); k_C: vectors of the
        question.
        """
        x, flat, flat_mask = (
            question.vectors,
            memories.flatten(1, 2),
            mask.flatten(1, 2).bool(),
        )  # S·k
        for block in self.blocks:
            x = block(x, flat, flat_mask)
        return self.norm(x)


class CrossBlock(nn.Module):
    """Pre-norm cross-attention and feed-forward."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attend = Attention(width, heads)
        self.feed = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        """`x` (B, k, width), `memory` (B, N, width), `mask` (B, N) → (B, k, width)."""
        x = x + self.attend(self.norms[0](x), self.norms[1](memory), mask)
        return x + self.feed(self.norms[2](x))


class PrefixAlignment(nn.Module):
    """Published π: a shared trunk and one linear map turn M* into a key/value prefix in every
    layer.
    """

    def __init__(self, lm: FrozenLM) -> None:
        super().__init__()
        width = lm.hidden_size
        feed = nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        self.trunk = nn.Sequential(nn.RMSNorm(width), *feed)
        self.to_prefix = KeyValueMap(lm)

    def forward(self, aggregated: Tensor) -> Prefix:
        """M* (B, k, D) → keys and values of k positions."""
        return self.to_prefix(aggregated + self.trunk(aggregated))


class PrefixPromptBuilder(PromptBuilder):
    """Builds prompts whose memories are a key/value prefix."""

    alignment: PrefixAlignment  # type: ignore[assignment]  # the published π

    def prefix_prompt(
        self, question: Encoding, aggregated: Tensor, tails: Sequence[Sequence[int]], *, left: bool
    ) -> Prompt:
        """`[π(M*)][BOS] <tail>` for each question, M* being `aggregated` (B, k, D); `left` pads on
        the left.
        """
        rows = [[self.lm.bos, *tail] for tail in tails]
        ids, mask = pad(rows, left=left, device=self.lm.device)  # (B, T)
        # M* has one vector for each of the question's, so padding of short questions is masked in
        # the prefix too
        return Prompt(self.lm.embed(ids), mask, self.alignment(aggregated), question.vector_mask)


class _UnscoredModel(MemoryModel):
    """A model that scores no tokens, so that the memories of a question are not compared."""

    def score(
        self,
        question: Encoding,
        question_ids: Sequence[Sequence[int]],
        memories: Sequence[Sequence[RetrievedMemory]],
        *,
        expanded: int,
    ) -> TokenScores:
        """The memories as they are, without scores."""
        count = len(memories)
        scores, leads = torch.zeros(count, 0, 0, 2), [float("inf")] * count
        return TokenScores(
            self.lm, question, question_ids, memories, scores, [()] * count, self.window, leads
        )

    def _adapted_layers(self) -> dict[str, nn.Module]:
        return {"compressor.encoder.": self.compressor.encoder}


class AttentionModel(_UnscoredModel):
    """ψ aggregates the vectors of all memories, and the LM reads them as a prefix."""

    aggregator: CrossAttention  # type: ignore[assignment]  # the published ψ
    alignment: PrefixAlignment  # type: ignore[assignment]  # the published π
    prompts: PrefixPromptBuilder

    def _new_parts(self, trainable: bool) -> tuple[Compressor, Any, Any]:
        lm, config = self.lm, self.config
        kinds = {"windows": Compressor, "tokens": TokenCompressor}
        compressor = kinds[config.compressor.kind](
            lm, config.compressor, key_dim=config.key_dim, trainable=trainable
        )
        return compressor, CrossAttention(lm.hidden_size, config.aggregator), PrefixAlignment(lm)

    def _new_prompts(self) -> PromptBuilder:
        return PrefixPromptBuilder(self.lm, self.alignment)  # type: ignore[arg-type]

    def decode(self, scored: TokenScores, selection: SelectionParams) -> ReaderOutput:
        """A prompt with M* as its prefix for each question, padded on the left."""
        tails = [self.prompts.question_tokens(tokens) for tokens in scored.question_ids]
        vectors, mask, _ = self._stack_memories(
            scored.memories, self.window
        )  # (B, S, k, D), (B, S, k)
        aggregated = self.aggregator(scored.question, vectors, mask)  # (B, k_C, D)
        return ReaderOutput(
            self.prompts.prefix_prompt(scored.question, aggregated, tails, left=True)
        )


class WholeTextModel(_UnscoredModel):
    """No ψ: the LM reads the whole memories, the likeliest first, behind a trained prefix."""

    aggregator: None  # type: ignore[assignment]  # there is no ψ

    def _new_parts(self, trainable: bool) -> tuple[Compressor, Any, Any]:
        lm, config = self.lm, self.config
        compressor = Compressor(lm, config.compressor, key_dim=config.key_dim, trainable=trainable)
        return compressor, None, TextAlignment(lm, config.alignment.slots)

    def decode(self, scored: TokenScores, selection: SelectionParams) -> ReaderOutput:
        """A prompt with the texts of the memories for each question, padded on the left."""
        tails = [self.prompts.question_tokens(tokens) for tokens in scored.question_ids]
        texts, spans = [], []
        for memories in scored.memories:
            priors = [memory.prior for memory in memories]
            whole = whole_memory_spans([len(memory.tokens) for memory in memories])
            texts.append([memory.tokens for memory in memories])
            spans.append(sorted(whole, key=lambda span: -priors[span.memory]))  # noqa: B023 - used at once
        prompt = self.prompts.text_prompt(scored.question, spans, texts, None, tails, left=True)
        return ReaderOutput(prompt, spans=spans)
