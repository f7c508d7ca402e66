"""Checkpoints: to which run they belong, and which are complete."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cmt.modeling.checkpoint import WEIGHTS, CompressorConfig
from cmt.modeling.loading import new_memory_model
from cmt.training._checkpoints import claim_folder, last_checkpoint, run_identity
from cmt.training.dataset import StepDataset
from tests.helpers.damage import file_size_limit
from tests.helpers.training import FARES, paragraph_pool, run_training, training_params, truncate


def test_checkpoints_of_another_run_are_deleted(
    finished_copy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert len(run_training(finished_copy, train={"learning_rate": 0.02}).losses) == 4
    assert "belong to another run (its data or parameters differ): deleting them" in caplog.text


def test_a_full_disk_at_the_start_of_a_resumed_training_keeps_its_checkpoints(
    tmp_path: Path,
) -> None:
    claim_folder(tmp_path, "a run")
    (tmp_path / "checkpoint-2").mkdir()
    with file_size_limit(0):
        claim_folder(tmp_path, "a run")
    claim_folder(tmp_path, "a run")
    assert (tmp_path / "checkpoint-2").is_dir()


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        (WEIGHTS, truncate),
        ("optimizer.pt", truncate),
        ("scheduler.pt", Path.unlink),
        ("trainer_state.json", truncate),
    ],
)
def test_an_incomplete_checkpoint_is_passed_over(
    finished_copy: Path, caplog: pytest.LogCaptureFixture, name: str, damage: Any
) -> None:
    checkpoints = finished_copy / "checkpoints"
    assert last_checkpoint(checkpoints) == str(checkpoints / "checkpoint-4")
    damage(checkpoints / "checkpoint-4" / name)
    assert last_checkpoint(checkpoints) == str(checkpoints / "checkpoint-2")
    assert "checkpoint-4 is incomplete: deleting it, resuming from the one before" in caplog.text
    damage(checkpoints / "checkpoint-2" / name)
    assert last_checkpoint(checkpoints) is None
    assert last_checkpoint(finished_copy / "nowhere") is None


def test_the_identity_depends_on_what_shapes_the_weights_and_on_nothing_else(
    tiny_lm: Any, tmp_path: Path
) -> None:
    lm, mix = tiny_lm("llama"), {"path:a.json": 1.0, "path:b.json": 1.0}

    def identity(rows: list[dict[str, Any]] = FARES, **sections: Any) -> str:
        params = training_params(tmp_path, **sections)
        pool = [
            replace(paragraph, source="ab"[n % 2])
            for n, paragraph in enumerate(paragraph_pool(lm, rows))
        ]
        return run_identity(
            new_memory_model(lm, CompressorConfig.of(params)), StepDataset(pool, params)
        )

    assert identity(train={"save_steps": 9, "start_weight": 0.1, "compile": True}) == identity()
    # the mix counts without its folders, and the number of questions only without a decay
    mixed = identity(train={"mix": mix})
    assert identity(train={"mix": {"path:/elsewhere/a.json": 1.0, "path:b.json": 1.0}}) == mixed
    decay = identity(train={"decay_steps": 1})
    assert identity(train={"decay_steps": 2, "questions": 40}) == decay
    others = [
        identity(FARES[:7]),
        identity(seed=1),
        identity(train={"questions": 17}),
        identity(train={"mix": mix | {"path:b.json": 2.0}}),
        identity(alignment={"slots": 2}),
        identity(selection={"best_windows": 1}),
        identity(selection={"neighbour_windows": 3}),
    ]
    assert len({identity(), mixed, decay, *others}) == 10
