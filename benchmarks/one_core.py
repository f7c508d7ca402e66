"""Training of adapters on one core, for `continue_reader.py` and `continue_judge.py`: products
without a gradient for the whole weight, a running mean of the weights, and a checkpoint.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn

from cmt.cli.output import console
from cmt.modeling.lora import LORA_SCALE

WARMUP, MEAN = 20, 0.985  # steps; share of the mean that a step keeps
EVERY = 600  # seconds between two checkpoints
PRINTED = 20  # steps between two printed losses
Batch = TypeVar("Batch")


class Trained:
    """Weights in training, at a constant rate after the warm-up."""

    def __init__(
        self,
        named: Mapping[str, Tensor],
        state: Path,
        rate: float,
        *,
        share_of: Callable[[str], float] = lambda _: 1.0,
    ) -> None:
        """`state`: file of the checkpoint, from which the training continues if it is there.
        `share_of`: name of a weight → its share of `rate`.
        """
        self.named, self.state, self.rate = dict(named), state, rate
        self.start = {name: weight.detach().clone() for name, weight in self.named.items()}
        self.mean = {name: weight.float() for name, weight in self.start.items()}
        groups = [
            {"params": [weight], "share": share_of(name)} for name, weight in self.named.items()
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=rate, weight_decay=0.0)
        self.spent, self.number = 0.0, 0  # seconds and steps of all runs
        if state.exists():
            self._restore()

    def run(
        self, batches: Sequence[Batch], loss_of: Callable[[Batch, int], Tensor], seconds: float
    ) -> None:
        """Train for `seconds` of the processor in all. `loss_of`: batch and number of the step →
        its loss.
        """
        losses, saved = list[float](), time.monotonic()
        begun = time.process_time() - self.spent
        while self.spent < seconds:
            losses.append(self._step(loss_of(batches[self.number % len(batches)], self.number)))
            self.spent = time.process_time() - begun
            if self.number % PRINTED == 0:
                mean = sum(losses[-2 * PRINTED :]) / len(losses[-2 * PRINTED :])
                console().print(
                    f"step {self.number} of {len(batches)}, {self.spent:.0f} s: loss {mean:.3f}"
                )
            if time.monotonic() - saved > EVERY:
                self._save()
                saved = time.monotonic()
        self._save()

    def averaged(self, kept: float) -> dict[str, Tensor]:
        """The running mean, mixed with a share `kept` of the weights at the start."""
        return {
            name: mean.lerp(self.start[name].float(), kept).to(self.start[name].dtype)
            for name, mean in self.mean.items()
        }

    def _step(self, loss: Tensor) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * group["share"] * min(1, (self.number + 1) / WARMUP)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(list(self.named.values()), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        kept = min(MEAN, (self.number + 1) / (self.number + 10))
        for name, weight in self.named.items():
            self.mean[name].lerp_(weight.detach().float(), 1 - kept)
        self.number += 1
        return loss.item()

    def _restore(self) -> None:
        stored = torch.load(self.state, weights_only=True)
        for name, weight in stored["named"].items():
            self.named[name].data = weight
        self.mean, self.spent, self.number = stored["mean"], stored["spent"], stored["number"]
        self.optimizer.load_state_dict(stored["optimizer"])

    def _save(self) -> None:
        new = self.state.with_suffix(".new")
        values = {"named": self.named, "mean": self.mean, "optimizer": self.optimizer.state_dict()}
        torch.save(values | {"spent": self.spent, "number": self.number}, new)
        new.replace(self.state)


def adapted_layers(module: nn.Module) -> list[Any]:
    """The layers of `module` with adapters; their `forward` now uses a `whole_weight`, which
    `merge` computes.
    """
    layers: list[Any] = [layer for layer in module.modules() if isinstance(layer, Linear)]
    for layer in layers:
        layer.forward = _forward_of(layer)
    return layers


@torch.no_grad()
def merge(layers: Sequence[Any]) -> None:
    """Compute W + 2 B A of every adapted layer, once a step."""
    for layer in layers:
        change = LORA_SCALE * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
        layer.whole_weight = (layer.base_layer.weight.float() + change).to(torch.bfloat16)


class AdaptedProduct(torch.autograd.Function):
    """x · (W + 2 B A)ᵀ with gradients for x, A and B, but none for the whole product."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, whole: Tensor, down: Tensor, up: Tensor) -> Tensor:
        """The product with `whole`, W + 2 B A."""
        ctx.save_for_backward(x, whole, down, up)
        return F.linear(x, whole)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of x, W (None), A and B."""
        x, whole, down, up = ctx.saved_tensors
        gradient, inputs = gradients[0].flatten(0, -2), x.flatten(0, -2)  # (N, out), (N, in)
        of_down = LORA_SCALE * ((gradient @ up.to(gradient.dtype)).T @ inputs)
        of_up = LORA_SCALE * (gradient.T @ F.linear(inputs, down.to(inputs.dtype)))
        return gradients[0] @ whole, None, of_down.float(), of_up.float()


def _forward_of(layer: Any) -> Callable[..., Tensor]:
    down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight

    def forward(x: Tensor, *_: Any, **_options: Any) -> Tensor:
        product: Tensor = AdaptedProduct.apply(  # type: ignore[no-untyped-call]
            x.to(torch.bfloat16), layer.whole_weight, down, up
        )
        return product

    return forward
