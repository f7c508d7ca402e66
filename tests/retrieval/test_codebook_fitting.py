"""Codebooks that are fitted to a compressor's vectors, and renewed after a training."""

from pathlib import Path

import pyarrow as pa
import pytest

from cmt.config import Params
from cmt.errors import ConfigError
from cmt.lm.model import FrozenLM
from cmt.modeling.checkpoint import CompressorConfig
from cmt.modeling.codebook import Codebook
from cmt.modeling.loading import new_memory_model
from cmt.retrieval.codebook_fitting import fit_codebook, renew_codebook
from tests.helpers.facts import documents
from tests.helpers.lms import build

SECTIONS = {
    "compressor": {"window": 1, "layers": 2, "lora_rank": 2},
    "aggregator": {"blocks": 2, "lora_rank": 2},
}
PARAMS = Params.model_validate(SECTIONS)
WORDS = [
    "ferry",
    "crane",
    "mayor",
    "raft",
    "hitch",
    "harbour",
    "boat",
    "knot",
    "a",
    "the",
    "of",
    "costs",
]


@pytest.fixture(scope="module")
def lm() -> FrozenLM:
    return build("llama")


@pytest.fixture
def folder(lm: FrozenLM, tmp_path: Path) -> Path:
    """A compressor with a codebook of 8 bytes for window 1."""
    new_memory_model(lm, CompressorConfig.of(PARAMS)).save(tmp_path / "compressor")
    fit_codebook(tmp_path / "compressor", texts(60), lm=lm, params=PARAMS, parts=8)
    return tmp_path / "compressor"


def texts(count: int) -> pa.Table:
    """Documents of 12 words each."""
    rows = [
        {"doc_id": f"d{n}", "text": " ".join(WORDS[n % 12 :] + WORDS[: n % 12]) + f" {n}."}
        for n in range(count)
    ]
    return documents(rows)


def test_a_byte_encodes_sixteen_numbers_unless_the_number_of_bytes_is_given(
    folder: Path, lm: FrozenLM
) -> None:
    assert Codebook.load(folder, 2) is None
    named = Codebook.load(folder, 1)
    assert named and named.name.startswith("pq8-")
    progress: list[int] = []
    fitted = fit_codebook(folder, texts(60), lm=lm, params=PARAMS, on_progress=progress.append)
    assert fitted.name.startswith(f"pq{lm.hidden_size // 16}-")
    assert sum(progress) == 60
    loaded = Codebook.load(folder, 1)
    assert loaded and loaded.name == fitted.name
    with pytest.raises(ConfigError, match="5 equal parts"):
        fit_codebook(folder, texts(60), lm=lm, params=PARAMS, parts=5)


def test_a_training_renews_the_codebook_that_it_started_with(
    folder: Path, lm: FrozenLM, tmp_path: Path
) -> None:
    names = {}
    for kind, count in {
        "renewed": 59,
        "copied": 3,
    }.items():  # of 3 documents no codebook can be fitted
        new_memory_model(lm, CompressorConfig.of(PARAMS)).save(tmp_path / kind)
        renew_codebook(folder, tmp_path / kind, texts(count), lm=lm, params=PARAMS)
        codebook = Codebook.load(tmp_path / kind, 1)
        assert codebook and len(codebook.centroids) == 8
        names[kind] = codebook.name
    start = Codebook.load(folder, 1)
    assert start and names["copied"] == start.name != names["renewed"]
    renew_codebook(
        tmp_path, tmp_path / "copied", texts(3), lm=lm, params=PARAMS
    )  # without one nothing is written
