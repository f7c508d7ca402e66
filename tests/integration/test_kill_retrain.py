"""A kill in each step of `kill_loop`: training, registration, promotion, recompression. All end as undisturbed."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.helpers.lamps import write_lamps

ROOT = Path(__file__).parents[2]
PEOPLE = ["Ann", "Bea", "Cyd", "Dot", "Eve", "Fay"]


@pytest.fixture
def lamps(adapted_workspace: Path, mlflow_database: Path) -> Path:
    """The project after its two rounds, with data to train on and an MLflow."""
    shutil.copy(mlflow_database, adapted_workspace / "mlflow.db")
    file = adapted_workspace / "params.yaml"
    params = yaml.safe_load(file.read_text())
    params["train"] = dict(write_lamps(adapted_workspace, PEOPLE))
    params["tracking"] = {"enabled": True}
    file.write_text(yaml.safe_dump(params))
    return adapted_workspace


@pytest.mark.timeout(1800)
def test_a_killed_loop_ends_as_an_undisturbed_one(lamps: Path) -> None:
    command = [sys.executable, "-m", "tests.integration.kill_loop", str(lamps), "--kills", "4"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("ends as undisturbed") == 4
