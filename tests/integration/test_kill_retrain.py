"""SIGKILL at seeded moments of a training, its registration, its promotion and the recompression."""

import os
import random
import shutil
from pathlib import Path

import pytest
import yaml

from cmt.modeling.champion import read_champion
from cmt.modeling.checkpoint import checkpoint_digest
from cmt.tracking.registry import CHAMPION, Registry
from tests.helpers.learning_loop import STEPS, run, write_lamps
from tests.soak.project import content, opened, problems

MOMENTS = int(os.environ.get("CMT_KILLS", "8"))
"""`CMT_KILLS=30 pytest tests/integration/test_kill_retrain.py` kills as often as docs/loop.md says."""
PEOPLE = ["Ann", "Bea", "Cyd", "Dot", "Eve", "Fay"]


@pytest.fixture
def lamps(adapted_workspace: Path, mlflow_database: Path) -> Path:
    """The project after its two rounds, with data to train on and an MLflow."""
    shutil.copy(mlflow_database, adapted_workspace / "mlflow.db")
    file = adapted_workspace / "params.yaml"
    params = yaml.safe_load(file.read_text())
    params["train"] = dict(write_lamps(adapted_workspace, PEOPLE))
    params["tracking"] = {"enabled": True}
    file.write_text(yaml.safe_dump(params))
    return adapted_workspace


@pytest.mark.timeout(3600)
def test_a_killed_loop_ends_as_an_undisturbed_one(lamps: Path, tmp_path: Path) -> None:
    # 1. undisturbed
    whole = Path(shutil.copytree(lamps, tmp_path / "whole"))
    seconds = run(whole / "params.yaml")
    assert list(seconds) == list(STEPS)
    expected, trained = content(whole), checkpoint_digest(opened(whole).params.train.output)
    assert expected.answering != content(lamps).answering
    # 2. killed once at each moment, and run again
    source = random.Random(0)
    for number in range(MOMENTS):
        project = Path(shutil.copytree(lamps, tmp_path / f"killed-{number}"))
        step = STEPS[number % len(STEPS)]
        moment = source.random() * seconds[step]
        run(project / "params.yaml", kill=(step, moment))
        place = f"{moment:.2f} s into {step}"
        # a whole table answers: the one before, or the champion's
        assert content(project).answering in (content(lamps).answering, expected.answering), place
        assert problems(project) == [], place
        checkpoints = list((project / "data/trained/checkpoints").glob("checkpoint-*/trainer_state.json"))
        run(project / "params.yaml")
        assert not checkpoints or "continuing from" in (project / "log").read_text(), place
        assert content(project) == expected, place
        assert checkpoint_digest(opened(project).params.train.output) == trained, place
        workspace = opened(project)
        named = read_champion(workspace.state)
        assert named, place
        registry = Registry(workspace.params.tracking, workspace.root)
        assert [(version.digest, version.aliases) for version in registry.versions()] == [
            (named.champion.digest, (CHAMPION,))
        ], place
        shutil.rmtree(project)
