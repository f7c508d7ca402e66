"""The trained model: Θ, ψ and π around one frozen LM."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from cachetools import LRUCache
from torch import Tensor, nn

from cmt.config import SelectionParams
from cmt.errors import ModelError
from cmt.lm.model import FrozenLM
from cmt.lm.prompt import Prompt, pad, padded_length
from cmt.modeling.aggregator import CrossAttention, SpanReader
from cmt.modeling.alignment import PrefixAlignment, TextAlignment
from cmt.modeling.checkpoint import (
    Checkpoint,
    CompressorConfig,
    digest_in_use,
    load_checkpoint,
    save_checkpoint,
)
from cmt.modeling.codebook import Codebook
from cmt.modeling.compressor import Compressor, Encoding
from cmt.modeling.cross_encoder import CrossEncoder
from cmt.modeling.lora import merge_lora
from cmt.modeling.prompt_builder import PromptBuilder
from cmt.modeling.span_decoding import (
    AnswerSpan,
    QuoteLimits,
    TokenSpan,
    best_answer_span,
    best_span,
    choose_windows,
    likeliest_memories,
    neighbours_at,
    token_log_probabilities,
    whole_memory_spans,
    window_margin,
)
from cmt.modeling.supersession import discount_superseded, leave_out_value
from cmt.modeling.token_codec import TokenCodec

# weight of a memory's log-probability from the selection, relative to ψ's scores; see
# docs/experiments.md, E96
PRIOR_WEIGHT = 0.5
REMEMBERED_BYTES = (
    256 * 2**20
)  # cache of the latest texts' states: about 900 memories of 128 tokens at D = 576


@dataclass(frozen=True)
class RetrievedMemory:
    """A selected memory, the input of ψ and π."""

    vectors: Tensor  # (k, D) the memory's vectors
    tokens: Sequence[int]  # token ids of the memory, from the kept text or from the content channel
    prior: float = 0.0  # log-probability of the memory given the question, from the selection
    superseded_tokens: Sequence[
        int
    ] = ()  # token ids of the document that this memory's document supersedes


class ReadSpan(NamedTuple):
    """The best answer that ψ reads in one memory."""

    first: int
    last: int  # included
    # log-score against "nowhere", without the selection's; −inf if the memory has no token
    score: float
    prior: float  # the part of the selection in the log-score of the memory


class Weighed(NamedTuple):
    """What a comparison of the memories of a question changes."""

    shifts: Sequence[float]  # nats to add to the log-scores of each memory
    replaced: Sequence[
        tuple[int, int]
    ] = ()  # a later memory, and an earlier one without whose value it is read
    margin: float = float("inf")  # smallest change in nats that would alter a decision on the way


ReadWithout = Callable[[int, int], ReadSpan]
"""Indices of a later and an earlier memory → the best span of the later one without the value of
the earlier one.
"""
Weigh = Callable[[int, Sequence[ReadSpan], ReadWithout], Weighed]
"""Compares the memories of a question, given the best span of each."""


@dataclass(frozen=True)
class ReaderOutput:
    """Output of ψ and π for B questions with S memories of n tokens each."""

    prompt: Prompt  # the input of the LM
    # (B, S, n) probability that the answer begins with a token, the missing mass being "nowhere";
    # None, like `answer_spans` and `margins`, if ψ scores no tokens (`kind: attention` and `none`)
    begins: Tensor | None = None
    spans: Sequence[Sequence[TokenSpan]] = ()  # the spans that the LM reads, for each question
    answer_spans: Sequence[AnswerSpan | None] | None = (
        None  # the quote of each question, None without memories
    )
    margins: Sequence[float] | None = (
        None  # smallest lead in nats of a question's quote and windows over others
    )


class MemoryModel(nn.Module):
    """Θ, ψ and π. The frozen LM is not a submodule, so its weights are not among the parameters."""

    def __init__(
        self,
        lm: FrozenLM,
        config: CompressorConfig,
        digest: str = "untrained",
        *,
        trainable: bool = True,
    ) -> None:
        """With `trainable=False` Θ and ψ have no adapters: `load` merges trained ones into their
        layers.
        """
        super().__init__()
        config = config.for_layers(lm.layers)
        self.lm, self.config, self.digest = lm, config, digest
        self.compressor = Compressor(
            lm, config.compressor, key_dim=config.key_dim, trainable=trainable
        )
        self.aggregator: CrossAttention | SpanReader | None = None
        if config.aggregator.kind == "attention":
            self.aggregator = CrossAttention(lm.hidden_size, config.aggregator)
        elif config.aggregator.kind == "windows":
            first, window = min(config.compressor.layers, lm.layers - 1), config.compressor.window
            self.aggregator = SpanReader(
                lm, config.aggregator, first=first, window=window, trainable=trainable
            )
        published = config.alignment.kind == "prefix"
        self.alignment = (
            PrefixAlignment(lm) if published else TextAlignment(lm, config.alignment.slots)
        )
        # temperature of the self-matching softmax, learned, e³ at the start
        # (docs/method.md#objective)
        self.log_temperature = nn.Parameter(torch.tensor(3.0))
        if not config.objective.beta:  # only self-matching trains both
            self.compressor.to_key.requires_grad_(False)
            self.log_temperature.requires_grad_(False)
        self.prompts = PromptBuilder(lm, self.alignment)
        self.codebook: Codebook | None = (
            None  # encodes vectors with `bank.codes: pq`, at the window
        )
        self.cross_encoder: CrossEncoder | None = (
            None  # compares two documents that answer a question differently
        )
        # Θ's states of texts read at full resolution; trained weights would outdate them
        self._remembered: LRUCache[tuple[int, ...], Tensor] = LRUCache(
            0 if trainable else REMEMBERED_BYTES, getsizeof=lambda states: states.nbytes
        )
        self.to(lm.device)

    @property
    def key_dim(self) -> int:
        """p: numbers of a search key."""
        return self.compressor.to_key.out_features

    @property
    def window(self) -> int:
        """W: tokens in a window, which one vector of a memory represents."""
        return self.config.compressor.window

    @property
    def temperature(self) -> Tensor:
        """τ of the self-matching softmax, at most 100."""
        return self.log_temperature.exp().clamp(max=100.0)

    @cached_property
    def content(self) -> TokenCodec:
        """The content channel, built on first use."""
        return TokenCodec(self.lm, self.window)

    def autocast(self) -> AbstractContextManager[object]:
        """Context of bfloat16 matrix products, if the LM has that type; the weights stay
        float32.
        """
        if self.lm.model.dtype == torch.bfloat16:
            return torch.autocast(self.lm.device.type, torch.bfloat16)
        return nullcontext()

    def encode(
        self, rows: Sequence[Sequence[int]], group: int = 8, window: int | None = None
    ) -> Encoding:
        """Θ over rows of token ids, in batches of `group` of like length; in their order. `window`:
        None for W.
        """
        # 1. encode in the order of the lengths
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        parts = []
        for start in range(0, len(order), group):
            batch = [[self.lm.bos, *rows[i]] for i in order[start : start + group]]
            ids, mask = pad(batch, left=False, device=self.lm.device)  # (N, 1 + T)
            parts.append(self.compressor(self.lm.embed(ids), mask, window))
        # 2. restore the order of the input
        restored = torch.tensor(order, device=self.lm.device).argsort()
        fields = Encoding.__dataclass_fields__
        return Encoding(
            *(_concatenate([getattr(part, name) for part in parts])[restored] for name in fields)
        )

    def read(
        self,
        question: Encoding,
        asked: Sequence[Sequence[int]],
        memories: Sequence[Sequence[RetrievedMemory]],
        selection: SelectionParams,
        weigh: Weigh | None = None,
    ) -> ReaderOutput:
        """ψ and π for answering: a prompt, padded on the left, for each question.

        `question` is the encoding of the questions, `asked` their token ids, `memories` those
        selected for each. `weigh` compares the memories of a question, for a ψ that scores tokens.
        """
        texts = [[memory.tokens for memory in row] for row in memories]
        if not isinstance(self.aggregator, SpanReader):
            return self._read_whole_memories(question, asked, memories, texts)
        # 1. score the tokens, with a vector for each token of the likeliest memories
        read, window, leads = self._expand(question, memories, selection.expanded_memories)
        neighbours = neighbours_at(selection.neighbour_windows, self.window, window)
        scores = self._score_tokens(question, read, window)  # (B, S, n, 2)
        limits = [
            self._quote_limits(text, tokens) for text, tokens in zip(texts, asked, strict=True)
        ]
        # 2. compare the memories that answer a question differently
        if weigh:
            for row, row_limits in enumerate(limits):
                leads[row] = min(
                    leads[row], self._weigh(weigh, row, scores[row], row_limits, memories[row])
                )
        log_probability = token_log_probabilities(scores)
        on_cpu = log_probability.cpu()
        # 3. choose the windows to read and the quote of each question
        spans, quotes = list[list[TokenSpan]](), list[AnswerSpan | None]()
        margins, tails = list[float](), list[list[int]]()
        for row, text, row_limits, tokens, lead in zip(
            on_cpu, texts, limits, asked, leads, strict=True
        ):
            spans.append(choose_windows(row, window, selection.best_windows, neighbours))
            quote = best_answer_span(row, text, row_limits) if text else None
            quotes.append(quote)
            margin = window_margin(row, window, selection.best_windows)
            margins.append(min(lead, margin, quote.margin if quote else float("inf")))
            tails.append(self.prompts.question_tokens(tokens, quote.tokens if quote else ()))
        # 4. build the prompt
        prompt = self.prompts.text_prompt(
            question, spans, texts, log_probability.exp(), tails, left=True
        )
        return ReaderOutput(prompt, on_cpu[..., 0].exp(), spans, quotes, margins)

    def read_alone(
        self,
        question: Encoding,
        asked: Sequence[Sequence[int]],
        memories: Sequence[Sequence[RetrievedMemory]],
        *,
        expand: bool,
    ) -> list[ReadSpan]:
        """The best span of one memory for each question.

        `memories` has one memory for each question. `expand`: read it with a vector for each token,
        where ψ has that window. The score is −inf for a ψ that scores no tokens.
        """
        if not isinstance(self.aggregator, SpanReader):
            return [ReadSpan(0, 0, float("-inf"), 0.0)] * len(memories)
        read, window, _ = self._expand(question, memories, 1 if expand else 0)
        scores = self._score_tokens(question, read, window)  # (B, 1, n, 2)
        spans = []
        for row, ((memory,), tokens) in enumerate(zip(memories, asked, strict=True)):
            (limits,) = self._quote_limits([memory.tokens], tokens)
            spans.append(_read_span(scores[row, 0].cpu(), limits, memory))
        return spans

    def _read_whole_memories(
        self,
        question: Encoding,
        asked: Sequence[Sequence[int]],
        memories: Sequence[Sequence[RetrievedMemory]],
        texts: Sequence[Sequence[Sequence[int]]],
    ) -> ReaderOutput:
        """The published ψ and π, or without ψ the whole memories, the likeliest first; no token is
        scored.
        """
        tails = [self.prompts.question_tokens(tokens) for tokens in asked]
        if isinstance(self.aggregator, CrossAttention):
            vectors, mask, _ = self._stack_memories(
                memories, self.window
            )  # (B, S, k, D), (B, S, k)
            aggregated = self.aggregator(question, vectors, mask)  # (B, k_C, D)
            return ReaderOutput(self.prompts.prefix_prompt(question, aggregated, tails, left=True))
        spans = [
            sorted(
                whole_memory_spans([len(memory.tokens) for memory in row]),
                key=lambda s: -row[s.memory].prior,
            )
            for row in memories
        ]
        return ReaderOutput(
            self.prompts.text_prompt(question, spans, texts, None, tails, left=True), spans=spans
        )

    def quote(
        self, log_probability: Tensor, texts: Sequence[Sequence[int]], question: Sequence[int]
    ) -> AnswerSpan:
        """The likeliest answer to `question` among the tokens `texts` of its memories,
        `log_probability` (S, n, 2).
        """
        return best_answer_span(log_probability, texts, self._quote_limits(texts, question))

    def _quote_limits(
        self, texts: Sequence[Sequence[int]], question: Sequence[int]
    ) -> list[QuoteLimits]:
        """The limits of a quote in each of `texts`; all are token ids."""
        asked = self.lm.decode(question)
        return [QuoteLimits.of(self.lm.token_texts(tokens), asked) for tokens in texts]

    def _weigh(
        self,
        weigh: Weigh,
        row: int,
        scores: Tensor,
        limits: Sequence[QuoteLimits],
        memories: Sequence[RetrievedMemory],
    ) -> float:
        """Add what `weigh` returns for a question to the `scores` (S, n, 2) of its memories;
        returns its margin.
        """
        if len(memories) < 2:
            return float("inf")
        on_cpu = scores.cpu().clone()  # on a CPU `cpu` copies nothing, and `scores` change below

        def without(later: int, earlier: int) -> Tensor:
            left = self._without_words(
                on_cpu[later], memories[later].tokens, memories[earlier].tokens
            )
            value = memories[earlier].tokens[spans[earlier].first : spans[earlier].last + 1]
            tokens = memories[later].tokens
            found = leave_out_value(
                left[: len(tokens)], self.lm.token_texts(tokens), self.lm.decode(value).strip()
            )
            return torch.cat([found, left[len(tokens) :]])

        def read_without(later: int, earlier: int) -> ReadSpan:
            return _read_span(without(later, earlier), limits[later], memories[later])

        spans = [_read_span(on_cpu[n], limits[n], memory) for n, memory in enumerate(memories)]
        weighed = weigh(row, spans, read_without)
        for later, earlier in weighed.replaced:
            scores[later] = without(later, earlier)
        # half at the beginning and half at the end, so a span has it once
        scores[: len(memories)] += (
            torch.tensor(weighed.shifts, device=scores.device)[:, None, None] / 2
        )
        return weighed.margin

    def _expand(
        self, question: Encoding, memories: Sequence[Sequence[RetrievedMemory]], count: int
    ) -> tuple[Sequence[Sequence[RetrievedMemory]], int, list[float]]:
        """The memories of each question: the `count` likeliest with a vector for each token, others
        without.

        Also returns the window, and the lead in log-probability of the likeliest over the others.
        Without a trained window of one token, or with a `count` of 0, the memories stay as they
        are.
        """
        leads = [float("inf")] * len(memories)
        if not count or self.window == 1 or 1 not in self.config.windows:
            return memories, self.window, leads
        # 1. choose with the stored vectors, if a question has more memories
        contested = [row if len(row) > count else () for row in memories]
        chosen = [list(range(len(row))) for row in memories]
        if any(contested):
            log_probability = token_log_probabilities(
                self._score_tokens(question, contested, self.window)
            ).cpu()
            for row, row_memories in enumerate(contested):
                if row_memories:
                    chosen[row], leads[row] = likeliest_memories(log_probability[row], count)
        # 2. encode the tokens again
        positions = [
            (row, column) for row, row_chosen in enumerate(chosen) for column in row_chosen
        ]
        states = self._token_states([memories[row][column].tokens for row, column in positions])
        nothing = torch.zeros(0, self.lm.hidden_size)
        vectors = dict(zip(positions, states, strict=True))
        expanded = [
            [
                replace(memory, vectors=vectors.get((row, column), nothing))
                for column, memory in enumerate(row_memories)
            ]
            for row, row_memories in enumerate(memories)
        ]
        return expanded, 1, leads

    def _token_states(self, texts: Sequence[Sequence[int]]) -> list[Tensor]:
        """Θ's states (T, D) of each text. The padding of a text does not depend on the other
        texts.
        """
        wanted = [tuple(tokens) for tokens in texts]
        # 1. take remembered states
        states = {text: self._remembered[text] for text in set(wanted) if text in self._remembered}
        # 2. encode the others, each once
        by_width = defaultdict(list)
        for text in dict.fromkeys(wanted):
            if text not in states:
                by_width[padded_length(1 + len(text))].append(text)  # with BOS
        for same_width in by_width.values():
            encoded = self.encode(same_width).states
            states |= {
                text: encoded[row, : len(text)].clone() for row, text in enumerate(same_width)
            }
        # 3. remember the latest
        if self._remembered.maxsize:
            self._remembered.update(states)
        return [states[text] for text in wanted]

    def _score_tokens(
        self, question: Encoding, memories: Sequence[Sequence[RetrievedMemory]], window: int
    ) -> Tensor:
        """Log-scores (B, S, n, 2) of each token as beginning and as end of the answer; "nowhere"
        has the score 0.
        """
        assert isinstance(self.aggregator, SpanReader)  # noqa: S101 - narrows the type
        vectors, mask, ids = self._stack_memories(
            memories, window
        )  # (B, S, k, D), (B, S, k), (B, S, n)
        scores = self.aggregator(question, vectors, mask, ids)
        for row, row_memories in enumerate(memories):
            for column, memory in enumerate(row_memories):
                if memory.superseded_tokens:
                    found = scores[row, column]
                    scores[row, column] = self._without_words(
                        found, memory.tokens, memory.superseded_tokens
                    )
        # half at the beginning and half at the end, so a span has it once
        prior = torch.tensor(
            [[m.prior for m in row] + [0.0] * (vectors.shape[1] - len(row)) for row in memories]
        )
        prior = PRIOR_WEIGHT * prior.to(vectors.device)  # (B, S)
        return scores + prior[..., None, None] / 2

    def _without_words(
        self, scores: Tensor, tokens: Sequence[int], superseded: Sequence[int]
    ) -> Tensor:
        """`scores` (n, 2) of a memory's `tokens` after `discount_superseded`, given the superseded
        text's tokens.
        """
        # learned memory tokens may represent fewer tokens than the text has
        count = int(torch.isfinite(scores[:, 0]).sum())
        if not count:
            return scores
        texts, old_texts = self.lm.token_texts(tokens[:count]), self.lm.token_texts(superseded)
        return torch.cat([discount_superseded(scores[:count], texts, old_texts), scores[count:]])

    def _stack_memories(
        self, memories: Sequence[Sequence[RetrievedMemory]], window: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Padded vectors (B, S, k, D), mask (B, S, k) and token ids (B, S, n), −1 on padding; n = k
        · `window`.
        """
        most = max((len(row) for row in memories), default=1) or 1  # S
        longest = padded_length(
            max((len(memory.vectors) for row in memories for memory in row), default=1)
        )
        vectors = torch.zeros(len(memories), most, longest, self.lm.hidden_size)
        mask = torch.zeros(len(memories), most, longest, dtype=torch.long)
        ids = torch.full((len(memories), most, longest * window), -1)
        for row, row_memories in enumerate(memories):
            for column, memory in enumerate(row_memories):
                tokens = memory.tokens[
                    : ids.shape[2]
                ]  # learned memory tokens are fewer than windows
                ids[row, column, : len(tokens)] = torch.tensor(tokens, dtype=torch.long)
                vectors[row, column, : len(memory.vectors)] = memory.vectors
                mask[row, column, : len(memory.vectors)] = 1
        return vectors.to(self.lm.device), mask.to(self.lm.device), ids.to(self.lm.device)

    def trained_tensors(self) -> dict[str, Tensor]:
        """The trained tensors by name, which a checkpoint holds."""
        return {
            name: tensor.detach()
            for name, tensor in self.named_parameters()
            if tensor.requires_grad
        }

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Copy `tensors` into the trained ones. Raises ModelError if names or shapes do not fit."""
        trained = self.trained_tensors()
        wrong = sorted(trained.keys() ^ tensors.keys()) or [
            name for name, tensor in trained.items() if tensor.shape != tensors[name].shape
        ]
        if wrong:
            raise ModelError(
                f"the weights do not fit the configuration: {len(wrong)} tensors differ, {wrong[0]} first: "
                "train again, or restore config.json"
            )
        for name, tensor in trained.items():
            tensor.copy_(tensors[name])

    def save(self, folder: Path, *, dtype: torch.dtype = torch.bfloat16) -> str:
        """Write the trained tensors, as `dtype`, and the configuration to `folder`; returns the
        digest.
        """
        weights = {name: tensor.to(dtype) for name, tensor in self.trained_tensors().items()}
        return save_checkpoint(folder, Checkpoint(self.lm.digest, self.config, weights))

    @classmethod
    def load(
        cls, folder: Path, *, lm: FrozenLM, window: int | None = None, merged: bool = False
    ) -> "MemoryModel":
        """Load the compressor in `folder`; `window` may be a multiple or a divisor of the trained
        one.

        With `merged` the adapters are merged into copies of the LM's layers: the model answers
        faster, but cannot be trained or saved. Raises ModelError if the compressor is missing or
        damaged, belongs to another LM, or cannot have the window.
        """
        checkpoint = load_checkpoint(folder)
        if checkpoint.lm_digest != lm.digest:
            raise ModelError(
                f"the compressor in {folder} was trained for the LM {checkpoint.lm_digest[:12]}, lm.source is "
                f"{lm.digest[:12]}: set lm.source back, or run `cmt train` for this LM"
            )
        trained = checkpoint.config.compressor.window
        if window and window != trained and checkpoint.config.compressor.kind == "windows":
            if window % trained and trained % window:
                raise ModelError(
                    f"the compressor in {folder} has a vector for {trained} tokens: set compressor.window to "
                    f"{trained}, to a multiple or to a divisor of it, not to {window}"
                )
            checkpoint = checkpoint.at_window(window)
        digest = digest_in_use(folder, window=window or trained)
        model = cls(lm, checkpoint.config, digest, trainable=not merged)
        model.load_tensors(model._merge_lora(checkpoint.weights) if merged else checkpoint.weights)
        model.codebook = Codebook.load(folder, model.window)
        model.cross_encoder = CrossEncoder.load(folder, lm)
        return model.eval()

    def _merge_lora(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Merge the adapters among `tensors` into the layers of Θ and ψ; returns the other
        tensors.
        """
        decoders = {"compressor.encoder.": self.compressor.encoder}
        if isinstance(self.aggregator, SpanReader):
            decoders["aggregator.blocks."] = self.aggregator.blocks
        rest = dict(tensors)
        for prefix, decoder in decoders.items():
            names = [name for name in tensors if name.startswith(prefix)]
            merge_lora(decoder, {name.removeprefix(prefix): rest.pop(name) for name in names})
        return rest


def _read_span(scores: Tensor, limits: QuoteLimits, memory: RetrievedMemory) -> ReadSpan:
    """The best span of a memory with `scores` (n, 2)."""
    first, last, score = best_span(scores, limits)
    prior = PRIOR_WEIGHT * memory.prior
    return ReadSpan(first, last, score - prior, prior)


def _concatenate(parts: list[Tensor]) -> Tensor:
    """Concatenate along the rows; zeros pad the second dimension to the longest."""
    longest = max(part.shape[1] for part in parts)
    return torch.cat(
        [F.pad(part, [0, 0] * (part.dim() - 2) + [0, longest - part.shape[1]]) for part in parts]
    )
