"""The training loss: memory-aware likelihood + β · self-matching + γ · span loss
(docs/method.md#objective).
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def memory_aware_loss(
    with_memory: Tensor, without_memory: Tensor, answer: Tensor, alpha: float
) -> Tensor:
    """Mean negative log-likelihood of the answer tokens under contrasted logits, in nats.

        L = −mean log softmax((1 + α) · l(y | M, q) − α · l(y | q))[answer]

    `with_memory` and `without_memory` (N, V) are the logits at the answer positions, `answer` (N,)
    the token ids. `without_memory` comes from the frozen LM and has no gradient. α = 0 is the plain
    likelihood of MAC (arXiv 2403.04317).
    """
    return F.cross_entropy(
        (1 + alpha) * with_memory.float() - alpha * without_memory.float(), answer
    )


def in_batch_contrastive_loss(
    questions: Tensor, keys: Tensor, gold: Tensor, temperature: Tensor, uniformity_weight: float
) -> Tensor:
    """Self-matching: each question's key against the keys of all documents of the step, and
    uniformity of the keys.

        L = −mean_q log softmax_j(τ · cos(q, key_j))[gold] + λ · log mean_{i<j} exp(−‖key_i −
        key_j‖²)

    `questions` (Q, p) and `keys` (N, p) have unit length, `gold` (Q,) is the document of each
    question, τ is `temperature` and λ is `uniformity_weight`. Questions on the same document share
    its key, so they are not negatives of each other. The published first term, only −cos, has no
    negatives; the softmax adds them. The second term is bounded on keys of unit length. With one
    document, or λ = 0, the loss is only the first term.
    """
    matching = F.cross_entropy(temperature * questions @ keys.T, gold)
    if len(keys) < 2 or uniformity_weight == 0:
        return matching
    negative_squares = torch.pdist(keys.float()).square().neg()  # (N · (N − 1) / 2,)
    log_mean = (
        torch.logsumexp(negative_squares, 0) - torch.tensor(float(len(negative_squares))).log()
    )
    return matching + uniformity_weight * log_mean


def span_loss(scores: Tensor, gold: Tensor) -> Tensor:
    """Negative log-probability of the tokens that begin and end the answer, in nats; any occurrence
    counts.

        L = −mean log Σ_{occurrences} P(token),   mean over questions and over beginning and end

    `scores` (Q, S, n, 2) are ψ's scores of each token of the S memories as beginning and as end. A
    last class with the score 0 stands for "in none of the memories". `gold` (Q, G, 2) holds indices
    into the S · n tokens, S · n for the last class, and −1 on padding.
    """
    with_nowhere = F.pad(scores.flatten(1, 2), (0, 0, 0, 1))  # (Q, S · n + 1, 2)
    gold_log_probability = with_nowhere.log_softmax(1).gather(1, gold.clamp(min=0))  # (Q, G, 2)
    return -gold_log_probability.masked_fill(gold < 0, float("-inf")).logsumexp(1).mean()
