"""A model of the kind that its configuration names: new, or from the folder of a compressor."""

from pathlib import Path

from cmt.errors import ModelError
from cmt.lm.model import FrozenLM
from cmt.modeling.checkpoint import CompressorConfig, digest_in_use, load_checkpoint
from cmt.modeling.codebook import Codebook
from cmt.modeling.cross_encoder import CrossEncoder
from cmt.modeling.model import MemoryModel
from cmt.modeling.published import AttentionModel, WholeTextModel

# `aggregator.kind` → its model
MODELS: dict[str, type[MemoryModel]] = {
    "windows": MemoryModel,
    "attention": AttentionModel,
    "none": WholeTextModel,
}


def new_memory_model(
    lm: FrozenLM, config: CompressorConfig, digest: str = "untrained", *, trainable: bool = True
) -> MemoryModel:
    """A model with random weights; with `trainable=False` its layers have no adapters."""
    return MODELS[config.aggregator.kind](lm, config, digest, trainable=trainable)


def load_memory_model(
    folder: Path, *, lm: FrozenLM, window: int | None = None, merged: bool = False
) -> MemoryModel:
    """Load the compressor in `folder`; `window` may be a multiple or a divisor of the trained one.

    With `merged` the adapters are merged into copies of the LM's layers: the model answers faster,
    but cannot be trained or saved. Raises ModelError if the compressor is missing or damaged,
    belongs to another LM, or cannot have the window.
    """
    # 1. check that the compressor fits the LM and the window
    checkpoint = load_checkpoint(folder)
    if checkpoint.lm_digest != lm.digest:
        raise ModelError(
            f"the compressor in {folder} was trained for the LM {checkpoint.lm_digest[:12]}, "
            f"lm.source is {lm.digest[:12]}: set lm.source back, or run `cmt train` for this LM"
        )
    trained = checkpoint.config.compressor.window
    if window and window != trained and checkpoint.config.compressor.kind == "windows":
        if window % trained and trained % window:
            raise ModelError(
                f"the compressor in {folder} has a vector for {trained} tokens: set "
                f"compressor.window to {trained}, to a multiple or to a divisor of it, not to "
                f"{window}"
            )
        checkpoint = checkpoint.at_window(window)
    # 2. load its weights, its codebook and the cross-encoder
    digest = digest_in_use(folder, window=window or trained)
    model = new_memory_model(lm, checkpoint.config, digest, trainable=not merged)
    model.load_weights(checkpoint.weights, merged=merged)
    model.codebook = Codebook.load(folder, model.window)
    model.cross_encoder = CrossEncoder.load(folder, lm)
    return model.eval()
