"""Fixtures of the tests of training."""

import shutil
from pathlib import Path

import pytest

from tests.helpers.training import run_training


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[float]]:
    """The folder of a training of four steps with two checkpoints, and its losses; nobody may change it."""
    folder = tmp_path_factory.mktemp("finished")
    return folder, run_training(folder).losses


@pytest.fixture
def finished_copy(finished: tuple[Path, list[float]], tmp_path: Path) -> Path:
    """A copy of that folder, to be damaged."""
    return Path(shutil.copytree(finished[0], tmp_path / "copy"))
