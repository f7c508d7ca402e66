"""`cmt registry` on the command line; the registry itself is tested in tests/tracking."""

import re
import shutil
from pathlib import Path

from tests.helpers.cli import read, run


def test_an_empty_registry_has_no_rows_and_nothing_to_promote(tiny_workspace: Path, mlflow_database: Path) -> None:
    shutil.copyfile(mlflow_database, tiny_workspace / "mlflow.db")
    assert re.match(r"version +aliases +compressor +measured on +F1\n", run(tiny_workspace, "registry", "list").stdout)
    assert "`cmt registry add` one first" in run(tiny_workspace, "registry", "promote", status=2).stderr
    run(tiny_workspace, "registry", "add", "nowhere", status=1)
    assert read(tiny_workspace, "registry", "list") == {"versions": []}
