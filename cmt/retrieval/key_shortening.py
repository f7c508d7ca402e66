"""Shorter search keys for a trained compressor: the keys of some texts in their principal directions."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cmt.errors import ConfigError
from cmt.lm.model import FrozenLM
from cmt.modeling.checkpoint import TO_KEY, load_checkpoint, save_checkpoint
from cmt.modeling.codebook import CODEBOOKS
from cmt.modeling.model import MemoryModel
from cmt.retrieval.indexer import encode_batch

_BATCH = 32  # texts
_UNCHANGED = (CODEBOOKS, "log.json", "curve.png")  # files of a compressor that are the same with shorter keys


def shorten_keys(
    folder: Path,
    output: Path,
    *,
    numbers: int,
    lm: FrozenLM,
    texts: Sequence[str],
    on_progress: Callable[[int], None] | None = None,
) -> str:
    """Write the compressor of `folder` with search keys of so many `numbers` to `output`; returns its digest.

    A key becomes its coordinates in the principal directions of the keys of `texts`, documents and questions, not
    centred, since a search compares cosines. The memories stay as they are. The card says what was done. `on_progress`
    gets the number of texts of each batch.

    Raises ConfigError if `output` is not empty, or the keys are not longer than `numbers`, ModelError as
    `MemoryModel.load`.
    """
    # 1. the keys of the texts
    if output.exists() and any(output.iterdir()):
        raise ConfigError(f"{output} is not empty: name a new folder")
    model = MemoryModel.load(folder, lm=lm, merged=True)
    if not 1 <= numbers < model.key_dim or numbers > len(texts):
        raise ConfigError(
            f"keys of {model.key_dim} numbers cannot be shortened to {numbers} by {len(texts):,} texts: choose fewer "
            "than a key has, and at most as many as there are texts"
        )
    keys = _keys(model, texts, on_progress)  # (n, p)
    # 2. their principal directions
    directions = np.linalg.svd(keys, full_matrices=False)[2][:numbers]  # (numbers, p)
    # 3. the compressor whose map to keys ends in them
    checkpoint = load_checkpoint(folder)
    to_key = checkpoint.weights[TO_KEY]  # (p, D)
    short = (torch.from_numpy(directions) @ to_key.double()).to(to_key.dtype)  # (numbers, D)
    output.mkdir(parents=True, exist_ok=True)
    for name in _UNCHANGED:
        if (folder / name).exists():
            shutil.copyfile(folder / name, output / name)
    digest = save_checkpoint(output, checkpoint.with_key_weights(short))
    _write_card(folder, output, digest, f"{numbers} of {model.key_dim}")
    return digest


def _keys(model: MemoryModel, texts: Sequence[str], on_progress: Callable[[int], None] | None) -> NDArray[np.float64]:
    """The search keys (n, p) of `texts`, in any order."""
    longest = model.config.compressor.chunk_tokens
    rows = sorted((model.lm.tokenize(text)[:longest] for text in texts), key=len)
    keys = []
    for start in range(0, len(rows), _BATCH):
        batch = rows[start : start + _BATCH]
        keys += [key for key, _ in encode_batch(model, batch, with_content=False)]
        if on_progress:
            on_progress(len(batch))
    return np.stack(keys).astype(np.float64)


def _write_card(folder: Path, output: Path, digest: str, lengths: str) -> None:
    """The card of the compressor in `folder`, which may have none, with its new digest and what was changed."""
    if not (folder / "card.md").exists():
        return
    _, _, rest = (folder / "card.md").read_text(encoding="utf-8").partition("\n")
    change = f"Its search keys have {lengths} numbers (`cmt shorten-keys`); the scores below are with all."
    (output / "card.md").write_text(f"# Compressor {digest[:12]}\n\n{change}\n{rest}", encoding="utf-8")
