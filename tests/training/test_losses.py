"""The losses, against their equations written out by hand."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cmt.training.losses import in_batch_contrastive_loss, memory_aware_loss, span_loss

TEN = torch.tensor(10.0)


def unit(rows: list[list[float]]) -> Tensor:
    return F.normalize(torch.tensor(rows, dtype=torch.float32), dim=-1)


@pytest.mark.parametrize("alpha", [0.0, 0.4])
def test_the_memory_aware_loss_follows_its_equation(alpha: float) -> None:
    with_memory = [[2.0, 0.5, -1.0], [0.0, 1.0, 3.0]]
    without = [[1.0, 1.5, 0.0], [0.5, 0.5, 1.0]]
    answer, expected = [0, 1], 0.0
    for row in range(2):
        logits = [
            (1 + alpha) * m - alpha * w for m, w in zip(with_memory[row], without[row], strict=True)
        ]
        expected += math.log(sum(map(math.exp, logits))) - logits[answer[row]]
    loss = memory_aware_loss(
        torch.tensor(with_memory), torch.tensor(without), torch.tensor(answer), alpha
    )
    assert loss.item() == pytest.approx(expected / 2)
    if alpha == 0:
        assert loss == F.cross_entropy(torch.tensor(with_memory), torch.tensor(answer))


@pytest.mark.parametrize("uniformity_weight", [0.0, 0.5])
def test_self_matching_follows_its_equation(uniformity_weight: float) -> None:
    questions, keys = unit([[1, 0.2, 0], [0, 1, 1]]), unit([[1, 0, 0], [0, 1, 0], [1, 1, 1]])
    gold, expected = [0, 1], 0.0
    for row in range(2):
        cosines = [10 * float(questions[row] @ key) for key in keys]
        expected += (math.log(sum(map(math.exp, cosines))) - cosines[gold[row]]) / 2
    pairs = [(0, 1), (0, 2), (1, 2)]
    apart = [math.exp(-float((keys[i] - keys[j]).square().sum())) for i, j in pairs]
    expected += uniformity_weight * math.log(sum(apart) / len(pairs))
    loss = in_batch_contrastive_loss(questions, keys, torch.tensor(gold), TEN, uniformity_weight)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_questions_on_one_document_are_not_negatives_of_each_other() -> None:
    keys = unit([[1, 0, 0], [0, 1, 0]])
    first, second = unit([[1, 0.1, 0]]), unit([[0.9, 0.3, 0.2]])
    alone = [
        in_batch_contrastive_loss(question, keys, torch.tensor([0]), TEN, 0.0)
        for question in (first, second)
    ]
    together = in_batch_contrastive_loss(
        torch.cat([first, second]), keys, torch.tensor([0, 0]), TEN, 0.0
    )
    torch.testing.assert_close(together, (alone[0] + alone[1]) / 2)


def test_a_single_document_has_no_uniformity_term() -> None:
    key = unit([[1, 0, 0]])
    assert in_batch_contrastive_loss(key, key, torch.tensor([0]), TEN, 1.0).item() == pytest.approx(
        0.0, abs=1e-6
    )


def test_the_span_loss_is_over_all_present_tokens_and_nowhere() -> None:
    begins, ends = [[1.0, 2.0], [float("-inf"), 0.5]], [[0.0, -1.0], [float("-inf"), 3.0]]
    scores = torch.stack([torch.tensor(begins), torch.tensor(ends)], -1)[
        None
    ]  # one question, two memories of two
    expected = math.log(math.exp(1.0) + math.exp(2.0) + math.exp(0.5) + 1.0) - 2.0
    expected += math.log(math.exp(0.0) + math.exp(-1.0) + math.exp(3.0) + 1.0) - 3.0
    assert span_loss(scores, torch.tensor([[[1, 3]]])).item() == pytest.approx(expected / 2)


def test_any_occurrence_of_an_answer_counts() -> None:
    scores = torch.randn(2, 1, 5, 2)
    believed = torch.nn.functional.pad(scores.flatten(1, 2), (0, 0, 0, 1)).softmax(1)
    right = (believed[0, 1] + believed[0, 4]).log().sum() + believed[1, 2].log().sum()
    gold = torch.tensor([[[1, 1], [4, 4]], [[2, 2], [-1, -1]]])
    assert span_loss(scores, gold).item() == pytest.approx(-right.item() / 4, rel=1e-5)


def test_a_question_without_an_answer_lowers_all_scores() -> None:
    nowhere = torch.tensor([[[4, 4]]])
    low, high = (span_loss(torch.full((1, 2, 2, 2), score), nowhere) for score in (-5.0, 5.0))
    assert low < 0.1 < 5.0 < high
