"""A project whose two slices have their rounds."""

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.cli import run


@pytest.fixture(scope="session")
def adapted_project(tiny_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The adapted project; tests that change it take the copy `adapted`."""
    folder = Path(shutil.copytree(tiny_project, tmp_path_factory.mktemp("adapted") / "project"))
    run(folder, "ingest")
    run(folder, "update", "--all")
    return folder


@pytest.fixture
def adapted(adapted_project: Path, tmp_path: Path) -> Path:
    """A copy of the adapted project."""
    return Path(shutil.copytree(adapted_project, tmp_path / "adapted"))


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C works even where the tests run in the background of a shell, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
