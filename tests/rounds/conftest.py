"""A tiny project with two pending slices, and what its undisturbed rounds give."""

import shutil
from pathlib import Path

import pytest

from tests.helpers.projects import open_workspace


@pytest.fixture
def project(tiny_workspace: Path) -> Path:
    """A project folder with the pending slices JANUARY and FEBRUARY."""
    open_workspace(tiny_workspace).ingest()
    return tiny_workspace


@pytest.fixture(scope="session")
def undisturbed(tiny_project: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The digest of the bank after each round if nothing goes wrong."""
    folder = Path(shutil.copytree(tiny_project, tmp_path_factory.mktemp("undisturbed") / "project"))
    workspace = open_workspace(folder)
    workspace.ingest()
    return [workspace.update().bank_digest for _ in workspace.pending()]
