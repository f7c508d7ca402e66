"""`cmt registry` on the command line; the registry itself is tested in tests/tracking."""

import re
import shutil
from pathlib import Path

import pytest

from tests.helpers.cli import read, run


@pytest.fixture
def tracked(tiny_workspace: Path, mlflow_database: Path) -> Path:
    """A project with an empty registry."""
    shutil.copyfile(mlflow_database, tiny_workspace / "mlflow.db")
    return tiny_workspace


def test_an_empty_registry_has_no_rows(tracked: Path) -> None:
    assert read(tracked, "registry", "list") == {"versions": []}
    assert re.match(r"version +aliases +compressor +measured on +F1\n", run(tracked, "registry", "list").stdout)


def test_there_is_nothing_to_promote_in_an_empty_registry(tracked: Path) -> None:
    assert "`cmt registry add` one first" in run(tracked, "registry", "promote", status=2).stderr


def test_a_compressor_that_is_missing_is_not_registered(tracked: Path) -> None:
    run(tracked, "registry", "add", "nowhere", status=1)
    assert read(tracked, "registry", "list") == {"versions": []}
