"""Fixtures of the tests of the evaluation."""

import shutil
from pathlib import Path

import pytest

import cmt
from cmt.evaluation.baseline_data import ComparisonData
from tests.helpers.projects import change_params
from tests.helpers.scripted import bank, lm, other_lm, script, textless_bank

__all__ = ["bank", "lm", "other_lm", "script", "textless_bank"]


@pytest.fixture(scope="session")
def adapted(adapted_project: Path) -> cmt.Workspace:
    """The tiny project after its two rounds."""
    return cmt.open(
        params=adapted_project / "params.yaml", overrides={"evaluation.baselines": False}
    )


@pytest.fixture(scope="session")
def half_adapted(tiny_project: Path, tmp_path_factory: pytest.TempPathFactory) -> cmt.Workspace:
    """The tiny project after the first of its two rounds: two of its four questions have no
    document in the bank.
    """
    folder = Path(shutil.copytree(tiny_project, tmp_path_factory.mktemp("half") / "project"))
    change_params(
        folder, evaluation={"round_baselines": False, "questions": 0}, gate={"canaries": 0}
    )
    workspace = cmt.open(params=folder / "params.yaml")
    workspace.ingest()
    workspace.update()
    return workspace


@pytest.fixture(scope="session")
def comparison_data(half_adapted: cmt.Workspace) -> ComparisonData:
    return ComparisonData.of(half_adapted.project, limit=50)
