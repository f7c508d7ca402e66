"""ψ's scores of the tokens in the memories of some questions, and the best span of each memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cmt.lm.model import FrozenLM
from cmt.modeling._supersession import discount_superseded, leave_out_value
from cmt.modeling.compressor import Encoding
from cmt.modeling.span_decoding import QuoteLimits, quote_log_probabilities

# weight of a memory's log-probability from the selection, relative to ψ's scores; see
# docs/experiments.md, E96
PRIOR_WEIGHT = 0.5


@dataclass(frozen=True)
class RetrievedMemory:
    """A selected memory, the input of ψ and π."""

    vectors: Tensor  # (k, D) the memory's vectors
    tokens: Sequence[int]  # token ids of the memory, from the kept text or from the content channel
    prior: float = 0.0  # log-probability of the memory given the question, from the selection
    superseded_tokens: Sequence[int] = ()  # token ids of the document that its document supersedes


class ReadSpan(NamedTuple):
    """The best answer that ψ reads in one memory."""

    first: int
    last: int  # included
    # log-score against "nowhere", without the selection's; −inf if the memory has no token
    score: float
    prior: float  # the part of the selection in the log-score of the memory


@dataclass(frozen=True)
class TokenScores:
    """What ψ reads for B questions, in S memories of n tokens each."""

    lm: FrozenLM
    question: Encoding
    question_ids: Sequence[Sequence[int]]  # tokens of each question
    memories: Sequence[Sequence[RetrievedMemory]]
    # (B, S, n, 2) log-scores of each token as beginning and as end of the answer, "nowhere" having
    # the score 0; S = 0 for a ψ that scores no tokens
    scores: Tensor
    limits: Sequence[Sequence[QuoteLimits]]  # of each memory
    window: int  # tokens that a vector stands for
    leads: Sequence[float]  # nats by which the expanded memories lead the others

    def spans(self, row: int) -> list[ReadSpan]:
        """The best span of each memory of the question `row`; none if ψ scores no tokens."""
        scores = self.scores[row].cpu()  # (S, n, 2)
        return [self._span(row, memory, scores[memory]) for memory in range(len(self.limits[row]))]

    def span_without(self, row: int, later: int, earlier: int) -> ReadSpan:
        """A second reading: the best span of the memory `later` that does not state the value of
        the memory `earlier`.
        """
        return self._span(row, later, self._scores_without(row, later, earlier))

    def span_at(self, row: int, memory: int, first: int, last: int) -> ReadSpan:
        """The span of the tokens `first` … `last`, included, of a memory."""
        begins, ends = self.scores[row, memory].unbind(-1)  # (n,) each
        prior = PRIOR_WEIGHT * self.memories[row][memory].prior
        return ReadSpan(first, last, float(begins[first] + ends[last]) - prior, prior)

    def adjust(
        self, row: int, shifts: Sequence[float], second_readings: Sequence[tuple[int, int]]
    ) -> None:
        """Change the scores of the question `row` as its memories compare.

        `shifts`: nats to add to each memory. `second_readings`: a later memory, and the earlier one
        without whose value it is read.
        """
        scores = self.scores[row]  # (S, n, 2)
        readings = [
            (later, self._scores_without(row, later, earlier)) for later, earlier in second_readings
        ]
        for later, reading in readings:
            scores[later] = reading
        # half at the beginning and half at the end, so a span has it once
        scores[: len(shifts)] += torch.tensor(shifts, device=scores.device)[:, None, None] / 2

    def _span(self, row: int, memory: int, scores: Tensor) -> ReadSpan:
        """The best span of a memory with `scores` (n, 2)."""
        spans = quote_log_probabilities(scores[None], [self.limits[row][memory]])  # (m, 1, n)
        score, index = spans.flatten().max(0)
        longer, _, first = np.unravel_index(int(index), spans.shape)
        prior = PRIOR_WEIGHT * self.memories[row][memory].prior
        return ReadSpan(int(first), int(first + longer), float(score) - prior, prior)

    def _scores_without(self, row: int, later: int, earlier: int) -> Tensor:
        """Scores (n, 2) of `later` without the value of `earlier`, and with its words
        discounted.
        """
        scores = self.scores[row].cpu()  # (S, n, 2)
        tokens, old_tokens = self.memories[row][later].tokens, self.memories[row][earlier].tokens
        span = self._span(row, earlier, scores[earlier])
        value = self.lm.decode(old_tokens[span.first : span.last + 1]).strip()
        left = discount_words(self.lm, scores[later], tokens, old_tokens)
        read = leave_out_value(left[: len(tokens)], self.lm.token_texts(tokens), value)
        return torch.cat([read, left[len(tokens) :]])


def discount_words(
    lm: FrozenLM, scores: Tensor, tokens: Sequence[int], superseded: Sequence[int]
) -> Tensor:
    """`scores` (n, 2) of a memory's `tokens` after `discount_superseded`, given the tokens of the
    superseded text.
    """
    # learned memory tokens may represent fewer tokens than the text has
    count = int(torch.isfinite(scores[:, 0]).sum())
    if not count:
        return scores
    texts, old_texts = lm.token_texts(tokens[:count]), lm.token_texts(superseded)
    return torch.cat([discount_superseded(scores[:count], texts, old_texts), scores[count:]])
