"""A tiny project with two pending slices, and what its undisturbed rounds give."""

from pathlib import Path

import pytest

from tests.helpers.projects import open_workspace


@pytest.fixture
def project(tiny_workspace: Path) -> Path:
    """A project folder with the pending slices JANUARY and FEBRUARY."""
    open_workspace(tiny_workspace).ingest()
    return tiny_workspace


@pytest.fixture(scope="session")
def undisturbed(adapted_project: Path) -> list[str]:
    """The digest of the bank after each round if nothing goes wrong."""
    return [round_.bank_digest for round_ in open_workspace(adapted_project).rounds()]
