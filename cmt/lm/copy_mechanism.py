"""What the LM writes, mixed with the hypothesis that the answer is its quote (pointer-generator, arXiv 1704.04368)."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass
class CopyHypothesis:
    """That the answer is `tokens`, believed with probability `probability` given what has been written so far."""

    tokens: Sequence[int]
    """The quote, with end-of-sequence behind it."""
    probability: float
    place: int = 0

    @property
    def next(self) -> int:
        """The token that comes now if it is so."""
        return self.tokens[self.place]

    def update(self, symbol: int, probability: float) -> None:
        """`symbol` was written, to which the LM alone gave `probability`: Bayes' rule."""
        if not self.probability or symbol != self.next or self.place + 1 == len(self.tokens):
            self.probability = 0.0
            return
        self.probability /= self.probability + (1 - self.probability) * probability
        self.place += 1


def update_hypotheses(copies: Sequence[CopyHypothesis], token: Tensor, probability: Tensor) -> None:
    """Each of `copies` hears which `token` (B,) was written; `probability` (B, V) is what the LM alone gave."""
    by_lm = probability.gather(1, token[:, None])[:, 0]
    for copy, *heard in zip(copies, token.tolist(), by_lm.tolist(), strict=True):
        copy.update(*heard)


def mix_with_copies(probability: Tensor, copies: Sequence[CopyHypothesis]) -> Tensor:
    """The LM's probabilities (B, V) of the next token, each row mixed with its copy."""
    whole = probability.clone()
    for row, copy in enumerate(copies):
        whole[row] *= 1 - copy.probability
        whole[row, copy.next] += copy.probability
    return whole
