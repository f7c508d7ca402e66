"""The head by which the statements of two documents are compared, beside the weights of a compressor.

It is linear: weights for the features of `cmt.answering.statements`, and two directions of ψ's states, one for the
tokens of the later answer and one for all tokens of the later text. `benchmarks/changes.py` fits it.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from cmt.common.storage import write_bytes
from cmt.errors import ModelError

COMPARISON = "comparison.safetensors"
"""File of the head beside the weights of a compressor."""


@dataclass(frozen=True)
class ComparisonHead:
    """Log-odds that the answer of the later of two statements holds."""

    directions: Tensor
    """(2, D): weights of the mean state over the later answer, and over the later text."""
    features: tuple[float, ...]
    """Weights of the features."""
    constant: float

    def save(self, folder: Path) -> None:
        """Write the head beside the compressor in `folder`."""
        features = torch.tensor([*self.features, self.constant])
        write_bytes(folder / COMPARISON, save({"directions": self.directions.contiguous(), "features": features}))

    @classmethod
    def load(cls, folder: Path, hidden_size: int) -> "ComparisonHead | None":
        """The head of the compressor in `folder`, None without one. Raises ModelError if it is damaged."""
        path = folder / COMPARISON
        if not path.exists():
            return None
        try:
            tensors = load_file(path)
            directions, features = tensors["directions"].float(), tensors["features"].tolist()
            if directions.shape != (2, hidden_size):
                raise ValueError(f"directions have the shape {tuple(directions.shape)}, not (2, {hidden_size})")
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            reason = " ".join(str(error).split())
            raise ModelError(f"{path} is damaged ({reason}): restore it, or delete it") from None
        return cls(directions, tuple(features[:-1]), features[-1])
