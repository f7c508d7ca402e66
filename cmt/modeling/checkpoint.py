"""The folder of a compressor: what it was trained as, and its weights."""

import hashlib
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from cmt.config import AggregatorParams, AlignmentParams, CompressorParams, ObjectiveParams, Params
from cmt.errors import ModelError

WEIGHTS, CONFIG = "compressor.safetensors", "config.json"
PLACES = "aggregator.place.weight"


@dataclass(frozen=True)
class CompressorConfig:
    """What a compressor was trained as; travels with its weights."""

    compressor: CompressorParams
    aggregator: AggregatorParams
    alignment: AlignmentParams
    objective: ObjectiveParams

    @classmethod
    def of(cls, params: Params) -> "CompressorConfig":
        """The parts of `params` that shape the weights."""
        return cls(params.compressor, params.aggregator, params.alignment, params.objective)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for `config.json`; the folder it happens to lie in is no part of it."""
        parts = {name: getattr(self, name).model_dump(mode="json") for name in self.__dataclass_fields__}
        del parts["compressor"]["path"]
        return parts

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> "CompressorConfig":
        """The inverse of `to_dict`."""
        return cls(
            CompressorParams(**raw["compressor"]),
            AggregatorParams(**raw["aggregator"]),
            AlignmentParams(**raw["alignment"]),
            ObjectiveParams(**raw["objective"]),
        )


class Checkpoint(NamedTuple):
    """What the folder of a compressor holds."""

    lm_digest: str
    """Of the LM that it was trained for."""
    config: CompressorConfig
    weights: dict[str, Tensor]

    def widened(self, window: int) -> "Checkpoint":
        """With fewer vectors: what is scored by its place in a window now shares the score of one place."""
        config, weights = self.config, self.weights
        trained = config.compressor.window
        if (places := weights.get(PLACES)) is not None:
            wider = torch.unflatten(places, 0, (trained, 2)).repeat_interleave(window // trained, 0).flatten(0, 1)
            weights = weights | {PLACES: wider}
        wide = config.compressor.model_copy(update={"window": window})
        return self._replace(config=replace(config, compressor=wide), weights=weights)


def load_checkpoint(folder: Path) -> Checkpoint:
    """ModelError when something is missing or damaged."""
    try:
        record = json.loads((folder / CONFIG).read_text())
        return Checkpoint(
            record["lm_digest"], CompressorConfig.from_dict(record["design"]), load_file(folder / WEIGHTS)
        )
    except FileNotFoundError as error:
        missing = Path(error.filename or WEIGHTS).name
        raise ModelError(
            f"no compressor in {folder} ({missing} is missing): run `cmt train`, or set compressor.path"
        ) from None
    except (SafetensorError, ValueError, KeyError, TypeError, OSError) as error:
        raise ModelError(
            f"the compressor in {folder} is damaged ({error}): restore the folder or run `cmt train`"
        ) from None


def save_checkpoint(folder: Path, trained: Checkpoint) -> str:
    """Write it; returns the digest."""
    folder.mkdir(parents=True, exist_ok=True)
    record = {"format": 1, "lm_digest": trained.lm_digest, "design": trained.config.to_dict()}
    partial = folder / f".{CONFIG}.partial"
    partial.write_text(json.dumps(record, indent=2) + "\n")
    _settle(partial, folder / CONFIG)
    write_weights(folder, trained.weights)
    return checkpoint_digest(folder)


def write_weights(folder: Path, tensors: dict[str, Tensor]) -> None:
    """Write `tensors` as a compressor's weights, whole or not at all."""
    partial = folder / f".{WEIGHTS}.partial"
    save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, partial)
    _settle(partial, folder / WEIGHTS)


def checkpoint_digest(folder: Path) -> str:
    """sha256 over a compressor's weights and design."""
    digest = hashlib.sha256()
    for name in (WEIGHTS, CONFIG):
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()


def _settle(partial: Path, path: Path) -> None:
    with partial.open("rb") as written:
        os.fsync(written.fileno())
    partial.replace(path)
