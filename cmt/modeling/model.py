"""Θ, ψ and π around one frozen LM: compress documents, read memories, and the forward pass of training."""

import hashlib
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmt.config import SelectionParams
from cmt.errors import ModelError
from cmt.lm.model import FrozenLM
from cmt.lm.prompt import Prompt, pad
from cmt.modeling.aggregator import CrossAttention, SpanReader
from cmt.modeling.alignment import PrefixAlignment, TextAlignment
from cmt.modeling.checkpoint import Checkpoint, CompressorConfig, checkpoint_digest, load_checkpoint, save_checkpoint
from cmt.modeling.compressor import Compressor, Encoding
from cmt.modeling.lora import merge_lora
from cmt.modeling.prompt_builder import PromptBuilder
from cmt.modeling.span_decoding import (
    AnswerSpan,
    TokenSpan,
    best_answer_span,
    choose_windows,
    token_log_probabilities,
    whole_memory_spans,
    window_margin,
)
from cmt.modeling.supersession import discount_superseded
from cmt.modeling.token_codec import TokenCodec


@dataclass(frozen=True)
class RetrievedMemory:
    """One memory as ψ and π get it."""

    vectors: Tensor
    """(k, D) what Θ wrote."""
    tokens: Sequence[int]
    """The tokens the windows stand for, kept or read back from the content channel."""
    prior: float = 0.0
    """Log-probability of its document given the question, from the selection."""
    superseded_tokens: Sequence[int] = ()
    """The tokens of the document that its own supersedes."""


@dataclass(frozen=True)
class ReaderOutput:
    """What ψ and π make of a batch of questions and their memories."""

    prompt: Prompt
    begins: Tensor | None = None
    """(B, S, n) probability that the answer begins with a token; they sum to less than 1 by that of none of them.
    None for the published ψ, which scores no tokens."""
    spans: Sequence[Sequence[TokenSpan]] = ()
    """What the LM reads for each question."""
    answer_spans: Sequence[AnswerSpan | None] | None = None
    """What of it stands again behind each question, as the likeliest answer; None where nothing is quoted."""
    margins: Sequence[float] | None = None
    """The least lead of a chosen quote or window over the next, in log-probability; None where nothing is chosen."""


class MemoryModel(nn.Module):
    """The trained parts. The LM is no submodule: nothing that walks over parameters can reach it by accident."""

    def __init__(self, lm: FrozenLM, config: CompressorConfig, digest: str = "untrained") -> None:
        super().__init__()
        self.lm, self.config, self.digest = lm, config, digest
        self.compressor = Compressor(lm, config.compressor)
        self.aggregator: CrossAttention | SpanReader | None = None
        if config.aggregator.kind == "attention":
            self.aggregator = CrossAttention(lm.hidden_size, config.aggregator)
        elif config.aggregator.kind == "windows":
            first, window = min(config.compressor.layers, lm.layers - 1), config.compressor.window
            self.aggregator = SpanReader(lm, config.aggregator, first=first, window=window)
        published = config.alignment.kind == "prefix"
        self.alignment = PrefixAlignment(lm) if published else TextAlignment(lm, config.alignment.slots)
        # temperature of the self-matching softmax, learned, e³ at the start (method §7)
        self.log_temperature = nn.Parameter(torch.tensor(3.0))
        if not config.objective.beta:  # self-matching alone would train them: they stay as they are
            self.compressor.to_key.requires_grad_(False)
            self.log_temperature.requires_grad_(False)
        self.prompts = PromptBuilder(lm, self.alignment)
        self._content: TokenCodec | None = None
        self.to(lm.device)

    @property
    def key_dim(self) -> int:
        """Length of a search key."""
        return self.lm.hidden_size

    @property
    def window(self) -> int:
        """Tokens a memory vector stands for."""
        return self.config.compressor.window

    @property
    def temperature(self) -> Tensor:
        """Of the self-matching softmax."""
        return self.log_temperature.exp().clamp(max=100.0)

    @property
    def content(self) -> TokenCodec:
        """The content channel, made on first use."""
        if self._content is None:
            self._content = TokenCodec(self.lm, self.window)
        return self._content

    def autocast(self) -> AbstractContextManager[Any]:
        """bfloat16 products over float32 masters where the LM is bfloat16."""
        if self.lm.model.dtype == torch.bfloat16:
            return torch.autocast(self.lm.device.type, torch.bfloat16)
        return nullcontext()

    def encode(self, rows: Sequence[Sequence[int]], group: int = 8) -> Encoding:
        """Θ over token-id rows. Similar lengths run together, `group` rows at a time; the result is in input order."""
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        parts = []
        for start in range(0, len(order), group):
            batch = [[self.lm.bos, *rows[i]] for i in order[start : start + group]]
            ids, mask = pad(batch, left=False, device=self.lm.device)
            parts.append(self.compressor(self.lm.embed(ids), mask))
        back = torch.tensor(order, device=self.lm.device).argsort()
        return Encoding(
            *(_stack([getattr(part, name) for part in parts])[back] for name in Encoding.__dataclass_fields__)
        )

    def read(
        self,
        question: Encoding,
        asked: Sequence[Sequence[int]],
        memories: Sequence[Sequence[RetrievedMemory]],
        how: SelectionParams,
    ) -> ReaderOutput:
        """ψ and π at answering time: a prompt, padded on the left, for each question's token ids and memories."""
        vectors, mask, ids = self._gather(memories)
        texts = [[m.tokens for m in row] for row in memories]
        tails = [self.prompts.question_tokens(ids) for ids in asked]
        if isinstance(self.alignment, PrefixAlignment):
            assert isinstance(self.aggregator, CrossAttention)  # noqa: S101 - narrows the type
            aggregated = self.aggregator(question, vectors, mask)
            return ReaderOutput(self.prompts.prefix_prompt(question, aggregated, tails, left=True))
        prior = torch.tensor([[m.prior for m in row] + [0.0] * (vectors.shape[1] - len(row)) for row in memories])
        if self.aggregator is None:
            runs = [self._whole_runs(row) for row in memories]
            return ReaderOutput(self.prompts.text_prompt(question, runs, texts, None, tails, left=True), spans=runs)
        scores = self.aggregator(question, vectors, mask, ids)
        for row, some in enumerate(memories):
            for place, news in enumerate(some):
                # learned memory tokens may stand for fewer tokens than the text has
                if news.superseded_tokens and (scored := int(torch.isfinite(scores[row, place, :, 0]).sum())):
                    text, before = self.lm.pieces(news.tokens[:scored]), self.lm.pieces(news.superseded_tokens)
                    scores[row, place, :scored] = discount_superseded(scores[row, place, :scored], text, before)
        # half of it at the beginning of an answer and half at its end: a stretch of a memory has it once
        probability = token_log_probabilities(scores + prior.to(vectors.device)[..., None, None] / 2)
        believed = probability.cpu()
        runs = [choose_windows(row, self.window, how.windows, how.neighbours) for row in believed]
        quotes = [best_answer_span(row, text) if text else None for row, text in zip(believed, texts, strict=True)]
        tails = [
            self.prompts.question_tokens(ids, quote.tokens if quote else ())
            for ids, quote in zip(asked, quotes, strict=True)
        ]
        prompt = self.prompts.text_prompt(question, runs, texts, probability.exp(), tails, left=True)
        margins = [
            min(window_margin(row, self.window, how.windows), quote.margin if quote else float("inf"))
            for row, quote in zip(believed, quotes, strict=True)
        ]
        return ReaderOutput(prompt, believed[..., 0].exp(), runs, quotes, margins)

    def _whole_runs(self, memories: Sequence[RetrievedMemory]) -> list[TokenSpan]:
        """The likeliest memory first."""
        runs = whole_memory_spans([len(memory.tokens) for memory in memories])
        return sorted(runs, key=lambda run: -memories[run.memory].prior)

    def _gather(self, memories: Sequence[Sequence[RetrievedMemory]]) -> tuple[Tensor, Tensor, Tensor]:
        """Memories of several sizes: vectors (B, S, k, D), mask (B, S, k), token ids (B, S, W·k) with −1 on padding."""
        most = max((len(row) for row in memories), default=1) or 1
        longest = max((len(m.vectors) for row in memories for m in row), default=1)
        longest = -(-longest // 8) * 8  # few shapes
        vectors = torch.zeros(len(memories), most, longest, self.lm.hidden_size)
        mask = torch.zeros(len(memories), most, longest, dtype=torch.long)
        ids = torch.full((len(memories), most, longest * self.window), -1)
        for row, selected in enumerate(memories):
            for place, memory in enumerate(selected):
                tokens = memory.tokens[: ids.shape[2]]  # learned memory tokens are fewer than windows
                ids[row, place, : len(tokens)] = torch.tensor(tokens, dtype=torch.long)
                vectors[row, place, : len(memory.vectors)] = memory.vectors
                mask[row, place, : len(memory.vectors)] = 1
        return vectors.to(self.lm.device), mask.to(self.lm.device), ids.to(self.lm.device)

    def trained_tensors(self) -> dict[str, Tensor]:
        """The trained tensors by name: what a checkpoint holds."""
        return {name: tensor.detach() for name, tensor in self.named_parameters() if tensor.requires_grad}

    def save(self, folder: Path, *, dtype: torch.dtype = torch.bfloat16) -> str:
        """Write weights and design to `folder`; returns the digest."""
        weights = {name: tensor.to(dtype) for name, tensor in self.trained_tensors().items()}
        return save_checkpoint(folder, Checkpoint(self.lm.digest, self.config, weights))

    @classmethod
    def load(cls, folder: Path, *, lm: FrozenLM, window: int | None = None) -> "MemoryModel":
        """The compressor in `folder`, if wanted with vectors for more tokens than it was trained for.

        ModelError when it is missing, cut short, or was trained for another LM, and when it cannot have that window.
        """
        made, digest = load_checkpoint(folder), checkpoint_digest(folder)
        if made.lm_digest != lm.digest:
            raise ModelError(
                f"the compressor in {folder} was trained for the LM {made.lm_digest[:12]}, lm.source is "
                f"{lm.digest[:12]}: set lm.source back, or run `cmt train` for this LM"
            )
        trained = made.config.compressor.window
        if window and window != trained and made.config.compressor.kind == "windows":
            if window % trained:
                raise ModelError(
                    f"the compressor in {folder} has a vector for {trained} tokens: set compressor.window to {trained} "
                    f"or to a multiple of it, which {window} is not"
                )
            made = made.widened(window)
            digest = hashlib.sha256(f"{digest} window {window}".encode()).hexdigest()
        model = cls(lm, made.config, digest)
        model.load_tensors(made.weights)
        return model.eval()

    def merge_lora(self) -> "MemoryModel":
        """This model, its adapters added to copies of the LM's layers: what `encode` and ψ compute, in less time.

        Only to answer with: the adapters cannot be trained or saved any more.
        """
        merge_lora(self)
        return self

    def load_tensors(self, weights: dict[str, Tensor]) -> None:
        """Copy trained tensors in. ModelError when names or shapes do not fit."""
        own = {name: tensor for name, tensor in self.named_parameters() if tensor.requires_grad}
        wrong = sorted(own.keys() ^ weights.keys()) or [n for n in own if own[n].shape != weights[n].shape]
        if wrong:
            raise ModelError(
                f"the weights do not fit the design: {len(wrong)} tensors differ, {wrong[0]} first: "
                "train again, or mend config.json"
            )
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(weights[name])


def _stack(parts: list[Tensor]) -> Tensor:
    """Concatenate along rows, the second dimension padded with zeros to the longest."""
    if parts[0].dim() == 1 or len({part.shape[1] for part in parts}) == 1:
        return torch.cat(parts)
    longest = max(part.shape[1] for part in parts)
    flat = [F.pad(part, [0, 0] * (part.dim() - 2) + [0, longest - part.shape[1]]) for part in parts]
    return torch.cat(flat)
