"""Product quantisation: what a codebook encodes, how near it comes, and where it is kept."""

from pathlib import Path

import numpy as np
import pytest

from cmt.bank.quantization import vector_bytes
from cmt.errors import ConfigError, ModelError
from cmt.modeling.codebook import CODEBOOKS, Codebook, stored_codes


def vectors(count: int, *, dim: int = 16, seed: int = 0) -> np.ndarray:
    """(count, dim) around forty points."""
    random = np.random.default_rng(seed)
    points = np.random.default_rng(7).standard_normal((40, dim))
    return (
        points[random.integers(0, 40, count)] + 0.1 * random.standard_normal((count, dim))
    ).astype(np.float32)


@pytest.fixture(scope="module")
def codebook() -> Codebook:
    return Codebook.fit(vectors(2_000), parts=4, seed=0)


def test_a_vector_has_a_byte_a_part_and_comes_back_near(codebook: Codebook) -> None:
    unseen = vectors(50, seed=1)
    blob = codebook.encode(unseen)
    decoded = codebook.decode(blob)
    assert len(blob) == 50 * 4 == 50 * vector_bytes(codebook.name, 16)
    assert decoded.shape == unseen.shape
    assert ((decoded - unseen) ** 2).sum() < 0.1 * ((unseen - unseen.mean(0)) ** 2).sum()


def test_each_part_becomes_the_nearest_of_its_centroids(codebook: Codebook) -> None:
    unseen = vectors(5, seed=2)
    numbers = np.frombuffer(codebook.encode(unseen), np.uint8).reshape(5, 4)
    for row, vector in enumerate(unseen):
        for part in range(4):
            distances = (
                (codebook.centroids[part].astype(np.float32) - vector[4 * part : 4 * part + 4]) ** 2
            ).sum(1)
            assert numbers[row, part] == distances.argmin()


def test_the_same_vectors_give_the_same_codebook_and_others_another_name(
    codebook: Codebook,
) -> None:
    assert Codebook.fit(vectors(2_000), parts=4, seed=0).name == codebook.name
    assert Codebook.fit(vectors(2_000, seed=4), parts=4, seed=0).name != codebook.name
    assert codebook.name.startswith("pq4-")


def test_a_folder_keeps_a_codebook_for_each_window(codebook: Codebook, tmp_path: Path) -> None:
    assert Codebook.load(tmp_path, 8) is None
    other = Codebook.fit(vectors(2_000), parts=2, seed=0)
    codebook.save(tmp_path, 8)
    other.save(tmp_path, 16)
    for window, saved in ((8, codebook), (16, other)):
        loaded = Codebook.load(tmp_path, window)
        assert loaded is not None and loaded.name == saved.name
    assert Codebook.load(tmp_path, 4) is None


def test_a_damaged_file_is_named(codebook: Codebook, tmp_path: Path) -> None:
    codebook.save(tmp_path, 8)
    content = (tmp_path / CODEBOOKS).read_bytes()
    (tmp_path / CODEBOOKS).write_bytes(content[:-10])
    with pytest.raises(ModelError, match=r"codebooks\.safetensors is damaged .*run `cmt codebook`"):
        Codebook.load(tmp_path, 8)
    Codebook(codebook.centroids[:, :10]).save(tmp_path / "short", 8)
    with pytest.raises(ModelError, match="has no codebook in window-8"):
        Codebook.load(tmp_path / "short", 8)


def test_what_cannot_be_fitted_is_refused() -> None:
    with pytest.raises(ConfigError, match="16 numbers cannot be cut into 5 equal parts"):
        Codebook.fit(vectors(300), parts=5, seed=0)
    with pytest.raises(ConfigError, match="at least 256 vectors, the documents give 100"):
        Codebook.fit(vectors(100), parts=4, seed=0)


@pytest.mark.parametrize(
    ("codes", "keep_text", "with_codebook", "without"),
    [
        ("auto", True, "pq4-", "int8"),
        ("auto", False, "int8", "int8"),
        ("int4", True, "int4", "int4"),
    ],
)
def test_the_number_format_is_the_codebook_where_it_can_be(
    codebook: Codebook, codes: str, keep_text: bool, with_codebook: str, without: str
) -> None:
    assert stored_codes(codes, codebook, keep_text=keep_text).startswith(with_codebook)
    assert stored_codes(codes, None, keep_text=keep_text) == without
    assert stored_codes("pq", codebook, keep_text=keep_text) == codebook.name
    with pytest.raises(ModelError, match="run `cmt codebook`, or set bank.codes to auto"):
        stored_codes("pq", None, keep_text=keep_text)
