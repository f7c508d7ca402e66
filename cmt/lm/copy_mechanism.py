"""Copy mechanism: mixes the LM's next-token distribution with the hypothesis that the answer is the
quote.

After the pointer-generator (arXiv 1704.04368), with Bayes' rule in place of a learned gate
(docs/method.md#copy-mechanism).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass
class CopyHypothesis:
    """Hypothesis that the answer is `tokens`, with its probability given the tokens generated so
    far.
    """

    tokens: Sequence[int]  # the quote, followed by end-of-sequence
    probability: float
    position: int = 0  # number of tokens generated so far

    def update(self, token: int, lm_probability: float) -> None:
        """Apply Bayes' rule after `token` was generated, to which the LM gave `lm_probability`."""
        is_followed = token == self.tokens[self.position]
        if not self.probability or not is_followed or self.position + 1 == len(self.tokens):
            self.probability = 0.0
            return
        self.probability /= self.probability + (1 - self.probability) * lm_probability
        self.position += 1


def update_hypotheses(
    copies: Sequence[CopyHypothesis], tokens: Tensor, lm_probability: Tensor
) -> None:
    """Update the hypothesis of each row with its generated token (B,); `lm_probability` is (B,
    V).
    """
    of_tokens = lm_probability.gather(1, tokens[:, None])[:, 0]  # (B,)
    for copy, token, probability in zip(copies, tokens.tolist(), of_tokens.tolist(), strict=True):
        copy.update(token, probability)


def mix_with_copies(lm_probability: Tensor, copies: Sequence[CopyHypothesis]) -> Tensor:
    """Next-token distribution (B, V): the LM's, each row mixed with its copy hypothesis."""
    mixed = lm_probability.clone()  # (B, V)
    for row, copy in enumerate(copies):
        mixed[row] *= 1 - copy.probability
        mixed[row, copy.tokens[copy.position]] += copy.probability
    return mixed
