"""The folder of a compressor: its digest, and what is refused."""

import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import torch

from cmt.config import Params
from cmt.errors import ModelError
from cmt.modeling.checkpoint import (
    CONFIG,
    POSITION_WEIGHTS,
    SUMS,
    WEIGHTS,
    Checkpoint,
    CompressorConfig,
    checkpoint_digest,
    digest_in_use,
    load_checkpoint,
    save_checkpoint,
)
from cmt.modeling.model import MemoryModel
from tests.helpers.lms import TinyLm
from tests.helpers.models import CONFIGS, make_config, make_model


def make_checkpoint() -> Checkpoint:
    places = torch.arange(2.0 * make_config().compressor.window).view(-1, 1)
    return Checkpoint("lm digest", make_config(), {POSITION_WEIGHTS: places, "other": torch.ones(3)})


def test_a_checkpoint_is_loaded_as_it_was_saved(tmp_path: Path) -> None:
    saved = make_checkpoint()
    digest = save_checkpoint(tmp_path / "new" / "folder", saved)
    loaded = load_checkpoint(tmp_path / "new" / "folder")
    assert (loaded.lm_digest, loaded.config) == (saved.lm_digest, saved.config)
    assert loaded.weights.keys() == saved.weights.keys()
    assert all(torch.equal(loaded.weights[name], saved.weights[name]) for name in saved.weights)
    assert checkpoint_digest(tmp_path / "new" / "folder") == digest
    assert {file.name for file in (tmp_path / "new" / "folder").iterdir()} == {WEIGHTS, CONFIG, SUMS}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_configuration_survives_json(config: CompressorConfig) -> None:
    assert CompressorConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_the_configuration_is_that_of_the_parameters() -> None:
    params = Params.model_validate({"compressor": {"layers": 3}, "objective": {"alpha": 0.5}})
    config = CompressorConfig.of(params)
    assert (config.compressor.layers, config.objective.alpha) == (3, 0.5)
    assert (config.aggregator, config.alignment) == (params.aggregator, params.alignment)


def test_a_narrower_window_has_the_means_of_the_weights_of_its_positions() -> None:
    checkpoint = make_checkpoint()
    window = checkpoint.config.compressor.window
    narrow = checkpoint.at_window(window // 2)
    expected = checkpoint.weights[POSITION_WEIGHTS].view(window // 2, 2, 2, -1).mean(1).flatten()
    torch.testing.assert_close(narrow.weights[POSITION_WEIGHTS].flatten(), expected)
    assert torch.equal(
        narrow.at_window(1).weights[POSITION_WEIGHTS].flatten(),
        checkpoint.at_window(1).weights[POSITION_WEIGHTS].flatten(),
    )


def test_a_wider_window_repeats_the_weights_of_its_positions() -> None:
    checkpoint = make_checkpoint()
    window = checkpoint.config.compressor.window
    wide = checkpoint.at_window(2 * window)
    assert wide.config.compressor.window == 2 * window
    expected = checkpoint.weights[POSITION_WEIGHTS].view(window, 2).repeat_interleave(2, 0).flatten()
    assert torch.equal(wide.weights[POSITION_WEIGHTS].flatten(), expected)
    assert torch.equal(wide.weights["other"], checkpoint.weights["other"])
    assert checkpoint.config.compressor.window == window


def test_the_digest_covers_weights_and_configuration_only(tiny_lm: TinyLm, tmp_path: Path) -> None:
    lm, config = tiny_lm("llama"), make_config()
    digest = make_model(lm, config).save(tmp_path / "a")
    assert make_model(lm, config).save(tmp_path / "b") == digest
    assert MemoryModel.load(tmp_path / "a", lm=lm).save(tmp_path / "c") == digest
    (tmp_path / "a/card.md").write_text("# A card")
    assert MemoryModel.load(tmp_path / "a", lm=lm).digest == digest
    moved = replace(config, compressor=config.compressor.model_copy(update={"path": Path("elsewhere")}))
    assert make_model(lm, moved).save(tmp_path / "d") == digest
    other = make_model(lm, config)
    other.log_temperature.data += 1.0
    assert other.save(tmp_path / "e") != digest
    assert make_model(lm, make_config(layers=1)).save(tmp_path / "f") != digest


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG, SUMS])
def test_a_truncated_file_is_refused(tiny_lm: TinyLm, tmp_path: Path, name: str) -> None:
    make_model(tiny_lm("llama"), make_config()).save(tmp_path)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match=r"is damaged .*restore the folder or run `cmt train`"):
        MemoryModel.load(tmp_path, lm=tiny_lm("llama"))


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG])
def test_a_changed_byte_is_noticed_at_load(tiny_lm: TinyLm, tmp_path: Path, name: str) -> None:
    make_model(tiny_lm("llama"), make_config()).save(tmp_path)
    content = (tmp_path / name).read_bytes()
    changed = content.replace(b'"beta": 0.3', b'"beta": 0.4') if name == CONFIG else content[:-1] + b"\x07"
    assert len(changed) == len(content) and changed != content
    (tmp_path / name).write_bytes(changed)
    with pytest.raises(ModelError, match=rf"is damaged \({name} changed since SHA256SUMS was written\)"):
        MemoryModel.load(tmp_path, lm=tiny_lm("llama"))
    (tmp_path / name).write_bytes(content)
    assert MemoryModel.load(tmp_path, lm=tiny_lm("llama"))


def test_the_hashes_are_those_of_sha256sum(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, make_checkpoint())
    lines = [line.split("  ") for line in (tmp_path / SUMS).read_text().splitlines()]
    assert lines == [[sha256((tmp_path / name).read_bytes()).hexdigest(), name] for name in (WEIGHTS, CONFIG)]


@pytest.mark.parametrize("folder", ["compressor", "rag"])
def test_the_shipped_compressors_are_those_of_their_hashes(folder: str) -> None:
    shipped = Path(__file__).parents[2] / "data" / folder
    assert (shipped / SUMS).exists()
    design = json.loads((shipped / CONFIG).read_text())["design"]
    assert load_checkpoint(shipped).config.to_dict() == design  # a renamed parameter keeps its stored name


def test_a_compressor_of_an_earlier_version_has_no_hashes(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, make_checkpoint())
    (tmp_path / SUMS).unlink()
    assert load_checkpoint(tmp_path).lm_digest == "lm digest"


@pytest.mark.parametrize(
    "record", ["5", "[]", "{}", '{"lm_digest": "a", "design": {}}', '{"lm_digest": 1, "design": 2}']
)
def test_a_foreign_configuration_is_refused(tiny_lm: TinyLm, tmp_path: Path, record: str) -> None:
    make_model(tiny_lm("llama"), make_config()).save(tmp_path)
    (tmp_path / CONFIG).write_text(record)
    with pytest.raises(ModelError, match="is damaged"):
        MemoryModel.load(tmp_path, lm=tiny_lm("llama"))


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG])
def test_a_missing_compressor_suggests_a_training(tiny_lm: TinyLm, tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError, match=rf"no compressor in .*none \({CONFIG} is missing\): run `cmt train`"):
        MemoryModel.load(tmp_path / "none", lm=tiny_lm("llama"))
    make_model(tiny_lm("llama"), make_config()).save(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ModelError, match="run `cmt train`, or set compressor.path"):
        MemoryModel.load(tmp_path, lm=tiny_lm("llama"))


def test_weights_of_another_configuration_are_refused(tiny_lm: TinyLm, tmp_path: Path) -> None:
    make_model(tiny_lm("llama"), make_config()).save(tmp_path)
    record = json.loads((tmp_path / CONFIG).read_text())
    record["design"]["alignment"]["slots"] = 4
    (tmp_path / CONFIG).write_text(json.dumps(record))
    (tmp_path / SUMS).unlink()
    with pytest.raises(ModelError, match=r"1 tensors differ, alignment\.slots first"):
        MemoryModel.load(tmp_path, lm=tiny_lm("llama"))


@pytest.mark.parametrize("factor", [1, 2])
def test_the_digest_in_use_is_known_without_loading(tiny_lm: TinyLm, tmp_path: Path, factor: int) -> None:
    model = make_model(tiny_lm("llama"), make_config())
    model.save(tmp_path)
    window = factor * model.window
    digest = digest_in_use(tmp_path, window=window)
    assert digest == MemoryModel.load(tmp_path, lm=model.lm, window=window).digest
    assert (digest == checkpoint_digest(tmp_path)) is (factor == 1)


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG])
def test_the_digest_of_an_incomplete_folder_is_refused(tmp_path: Path, name: str) -> None:
    save_checkpoint(tmp_path, make_checkpoint())
    (tmp_path / name).unlink()
    with pytest.raises(ModelError, match=f"{name} cannot be read"):
        digest_in_use(tmp_path, window=4)
