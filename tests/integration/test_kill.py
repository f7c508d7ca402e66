"""`make kill`, in miniature."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(900)  # six processes that each import torch
def test_killed_updates_end_as_the_undisturbed_one(tiny_workspace: Path) -> None:
    command = [
        sys.executable,
        "tests/integration/kill.py",
        "--kills",
        "3",
        "--params",
        str(tiny_workspace / "params.yaml"),
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.fullmatch(r"3 kills: (\d \w+, )*\d \w+ – digest equal", done.stdout.splitlines()[-1])
