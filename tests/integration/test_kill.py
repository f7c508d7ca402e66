"""`make kill` with three kills on a tiny project."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(900)  # about six processes, each of which imports torch
def test_killed_updates_give_the_result_of_undisturbed_ones(tiny_workspace: Path) -> None:
    command = [
        sys.executable,
        "tests/integration/kill.py",
        "--kills",
        "3",
        "--params",
        str(tiny_workspace / "params.yaml"),
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.fullmatch(r"3 kills: (\d \w+, )*\d \w+ – digest equal", result.stdout.splitlines()[-1])
