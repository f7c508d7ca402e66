"""Training of adapters on one core."""

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from tests.helpers.scripts import load_script


@pytest.fixture
def script() -> ModuleType:
    return load_script("one_core")


def test_the_product_has_the_gradients_of_its_adapters(script: ModuleType) -> None:
    torch.manual_seed(1)
    x, base, down, up = (torch.randn(n, m) for n, m in ((5, 4), (3, 4), (2, 4), (3, 2)))
    found = []
    for by_hand in (True, False):
        inputs = [tensor.clone().requires_grad_() for tensor in (x, down, up)]
        whole = base + script.LORA_SCALE * inputs[2] @ inputs[1]
        if by_hand:
            product = script.AdaptedProduct.apply(inputs[0], whole.detach(), *inputs[1:])
        else:
            product = inputs[0] @ whole.T
        product.square().sum().backward()
        found.append([tensor.grad for tensor in inputs])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_training_continues_where_the_last_run_ended(script: ModuleType, tmp_path: Path) -> None:
    def trained() -> tuple[torch.Tensor, Any]:
        weight = torch.zeros(2, requires_grad=True)
        return weight, script.Trained({"w": weight}, tmp_path / "state.pt", 0.1)

    weight, first = trained()

    def distance(batch: torch.Tensor, _number: int) -> torch.Tensor:
        return (weight - batch).square().sum()

    first.run([torch.ones(2)], distance, first.spent + 0.05)
    assert first.number > 0 and 0 < weight.mean() <= 1.5
    reached = weight.detach().clone()
    weight, second = trained()
    torch.testing.assert_close(weight, reached)
    assert second.number == first.number
    assert second.averaged(1.0)["w"].tolist() == [0.0, 0.0]
    assert second.averaged(0.0)["w"].mean() > 0
