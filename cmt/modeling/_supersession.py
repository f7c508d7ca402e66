"""Down-weights answer spans whose words already appear in the superseded document
(docs/method.md#supersession).

An update names the old value next to the new one ("3.5 percent after 3.75"), and a small reader
confuses them. The superseded document, which the bank knows, identifies the old value.
"""

import re
from collections.abc import Sequence
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor

from cmt.modeling.span_decoding import span_log_probabilities
from cmt.text.words import WORD

# nats that a span loses if all its words are in the superseded document; chosen on held-out
# paragraphs with an artificial predecessor (docs/method.md#supersession)
MAX_DISCOUNT = 2.5


def discount_superseded(
    scores: Tensor, token_texts: Sequence[str], superseded: Sequence[str]
) -> Tensor:
    """ψ's `scores` (n, 2) of an update's tokens, with spans discounted by their share of words in
    `superseded`.

    `token_texts` are the texts of the update's n tokens, `superseded` the texts of the superseded
    document's tokens. The score of a token follows from the spans that begin or end with it. The
    log-sum of the scores is restored, so the probability that the update holds the answer does not
    change.
    """
    # 1. the share of each span's words that are in the superseded document
    words = _words_of_tokens(token_texts)
    old_words = set(_words_of_tokens(superseded)) - {None}
    in_word = torch.tensor([word is not None for word in words])  # (n,)
    in_old_word = torch.tensor([word in old_words for word in words])
    spans = span_log_probabilities(scores[None])[:, 0]  # (m, n)
    share = _counts(in_old_word, len(spans)) / _counts(in_word, len(spans)).clamp(min=1)  # (m, n)
    # 2. discount the spans, and move the change to the tokens
    change = _token_marginals(spans - MAX_DISCOUNT * share.to(spans)) - _token_marginals(
        spans
    )  # (n, 2)
    changed = scores + change
    # 3. restore the log-sum
    return changed - changed.logsumexp(0) + scores.logsumexp(0)


def leave_out_value(scores: Tensor, token_texts: Sequence[str], value: str) -> Tensor:
    """ψ's `scores` (n, 2) of a text's tokens, in which no span begins or ends in a place that
    states `value`.

    `token_texts` are the texts of the n tokens. The log-sum of the scores is restored.
    """
    text, inside = "".join(token_texts), torch.zeros(len(token_texts), dtype=torch.bool)  # (n,)
    places = [
        found.span()
        for found in re.finditer(rf"(?<!\w){re.escape(value)}(?!\w)", text, re.IGNORECASE)
    ]
    end = 0
    for number, token in enumerate(token_texts):
        start, end = end, end + len(token)
        inside[number] = any(start < last and first < end for first, last in places)
    if not value or inside.all():
        return scores
    left = scores.masked_fill(inside[:, None], float("-inf"))
    return left - left.logsumexp(0) + scores.logsumexp(0)


def _words_of_tokens(token_texts: Sequence[str]) -> list[str | None]:
    """The word in lower case that each token is part of: the first of several, or None."""
    found = WORD.finditer("".join(token_texts))
    word_at = {index: word[0].lower() for word in found for index in range(*word.span())}
    ends = list(accumulate(map(len, token_texts)))
    return [
        next((word_at[index] for index in range(end - len(text), end) if index in word_at), None)
        for text, end in zip(token_texts, ends, strict=True)
    ]


def _counts(flags: Tensor, longest: int) -> Tensor:
    """(m, n) number of set `flags` (n,) among the 1 … m = `longest` tokens from each token on."""
    before = F.pad(flags.long().cumsum(0), (1, 0))  # (n + 1,)
    first = torch.arange(len(flags))
    last = (first + torch.arange(1, longest + 1)[:, None]).clamp(max=len(flags))  # (m, n)
    return before[last] - before[first]


def _token_marginals(spans: Tensor) -> Tensor:
    """Log-sums (n, 2) over the spans (m, n) of 1 … m tokens that begin, and that end, with each
    token.
    """
    ends = [
        F.pad(spans[longer, : spans.shape[1] - longer], (longer, 0), value=float("-inf"))
        for longer in range(len(spans))
    ]
    return torch.stack([spans.logsumexp(0), torch.stack(ends).logsumexp(0)], -1)
