"""The folder of a compressor: its digest, and what is refused."""

import errno
import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import torch

from cmt.errors import ModelError
from cmt.modeling.checkpoint import (
    CONFIG,
    POSITION_WEIGHTS,
    SUMS,
    WEIGHTS,
    Checkpoint,
    checkpoint_digest,
    digest_in_use,
    load_checkpoint,
    save_checkpoint,
)
from cmt.modeling.loading import load_memory_model, new_memory_model
from tests.helpers.lms import TinyLm
from tests.helpers.models import make_config, make_model


def make_checkpoint() -> Checkpoint:
    places = torch.arange(2.0 * make_config().compressor.window).view(-1, 1)
    return Checkpoint(
        "lm digest", make_config(), {POSITION_WEIGHTS: places, "other": torch.ones(3)}
    )


def test_a_checkpoint_is_loaded_as_it_was_saved(tmp_path: Path) -> None:
    saved = make_checkpoint()
    digest = save_checkpoint(tmp_path / "new" / "folder", saved)
    loaded = load_checkpoint(tmp_path / "new" / "folder")
    assert (loaded.lm_digest, loaded.config) == (saved.lm_digest, saved.config)
    assert loaded.weights.keys() == saved.weights.keys()
    assert all(torch.equal(loaded.weights[name], saved.weights[name]) for name in saved.weights)
    assert checkpoint_digest(tmp_path / "new" / "folder") == digest
    assert {file.name for file in (tmp_path / "new" / "folder").iterdir()} == {
        WEIGHTS,
        CONFIG,
        SUMS,
    }
    lines = [line.split("  ") for line in (tmp_path / "new/folder" / SUMS).read_text().splitlines()]
    files = [tmp_path / "new/folder" / name for name in (WEIGHTS, CONFIG)]
    assert lines == [[sha256(file.read_bytes()).hexdigest(), file.name] for file in files]


@pytest.mark.parametrize("written", [0, 1, 2])
def test_files_of_two_compressors_are_never_loaded_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    save_checkpoint(tmp_path, make_checkpoint())
    left = iter(range(written))

    def fill_disk(path: Path, data: bytes) -> None:
        if next(left, None) is None:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        path.write_bytes(data)

    other = make_checkpoint()._replace(lm_digest="another", weights={"other": torch.zeros(3)})
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr("cmt.modeling.checkpoint.write_bytes", fill_disk)
        save_checkpoint(tmp_path, other)
    if written:
        with pytest.raises(
            ModelError, match=r"changed since SHA256SUMS was written.*run `cmt train`"
        ):
            load_checkpoint(tmp_path)
    else:
        assert load_checkpoint(tmp_path).lm_digest == "lm digest"


def test_another_window_has_the_means_or_copies_of_the_weights_of_its_positions() -> None:
    checkpoint = make_checkpoint()
    window, weights = checkpoint.config.compressor.window, checkpoint.weights[POSITION_WEIGHTS]
    narrow, wide = checkpoint.at_window(window // 2), checkpoint.at_window(2 * window)
    means = weights.view(window // 2, 2, 2, -1).mean(1).flatten()
    torch.testing.assert_close(narrow.weights[POSITION_WEIGHTS].flatten(), means)
    twice, once = narrow.at_window(1), checkpoint.at_window(1)
    assert torch.equal(twice.weights[POSITION_WEIGHTS], once.weights[POSITION_WEIGHTS])
    copies = weights.view(window, 2).repeat_interleave(2, 0).flatten()
    assert torch.equal(wide.weights[POSITION_WEIGHTS].flatten(), copies)
    assert torch.equal(wide.weights["other"], checkpoint.weights["other"])
    assert (wide.config.compressor.window, checkpoint.config.compressor.window) == (
        2 * window,
        window,
    )


def test_the_digest_covers_weights_and_configuration_only(tiny_lm: TinyLm, tmp_path: Path) -> None:
    lm, config = tiny_lm("llama"), make_config()
    digest = make_model(lm, config).save(tmp_path / "a")
    assert make_model(lm, config).save(tmp_path / "b") == digest
    assert load_memory_model(tmp_path / "a", lm=lm).save(tmp_path / "c") == digest
    (tmp_path / "a/card.md").write_text("# A card")
    assert load_memory_model(tmp_path / "a", lm=lm).digest == digest
    moved = replace(
        config, compressor=config.compressor.model_copy(update={"path": Path("elsewhere")})
    )
    assert make_model(lm, moved).save(tmp_path / "d") == digest
    other = make_model(lm, config)
    other.log_temperature.data += 1.0
    assert other.save(tmp_path / "e") != digest
    assert make_model(lm, make_config(layers=1)).save(tmp_path / "f") != digest


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG])
def test_a_changed_truncated_or_foreign_file_is_refused_at_load(
    tiny_lm: TinyLm, tmp_path: Path, name: str
) -> None:
    make_model(tiny_lm("llama"), make_config()).save(tmp_path)
    content = (tmp_path / name).read_bytes()
    changed = (
        content.replace(b'"beta": 0.3', b'"beta": 0.4')
        if name == CONFIG
        else content[:-1] + b"\x07"
    )
    assert len(changed) == len(content) and changed != content
    foreign = [
        b"5",
        b"[]",
        b"{}",
        b'{"lm_digest": "a", "design": {}}',
        b'{"lm_digest": 1, "design": 2}',
    ]
    cases = (
        (changed, rf"{name} changed since SHA256SUMS was written"),
        *((half, "") for half in (content[: len(content) // 2], *foreign)),
    )
    for damaged, reason in cases:
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(
            ModelError, match=rf"(?s)is damaged \({reason}.*: restore the folder or run `cmt train`"
        ):
            load_memory_model(tmp_path, lm=tiny_lm("llama"))
    (tmp_path / name).write_bytes(content)
    assert load_memory_model(tmp_path, lm=tiny_lm("llama"))
    sums = tmp_path / SUMS
    sums.write_bytes(sums.read_bytes()[: sums.stat().st_size // 2])
    with pytest.raises(ModelError, match=r"is damaged .*restore the folder or run `cmt train`"):
        load_memory_model(tmp_path, lm=tiny_lm("llama"))


def test_the_shipped_compressor_is_that_of_its_hashes() -> None:
    shipped = Path(__file__).parents[2] / "data/compressor"
    assert (shipped / SUMS).exists()
    design = json.loads((shipped / CONFIG).read_text())["design"]
    # a renamed parameter keeps its stored name
    assert load_checkpoint(shipped).config.to_dict() == design


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG])
def test_a_missing_compressor_suggests_a_training(
    tiny_lm: TinyLm, tmp_path: Path, name: str
) -> None:
    with pytest.raises(
        ModelError, match=rf"no compressor in .*none \({CONFIG} is missing\): run `cmt train`"
    ):
        load_memory_model(tmp_path / "none", lm=tiny_lm("llama"))
    make_model(tiny_lm("llama"), make_config()).save(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ModelError, match="run `cmt train`, or set compressor.path"):
        load_memory_model(tmp_path, lm=tiny_lm("llama"))
    with pytest.raises(ModelError, match=f"{name} cannot be read"):
        digest_in_use(tmp_path, window=4)


def test_weights_of_another_configuration_are_refused(tiny_lm: TinyLm, tmp_path: Path) -> None:
    make_model(tiny_lm("llama"), make_config()).save(tmp_path)
    record = json.loads((tmp_path / CONFIG).read_text())
    record["design"]["alignment"]["slots"] = 4
    (tmp_path / CONFIG).write_text(json.dumps(record))
    (tmp_path / SUMS).unlink()
    with pytest.raises(ModelError, match=r"1 tensors differ, alignment\.slots first"):
        load_memory_model(tmp_path, lm=tiny_lm("llama"))


@pytest.mark.parametrize("factor", [1, 2])
def test_the_digest_in_use_is_known_without_loading(
    tiny_lm: TinyLm, tmp_path: Path, factor: int
) -> None:
    model = make_model(tiny_lm("llama"), make_config())
    model.save(tmp_path)
    window = factor * model.window
    digest = digest_in_use(tmp_path, window=window)
    assert digest == load_memory_model(tmp_path, lm=model.lm, window=window).digest
    assert (digest == checkpoint_digest(tmp_path)) is (factor == 1)


@pytest.mark.parametrize(
    ("count", "layers", "blocks"), [(30, 12, 10), (18, 7, 6), (12, 5, 4), (2, 1, 1), (1, 1, 1)]
)
def test_layers_are_shares_of_those_of_the_lm_unless_they_are_given(
    count: int, layers: int, blocks: int
) -> None:
    given = make_config()
    assert given.for_layers(count) == given
    compressor = given.compressor.model_copy(update={"layers": 0})
    aggregator = given.aggregator.model_copy(update={"blocks": 0})
    shares = replace(given, compressor=compressor, aggregator=aggregator).for_layers(count)
    assert (shares.compressor.layers, shares.aggregator.blocks) == (layers, blocks)


def test_a_saved_compressor_names_its_numbers_of_layers(tiny_lm: TinyLm, tmp_path: Path) -> None:
    config = replace(
        make_config(), compressor=make_config().compressor.model_copy(update={"layers": 0})
    )
    new_memory_model(tiny_lm("llama"), config).save(tmp_path)
    assert load_checkpoint(tmp_path).config.compressor.layers == 1
