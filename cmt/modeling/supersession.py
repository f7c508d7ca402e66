"""News beside the document that they supersede: what both of them say is seldom what the news are asked about.

A text that tells of a change names the old value beside the new one, "3.5 percent after 3.75", and a reader of this
size mixes them up. The bank knows which document the news supersede, and what that one said.
"""

import re
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from cmt.modeling.span_decoding import span_log_probabilities

# log-probability that a stretch loses whose words all stood there before; chosen on paragraphs of held-out articles
# that were given a predecessor (docs/method.md)
MAX_DISCOUNT = 2.5
_WORD = re.compile(r"\w+(?:[.,:]\w+)*")  # 3.75 and 21.40 are words


def discount_superseded(scores: Tensor, pieces: Sequence[str], before: Sequence[str]) -> Tensor:
    """ψ's `scores` (n, 2) of the n tokens of news, in which a stretch is less likely by the share of words said before.

    `pieces` are the texts of the tokens, `before` those of the superseded document's tokens. A token's scores change as
    the stretches that begin or end with it do; the log-sum of all stays, so that it becomes neither more nor less
    likely that these news hold the answer.
    """
    words, known = _words(pieces), set(_words(before)) - {None}
    of_words = torch.tensor([word is not None for word in words])
    said = torch.tensor([word in known for word in words])
    spans = span_log_probabilities(scores[None])[:, 0]
    share = _sums(said, len(spans)) / _sums(of_words, len(spans)).clamp(min=1)
    change = _marginals(spans - MAX_DISCOUNT * share.to(spans)) - _marginals(spans)
    changed = scores + change
    return changed - changed.logsumexp(0) + scores.logsumexp(0)


def _words(pieces: Sequence[str]) -> list[str | None]:
    """The word, in lower case, that each piece is of: of several the first; None for a piece of none."""
    found: list[str | None] = []
    words, number, first = list(_WORD.finditer("".join(pieces).lower())), 0, 0
    for piece in pieces:
        while number < len(words) and words[number].end() <= first:
            number += 1
        first += len(piece)
        found.append(words[number][0] if number < len(words) and words[number].start() < first else None)
    return found


def _sums(flags: Tensor, longest: int) -> Tensor:
    """(n,) → (m, n): how many of the 1 … m tokens from each one on are marked."""
    before = F.pad(flags.long().cumsum(0), (1, 0))
    first = torch.arange(len(flags))
    last = (first + torch.arange(1, longest + 1)[:, None]).clamp(max=len(flags))
    return before[last] - before[first]


def _marginals(spans: Tensor) -> Tensor:
    """(m, n) log-probability of the stretches of 1 … m tokens from each one on → (n, 2): all begun, all ended there."""
    ends = [F.pad(spans[more, : spans.shape[1] - more], (more, 0), value=float("-inf")) for more in range(len(spans))]
    return torch.stack([spans.logsumexp(0), torch.stack(ends).logsumexp(0)], -1)
