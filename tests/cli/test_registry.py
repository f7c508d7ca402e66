"""`cmt registry` on the command line; the registry itself is tested in tests/tracking."""

import re
import shutil
from pathlib import Path

import pytest

from tests.helpers.cli import read, run


def test_an_empty_registry_has_no_rows_and_nothing_to_promote(
    tiny_workspace: Path, mlflow_database: Path
) -> None:
    shutil.copyfile(mlflow_database, tiny_workspace / "mlflow.db")
    assert re.match(
        r"version +aliases +compressor +measured on +F1\n",
        run(tiny_workspace, "registry", "list").stdout,
    )
    assert (
        "`cmt registry add` one first"
        in run(tiny_workspace, "registry", "promote", status=1).stderr
    )
    run(tiny_workspace, "registry", "add", "nowhere", status=1)
    assert read(tiny_workspace, "registry", "list") == {"versions": []}


def test_a_list_makes_no_database(tiny_workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert read(tiny_workspace, "registry", "list") == {"versions": []}
    assert not list(tiny_workspace.glob("mlflow*"))
