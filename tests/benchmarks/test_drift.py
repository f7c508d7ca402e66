"""How often drift is seen, on the rounds of a tiny project."""

import json
import shutil
from pathlib import Path

import yaml

from tests.helpers.scripts import run_main


def test_shares_of_alarms_are_written(adapted_project: Path, tmp_path: Path) -> None:
    project = Path(shutil.copytree(adapted_project, tmp_path / "project"))
    status, _, stderr = run_main("drift", "--params", str(project / "params.yaml"))
    assert status == 1
    assert "rounds with answers: run more than" in stderr
    params = yaml.safe_load((project / "params.yaml").read_text()) | {"drift": {"reference_rounds": 1}}
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    out = tmp_path / "drift.json"
    options = ["--shuffles", "5", "--out", str(out)]
    status, _, stderr = run_main("drift", "--params", str(project / "params.yaml"), *options)
    assert status == 0, stderr
    written = json.loads(out.read_text())
    assert (written["rounds"], written["fall"]) == (2, 15.0)
    assert 0 <= written["false_alarms"] <= 1
    assert 0 <= written["seen"] <= 1
