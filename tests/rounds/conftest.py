"""Tiny projects on their way through rounds, each built once and copied for the tests that change
it.
"""

import shutil
from pathlib import Path

import pytest

from tests.helpers.projects import (
    JANUARY,
    change_params,
    name_champion,
    open_workspace,
    save_other_compressor,
)


def copy(project: Path, folder: Path) -> Path:
    return Path(shutil.copytree(project, folder / "project"))


def quiet(folder: Path) -> Path:
    """Let the rounds of the project ask no question, which takes longer than the rest; returns
    `folder`.

    Tests that need answers override `evaluation.questions`, `evaluation.earlier_questions` or
    `gate.canaries`.
    """
    evaluation = {"round_baselines": False, "questions": 0, "earlier_questions": 0}
    change_params(folder, evaluation=evaluation, gate={"canaries": 0})
    return folder


@pytest.fixture(scope="session")
def pending_project(tiny_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = quiet(copy(tiny_project, tmp_path_factory.mktemp("pending")))
    open_workspace(folder).ingest()
    return folder


@pytest.fixture(scope="session")
def begun_project(pending_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = copy(pending_project, tmp_path_factory.mktemp("begun"))
    open_workspace(folder).update()
    return folder


@pytest.fixture(scope="session")
def two_compressors(adapted_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = quiet(copy(adapted_project, tmp_path_factory.mktemp("changed")))
    other = save_other_compressor(open_workspace(folder), folder / "new")
    open_workspace(folder, compressor__path=str(other)).update(slice_id=JANUARY)
    return folder


@pytest.fixture(scope="session")
def champion_project(adapted_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project after its two rounds, and another compressor as its champion, whose bank is
    empty.
    """
    return name_champion(quiet(copy(adapted_project, tmp_path_factory.mktemp("champion"))))


@pytest.fixture
def project(pending_project: Path, tmp_path: Path) -> Path:
    """A project folder with the pending slices JANUARY and FEBRUARY."""
    return copy(pending_project, tmp_path)


@pytest.fixture
def begun(begun_project: Path, tmp_path: Path) -> Path:
    """The project after the round of JANUARY."""
    return copy(begun_project, tmp_path)


@pytest.fixture
def adapted_workspace(adapted_project: Path, tmp_path: Path) -> Path:
    """The project after its two rounds."""
    return quiet(copy(adapted_project, tmp_path))


@pytest.fixture
def changed(two_compressors: Path, tmp_path: Path) -> Path:
    """The project after its two rounds, and a second compressor in `new` that has adapted to the
    first slice.
    """
    return copy(two_compressors, tmp_path)


@pytest.fixture(scope="session")
def undisturbed(adapted_project: Path) -> list[str]:
    """The digest of the bank after each round if nothing goes wrong."""
    return [round_.bank_digest for round_ in open_workspace(adapted_project).rounds()]
