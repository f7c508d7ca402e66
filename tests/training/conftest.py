"""Fixtures of the tests of training."""

import shutil
from pathlib import Path

import pytest

from tests.helpers.training import Recorder, run_training


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Recorder]:
    """The folder of a training of four steps with two checkpoints, and its record; tests do not
    change it.
    """
    folder = tmp_path_factory.mktemp("finished")
    return folder, run_training(folder)


@pytest.fixture
def finished_copy(finished: tuple[Path, Recorder], tmp_path: Path) -> Path:
    """A copy of that folder, to be damaged."""
    return Path(shutil.copytree(finished[0], tmp_path / "copy"))
