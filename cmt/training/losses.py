"""The training loss (method §2): memory-aware answer likelihood + β · self-matching + γ · span."""

import torch
import torch.nn.functional as F
from torch import Tensor


def memory_aware_loss(with_memory: Tensor, without: Tensor, answer: Tensor, alpha: float) -> Tensor:
    """Mean NLL of the answer tokens under softmax((1 + α)·l(y | M*, q) − α·l(y | q)).

    Logits (N, V) at the answer positions, `answer` (N,) token ids; `without` comes from the frozen LM and has no
    gradient. α = 0 is MAC's plain likelihood.
    """
    return F.cross_entropy((1 + alpha) * with_memory.float() - alpha * without.float(), answer)


def in_batch_contrastive_loss(
    questions: Tensor, keys: Tensor, gold: Tensor, temperature: Tensor, spread: float
) -> Tensor:
    """−T·cos(q, M⁺) + log Σ_j exp(T·cos(q, M^j)) + λ·log mean_{i≠j} exp(−‖M^i − M^j‖²).

    `questions` (Q, p) and `keys` (N, p) have unit length, `gold` (Q,) is each question's document. The published first
    term −cos alone has no negatives; the softmax over the batch's documents gives it some. Other questions of the same
    document share its key and so are none. On unit vectors the published second term (weight λ) is bounded.
    """
    matching = F.cross_entropy(temperature * questions @ keys.T, gold)
    if len(keys) < 2 or spread == 0:
        return matching
    apart = torch.pdist(keys.float()).square().neg()
    return matching + spread * (torch.logsumexp(apart, 0) - torch.tensor(float(len(apart))).log())


def span_loss(scores: Tensor, gold: Tensor) -> Tensor:
    """−log-probability of the tokens with which the answer begins and ends, any of its occurrences being right.

    `scores` (Q, S, n, 2); `gold` (Q, G, 2) flat places in S·n, −1 on padding. A last class of score 0 stands for "in
    none of them"; its place is S·n.
    """
    believed = F.pad(scores.flatten(1, 2), (0, 0, 0, 1)).log_softmax(1).gather(1, gold.clamp(min=0))
    return -believed.masked_fill(gold < 0, float("-inf")).logsumexp(1).mean()
