"""The trained model: Θ, ψ and π around one frozen LM."""

from collections import defaultdict
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
import torch.nn.functional as F
from cachetools import LRUCache
from torch import Tensor, nn

from cmt.config import SelectionParams
from cmt.errors import ModelError
from cmt.lm.model import FrozenLM
from cmt.lm.prompt import Prompt, pad, padded_length
from cmt.modeling._alignment import PromptBuilder, TextAlignment
from cmt.modeling._token_codec import TokenCodec
from cmt.modeling.aggregator import SpanReader
from cmt.modeling.checkpoint import (
    Checkpoint,
    CompressorConfig,
    save_checkpoint,
)
from cmt.modeling.codebook import Codebook
from cmt.modeling.compressor import Compressor, Encoding
from cmt.modeling.cross_encoder import CrossEncoder
from cmt.modeling.lora import merge_lora
from cmt.modeling.span_decoding import (
    AnswerSpan,
    QuoteLimits,
    TokenSpan,
    best_answer_span,
    choose_windows,
    likeliest_memories,
    neighbours_at,
    token_log_probabilities,
    window_margin,
)
from cmt.modeling.token_scores import (
    PRIOR_WEIGHT,
    RetrievedMemory,
    TokenScores,
    discount_words,
)

# cache of the latest texts' states: about 900 memories of 128 tokens at D = 576
REMEMBERED_BYTES = 256 * 2**20


@dataclass(frozen=True)
class ReaderOutput:
    """Output of ψ and π for B questions with S memories of n tokens each."""

    prompt: Prompt  # the input of the LM
    # (B, S, n) probability that the answer begins with a token, the missing mass being "nowhere";
    # None, like `answer_spans` and `margins`, if ψ scores no tokens (`kind: attention` and `none`)
    begins: Tensor | None = None
    spans: Sequence[Sequence[TokenSpan]] = ()  # the spans that the LM reads, for each question
    # the quote of each question, None without memories
    answer_spans: Sequence[AnswerSpan | None] | None = None
    # smallest lead in nats of a question's memories, quote and windows over others
    margins: Sequence[float] | None = None


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
        """With `trainable=False` Θ and ψ have no adapters: `load_weights` merges trained ones into
        their layers.
        """
        super().__init__()
        config = config.for_layers(lm.layers)
        self.lm, self.config, self.digest = lm, config, digest
        self.window = config.compressor.window
        """W: tokens in a window, which one vector of a memory represents."""
        self.compressor, self.aggregator, self.alignment = self._new_parts(trainable)
        # temperature of the self-matching softmax, learned, e³ at the start
        # (docs/method.md#objective)
        self.log_temperature = nn.Parameter(torch.tensor(3.0))
        if not config.objective.beta:  # only self-matching trains both
            self.compressor.to_key.requires_grad_(False)
            self.log_temperature.requires_grad_(False)
        self.prompts = self._new_prompts()
        # encodes vectors with `bank.codes: pq`, at the window
        self.codebook: Codebook | None = None
        # compares two documents that answer a question differently
        self.cross_encoder: CrossEncoder | None = None
        # Θ's states of texts read at full resolution; trained weights would outdate them
        self._remembered: LRUCache[tuple[int, ...], Tensor] = LRUCache(
            0 if trainable else REMEMBERED_BYTES, getsizeof=lambda states: states.nbytes
        )
        self.to(lm.device)

    def _new_parts(self, trainable: bool) -> tuple[Compressor, SpanReader, TextAlignment]:
        """Θ, ψ and π with random weights."""
        lm, config = self.lm, self.config
        compressor = Compressor(lm, config.compressor, key_dim=config.key_dim, trainable=trainable)
        reader = SpanReader(
            lm,
            config.aggregator,
            first=min(config.compressor.layers, lm.layers - 1),
            window=config.compressor.window,
            trainable=trainable,
        )
        return compressor, reader, TextAlignment(lm, config.alignment.slots)

    def _new_prompts(self) -> PromptBuilder:
        return PromptBuilder(self.lm, self.alignment)

    @property
    def key_dim(self) -> int:
        """p: numbers of a search key."""
        return self.compressor.to_key.out_features

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

    def score(
        self,
        question: Encoding,
        question_ids: Sequence[Sequence[int]],
        memories: Sequence[Sequence[RetrievedMemory]],
        *,
        expanded: int,
    ) -> TokenScores:
        """ψ's scores of the tokens in the memories of each question.

        `question` is the encoding of the questions, `question_ids` their token ids, `memories`
        those selected for each. `expanded`: so many likeliest memories are read with a vector for
        each token, where ψ has that window.
        """
        read, window, leads = self._expand(question, memories, expanded)
        scores = self._score_tokens(question, read, window)  # (B, S, n, 2)
        limits = []
        for row, tokens in zip(memories, question_ids, strict=True):
            limits.append(self._quote_limits([memory.tokens for memory in row], tokens))
        return TokenScores(self.lm, question, question_ids, memories, scores, limits, window, leads)

    def decode(self, scored: TokenScores, selection: SelectionParams) -> ReaderOutput:
        """π: a prompt for each question, padded on the left, with its best windows and quote."""
        neighbours = neighbours_at(selection.neighbour_windows, self.window, scored.window)
        log_probability = token_log_probabilities(scored.scores)  # (B, S, n, 2)
        on_cpu = log_probability.cpu()
        # 1. choose the windows to read and the quote of each question
        texts, spans, quotes, margins, tails = [], [], [], [], []
        for row, memories in enumerate(scored.memories):
            text = [memory.tokens for memory in memories]
            quote = best_answer_span(on_cpu[row], text, scored.limits[row]) if text else None
            lead = window_margin(on_cpu[row], scored.window, selection.best_windows)
            texts.append(text)
            spans.append(
                choose_windows(on_cpu[row], scored.window, selection.best_windows, neighbours)
            )
            quotes.append(quote)
            margins.append(min(scored.leads[row], lead, quote.margin if quote else float("inf")))
            tails.append(
                self.prompts.question_tokens(
                    scored.question_ids[row], quote.tokens if quote else ()
                )
            )
        # 2. build the prompt
        prompt = self.prompts.text_prompt(
            scored.question, spans, texts, log_probability.exp(), tails, left=True
        )
        return ReaderOutput(prompt, on_cpu[..., 0].exp(), spans, quotes, margins)

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
        text = self.lm.decode(question)
        return [QuoteLimits.of(self.lm.token_texts(tokens), text) for tokens in texts]

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
        vectors, mask, ids = self._stack_memories(
            memories, window
        )  # (B, S, k, D), (B, S, k), (B, S, n)
        scores = self.aggregator(question, vectors, mask, ids)
        for row, row_memories in enumerate(memories):
            for column, memory in enumerate(row_memories):
                if memory.superseded_tokens:
                    scores[row, column] = discount_words(
                        self.lm, scores[row, column], memory.tokens, memory.superseded_tokens
                    )
        # half at the beginning and half at the end, so a span has it once
        prior = torch.tensor(
            [[m.prior for m in row] + [0.0] * (vectors.shape[1] - len(row)) for row in memories]
        )
        prior = PRIOR_WEIGHT * prior.to(vectors.device)  # (B, S)
        return scores + prior[..., None, None] / 2

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
                f"the weights do not fit the configuration: {len(wrong)} tensors differ, "
                f"{wrong[0]} first: "
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

    def load_weights(self, weights: dict[str, Tensor], *, merged: bool) -> None:
        """Copy the trained tensors `weights`; with `merged` merge the adapters among them into the
        layers. Raises ModelError if they do not fit.
        """
        rest = dict(weights)
        for prefix, decoder in self._adapted_layers().items() if merged else ():
            names = [name for name in weights if name.startswith(prefix)]
            merge_lora(decoder, {name.removeprefix(prefix): rest.pop(name) for name in names})
        self.load_tensors(rest)

    def _adapted_layers(self) -> dict[str, nn.Module]:
        """The layers with adapters, by the prefix of their tensors' names."""
        return {
            "compressor.encoder.": self.compressor.encoder,
            "aggregator.blocks.": self.aggregator.blocks,
        }


def _concatenate(parts: list[Tensor]) -> Tensor:
    """Concatenate along the rows; zeros pad the second dimension to the longest."""
    longest = max(part.shape[1] for part in parts)
    return torch.cat(
        [F.pad(part, [0, 0] * (part.dim() - 2) + [0, longest - part.shape[1]]) for part in parts]
    )
