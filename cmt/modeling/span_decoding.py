"""Where an answer stands: from ψ's scores of tokens to what the LM reads and what it is quoted."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

MAX_SPAN_TOKENS = 16  # tokens
SPAN_CANDIDATES = 32  # best quotes among which one that reads otherwise is looked for


@dataclass(frozen=True)
class TokenSpan:
    """A stretch of one memory's tokens that the LM gets to read, the last one included."""

    memory: int
    first: int
    last: int

    def tokens_of(self, texts: Sequence[Sequence[int]]) -> list[int]:
        """Its token ids; `texts` are those of the memories."""
        return list(texts[self.memory][self.first : self.last + 1])


@dataclass(frozen=True)
class AnswerSpan:
    """A stretch of a memory that is likely to be the answer."""

    span: TokenSpan
    tokens: Sequence[int]
    probability: float
    """Probability of what it reads: the share that all spans of the same tokens have of all spans and "nowhere"."""
    margin: float
    """By how much log-probability it is ahead of the best span that reads otherwise; inf when there is none.

    An answer often occurs several times: which of them is quoted makes no difference.
    """


def token_log_probabilities(scores: Tensor) -> Tensor:
    """Log-softmax of (B, S, n, 2) over all tokens of all memories of a question and, with score 0, none of them."""
    return F.pad(scores.flatten(1, 2), (0, 0, 0, 1)).log_softmax(1)[:, :-1].view_as(scores)


def whole_memory_spans(lengths: Sequence[int]) -> list[TokenSpan]:
    """All of memories of so many tokens."""
    return [TokenSpan(memory, 0, length - 1) for memory, length in enumerate(lengths)]


def best_answer_span(probability: Tensor, texts: Sequence[Sequence[int]]) -> AnswerSpan:
    """The stretch of at most LONGEST_QUOTE tokens of one memory that is likeliest to be the answer.

    `probability` (S, n, 2) in logarithms; `texts` are the memories' tokens.
    """
    spans = span_log_probabilities(probability)
    values, places = spans.flatten().topk(min(SPAN_CANDIDATES, int(torch.isfinite(spans).sum())))
    runs = [_run(place, spans) for place in places.tolist()]
    read = [tuple(texts[run.memory][run.first : run.last + 1]) for run in runs]
    same = torch.tensor([tokens == read[0] for tokens in read], device=values.device)
    # begins and ends are scored apart; only pairs of them that make a span count
    nowhere = (1 - probability.exp().sum((0, 1))).clamp(min=0).prod()
    belief = values.exp()[same].sum() / (spans.exp().sum() + nowhere)
    others = values[~same]
    margin = float(values[0] - others[0]) if len(others) else float("inf")
    return AnswerSpan(runs[0], read[0], float(belief), margin)


def span_log_probabilities(probability: Tensor) -> Tensor:
    """(S, n, 2) → (m, S, n) log-probability of the span of 1 … m tokens that begins with each token."""
    begins, ends = probability.unbind(-1)
    count = begins.shape[1]
    return torch.stack(
        [
            F.pad(begins[:, : count - more] + ends[:, more:], (0, more), value=float("-inf"))
            for more in range(min(MAX_SPAN_TOKENS, count))
        ]
    )


def _run(place: int, spans: Tensor) -> TokenSpan:
    more, memory, first = np.unravel_index(place, spans.shape)
    return TokenSpan(int(memory), int(first), int(first + more))


def choose_windows(probability: Tensor, window: int, best: int, neighbours: int) -> list[TokenSpan]:
    """The `best` windows in which the answer is likeliest to begin or to end, and `neighbours` on either side.

    `probability` (S, n, 2) in logarithms, −inf on padding. Runs of the memory with the best window come first, inside
    a memory they are in the order of its text.
    """
    length = torch.isfinite(probability[..., 0]).sum(1)  # (S,) tokens
    count = probability.shape[1] // window
    top = _windows(probability, window, best).indices.tolist()
    memories = list(dict.fromkeys(i // count for i in top))
    runs = []
    for memory in memories:
        tokens = int(length[memory])
        middles = [i % count for i in top if i // count == memory]
        wanted = {w for middle in middles for w in range(middle - neighbours, middle + neighbours + 1)}
        inside = sorted(w for w in wanted if 0 <= w * window < tokens)
        runs += [
            TokenSpan(memory, first * window, min((last + 1) * window, tokens) - 1)
            for first, last in _stretches(inside)
        ]
    return runs


def window_margin(probability: Tensor, window: int, best: int) -> float:
    """By how much log-probability the outcome of `choose_windows` is ahead of another one; inf when there is none."""
    values, places = _windows(probability, window, best + 1)
    memory = places // (probability.shape[1] // window)
    leads = values[:-1] - values[1:]
    # among the chosen of one memory the order does not matter
    matters = memory[:-1] != memory[1:]
    matters[best - 1 :] = True
    return float(leads[matters].min()) if matters.any() else float("inf")


def _windows(probability: Tensor, window: int, best: int) -> Any:
    """Values and places among all (S, k) windows of the likeliest `best`."""
    scores = torch.unflatten(probability, 1, (-1, window)).logsumexp((-2, -1))
    return scores.flatten().topk(min(best, int(torch.isfinite(scores).sum())))


def _stretches(places: Sequence[int]) -> Iterable[tuple[int, int]]:
    """Sorted numbers as runs (first, last) without a gap."""
    starts = [i for i, place in enumerate(places) if i == 0 or place != places[i - 1] + 1]
    for start, stop in zip(starts, [*starts[1:], len(places)], strict=True):
        yield places[start], places[stop - 1]
