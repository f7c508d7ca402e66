"""The folder of a compressor: its configuration and its trained weights."""

import hashlib
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from cmt.common.digests import sha256_file, sha256_hex
from cmt.common.storage import read_json, write_bytes
from cmt.config import AggregatorParams, AlignmentParams, CompressorParams, ObjectiveParams, Params
from cmt.errors import ModelError

WEIGHTS, CONFIG = "compressor.safetensors", "config.json"
TO_KEY = "compressor.to_key.weight"  # name of the map from a mean state to a search key, (p, D)
SUMS = "SHA256SUMS"  # file with the hashes of both files, as `sha256sum -c` reads them
POSITION_WEIGHTS = "aggregator.place.weight"
# name of `objective.uniformity_weight` in CONFIG, whose bytes are part of a compressor's digest
STORED_UNIFORMITY_WEIGHT = "spread"
# row of a model card (`cmt.training.model_card`) that lists the slices trained on
SLICES_ROW = "slices of the stream"


@dataclass(frozen=True)
class CompressorConfig:
    """The parameters that shape a compressor's weights, stored next to them."""

    compressor: CompressorParams
    aggregator: AggregatorParams
    alignment: AlignmentParams
    objective: ObjectiveParams
    windows: tuple[
        int, ...
    ] = ()  # that the weights were trained at, ascending; empty: only `compressor.window`
    key_dim: int | None = None  # p: numbers of a search key; None: D, the size of a hidden state

    @classmethod
    def of(cls, params: Params) -> "CompressorConfig":
        """The sections of `params` that shape the weights."""
        windows = tuple(sorted(params.train.window_frequencies))
        return cls(
            params.compressor, params.aggregator, params.alignment, params.objective, windows
        )

    def for_layers(self, count: int) -> "CompressorConfig":
        """These parameters for an LM of `count` layers, with numbers of layers in place of 0."""
        layers = self.compressor.layers or max(1, round(0.4 * count))
        blocks = self.aggregator.blocks or max(1, round(count / 3))
        compressor = self.compressor.model_copy(update={"layers": layers})
        return replace(
            self,
            compressor=compressor,
            aggregator=self.aggregator.model_copy(update={"blocks": blocks}),
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON values for `config.json`, without `compressor.path`, which depends on the
        machine.
        """
        names = ("compressor", "aggregator", "alignment", "objective")
        sections = {name: getattr(self, name).model_dump(mode="json") for name in names}
        del sections["compressor"]["path"]
        sections["objective"][STORED_UNIFORMITY_WEIGHT] = sections["objective"].pop(
            "uniformity_weight"
        )
        windows = {"windows": list(self.windows)} if self.windows else {}
        return sections | windows | ({"key_dim": self.key_dim} if self.key_dim else {})

    @classmethod
    def from_dict(cls, sections: dict[str, Any]) -> "CompressorConfig":
        """The inverse of `to_dict`."""
        objective = dict(sections["objective"])
        objective["uniformity_weight"] = objective.pop(STORED_UNIFORMITY_WEIGHT)
        return cls(
            CompressorParams(**sections["compressor"]),
            AggregatorParams(**sections["aggregator"]),
            AlignmentParams(**sections["alignment"]),
            ObjectiveParams(**objective),
            tuple(sections.get("windows", ())),
            sections.get("key_dim"),
        )


class Checkpoint(NamedTuple):
    """Content of a compressor's folder."""

    lm_digest: str  # digest of the LM that the compressor was trained for
    config: CompressorConfig
    weights: dict[str, Tensor]

    def at_window(self, window: int) -> "Checkpoint":
        """This compressor with `window`, a multiple or a divisor of the trained window."""
        weights = self.weights
        if (positions := weights.get(POSITION_WEIGHTS)) is not None:
            weights = weights | {POSITION_WEIGHTS: position_weights_at(positions, window)}
        compressor = self.config.compressor.model_copy(update={"window": window})
        return self._replace(config=replace(self.config, compressor=compressor), weights=weights)


def position_weights_at(weights: Tensor, window: int) -> Tensor:
    """Weights (2·W, D) of the scores of the W positions in a window, as those (2·`window`, D) of
    another window.

    Neighbouring positions of a wider window share the weights of one position; a position of a
    narrower window has the mean of the weights that it replaces.
    """
    positions = torch.unflatten(weights, 0, (-1, 2))  # (W, 2, D)
    if window >= len(positions):
        return positions.repeat_interleave(window // len(positions), 0).flatten(0, 1)
    return torch.unflatten(positions, 0, (window, -1)).mean(1).flatten(0, 1)


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read the compressor in `folder`. Raises ModelError if a file is missing, damaged or not as it
    was written.
    """
    try:
        record = read_json(folder / CONFIG, dict[str, Any])
        config = CompressorConfig.from_dict(record["design"])
        checkpoint = Checkpoint(record["lm_digest"], config, load_file(folder / WEIGHTS))
        if (folder / SUMS).exists():
            recorded = [
                line.partition("  ")
                for line in (folder / SUMS).read_text(encoding="utf-8").splitlines()
            ]
            sums = {name: sha256 for sha256, _, name in recorded}
            if changed := [
                name for name in (CONFIG, WEIGHTS) if sums.get(name) != sha256_file(folder / name)
            ]:
                raise ValueError(f"{', '.join(changed)} changed since {SUMS} was written")
        for name, weight in checkpoint.weights.items():  # every answer would be NaN
            if weight.is_floating_point() and not torch.isfinite(weight).all():
                raise ValueError(f"the weight {name} holds NaN or infinite numbers")
    except FileNotFoundError as error:
        missing = Path(error.filename or WEIGHTS).name
        raise ModelError(
            f"no compressor in {folder} ({missing} is missing): run `cmt train`, or set "
            "compressor.path"
        ) from None
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise _damaged(folder, error) from None
    return checkpoint


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> str:
    """Write `checkpoint` to `folder`, which is created if missing; returns its digest."""
    record = {"format": 1, "lm_digest": checkpoint.lm_digest, "design": checkpoint.config.to_dict()}
    contents = {
        WEIGHTS: weights_bytes(checkpoint.weights),
        CONFIG: json.dumps(record, indent=2).encode() + b"\n",
    }
    sums = "".join(f"{sha256_hex(content)}  {name}\n" for name, content in contents.items())
    write_bytes(
        folder / SUMS, sums.encode()
    )  # first: files of two compressors never go together unnoticed
    for name, content in contents.items():
        write_bytes(folder / name, content)
    return checkpoint_digest(folder)


def weights_bytes(tensors: dict[str, Tensor]) -> bytes:
    """The content of the file WEIGHTS."""
    return save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()})


def checkpoint_digest(folder: Path) -> str:
    """SHA-256 of a compressor's weights and configuration. Raises ModelError if a file is
    missing.
    """
    digest = hashlib.sha256()
    for name in (WEIGHTS, CONFIG):
        try:
            digest.update((folder / name).read_bytes())
        except OSError:
            raise ModelError(
                f"no compressor in {folder} ({name} cannot be read): run `cmt train`, or set "
                "compressor.path"
            ) from None
    return digest.hexdigest()


def digest_in_use(folder: Path, *, window: int) -> str:
    """The digest of a compressor at `window`, only from the files. Raises ModelError as
    `checkpoint_digest`.
    """
    digest = checkpoint_digest(folder)
    try:
        trained = CompressorConfig.from_dict(
            read_json(folder / CONFIG, dict[str, Any])["design"]
        ).compressor
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(folder, error) from None
    if trained.kind != "windows" or window == trained.window:
        return digest
    # the same weights write other memories at another window
    return sha256_hex(f"{digest} window {window}")


def _damaged(folder: Path, error: Exception) -> ModelError:
    reason = " ".join(str(error).split())
    return ModelError(
        f"the compressor in {folder} is damaged ({reason}): restore the folder or run `cmt train`"
    )


def seen_slices(folder: Path) -> list[str]:
    """The slices of the stream that a compressor's card names; none without a card. Raises
    ModelError.
    """
    try:
        card = (folder / "card.md").read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ModelError(
            f"{folder / 'card.md'} cannot be read ({reason}): check its rights, or restore it"
        ) from None
    row = re.search(rf"^\| {SLICES_ROW} \| (?P<slices>.+) \|$", card, re.MULTILINE)
    return row["slices"].split(", ") if row else []
