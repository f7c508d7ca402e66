"""Search keys of fewer numbers: what stays, and how near searches come."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cmt.errors import ConfigError, ModelError
from cmt.lm.model import FrozenLM
from cmt.modeling.checkpoint import SLICES_ROW, TO_KEY, load_checkpoint, seen_slices
from cmt.modeling.model import MemoryModel
from cmt.retrieval.indexer import encode_batch
from cmt.retrieval.key_shortening import shorten_keys
from tests.retrieval.test_indexer import model

TinyLm = Callable[[str], FrozenLM]
SUBJECTS = ["ferry", "crane", "mayor", "raft", "hitch", "harbour", "boat", "knot"]
TEXTS = [f"The {subject} of {place} costs {price}." for subject in SUBJECTS for place in "ABC" for price in "12"]


@pytest.fixture
def folder(tiny_lm: TinyLm, tmp_path: Path) -> Path:
    model(tiny_lm("llama")).save(tmp_path / "full")
    (tmp_path / "full/card.md").write_text(
        f"# Compressor 0123456789ab\n\n| | |\n|---|---|\n| {SLICES_ROW} | 2031-01/0001 |\n"
    )
    (tmp_path / "full/log.json").write_text("[]\n")
    return tmp_path / "full"


def keys(folder: Path, lm: FrozenLM, texts: list[str]) -> np.ndarray:
    """(n, p)."""
    loaded = MemoryModel.load(folder, lm=lm, merged=True)
    return np.stack([key for key, _ in encode_batch(loaded, [lm.tokenize(text) for text in texts], with_content=False)])


def test_short_keys_are_the_long_ones_in_their_principal_directions(
    folder: Path, tiny_lm: TinyLm, tmp_path: Path
) -> None:
    lm = tiny_lm("llama")
    digest = shorten_keys(folder, tmp_path / "short", numbers=20, lm=lm, texts=TEXTS)
    long, short = (keys(of, lm, TEXTS) for of in (folder, tmp_path / "short"))
    assert (long.shape, short.shape) == ((48, 32), (48, 20))
    np.testing.assert_allclose(np.linalg.norm(short, axis=1), 1.0, atol=1e-5)
    directions = np.linalg.svd(long, full_matrices=False)[2][:20]
    projected = long @ directions.T
    projected /= np.linalg.norm(projected, axis=1, keepdims=True)
    np.testing.assert_allclose(short @ short.T, projected @ projected.T, atol=0.02)  # weights are bfloat16
    assert load_checkpoint(tmp_path / "short").config.key_dim == 20
    assert MemoryModel.load(tmp_path / "short", lm=lm).digest == digest


def test_everything_but_the_keys_stays(folder: Path, tiny_lm: TinyLm, tmp_path: Path) -> None:
    lm = tiny_lm("llama")
    shorten_keys(folder, tmp_path / "short", numbers=8, lm=lm, texts=TEXTS)
    before, after = load_checkpoint(folder).weights, load_checkpoint(tmp_path / "short").weights
    assert [name for name in before if not before[name].equal(after[name])] == [TO_KEY]
    assert (tmp_path / "short/log.json").read_text() == "[]\n"
    assert not (tmp_path / "short/codebooks.safetensors").exists()


def test_the_card_names_the_lengths_and_still_the_slices(folder: Path, tiny_lm: TinyLm, tmp_path: Path) -> None:
    digest = shorten_keys(folder, tmp_path / "short", numbers=8, lm=tiny_lm("llama"), texts=TEXTS)
    card = (tmp_path / "short/card.md").read_text()
    assert card.startswith(f"# Compressor {digest[:12]}\n")
    assert "Its search keys have 8 of 32 numbers" in card
    assert seen_slices(tmp_path / "short") == ["2031-01/0001"]


def test_a_compressor_without_a_card_is_shortened(folder: Path, tiny_lm: TinyLm, tmp_path: Path) -> None:
    (folder / "card.md").unlink()
    shorten_keys(folder, tmp_path / "short", numbers=8, lm=tiny_lm("llama"), texts=TEXTS)
    assert not (tmp_path / "short/card.md").exists()


@pytest.mark.parametrize("numbers", [0, 32, 49])
def test_a_length_that_does_not_fit_is_refused(folder: Path, tiny_lm: TinyLm, tmp_path: Path, numbers: int) -> None:
    with pytest.raises(ConfigError, match=f"cannot be shortened to {numbers} by 48 texts"):
        shorten_keys(folder, tmp_path / "short", numbers=numbers, lm=tiny_lm("llama"), texts=TEXTS)
    assert not (tmp_path / "short").exists()


def test_a_folder_in_use_is_not_overwritten(folder: Path, tiny_lm: TinyLm) -> None:
    with pytest.raises(ConfigError, match="is not empty"):
        shorten_keys(folder, folder, numbers=8, lm=tiny_lm("llama"), texts=TEXTS)


def test_another_length_of_the_weights_is_refused(folder: Path, tiny_lm: TinyLm, tmp_path: Path) -> None:
    lm = tiny_lm("llama")
    shorten_keys(folder, tmp_path / "short", numbers=8, lm=lm, texts=TEXTS)
    weights = MemoryModel.load(tmp_path / "short", lm=lm).trained_tensors()
    with pytest.raises(ModelError, match="to_key"):
        MemoryModel.load(folder, lm=lm).load_tensors(weights)
