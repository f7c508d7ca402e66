"""The learning curve as a command, on a tiny LM and its untrained compressor."""

import json
import subprocess
import sys
from pathlib import Path

from cmt.config import load_params

ROOT = Path(__file__).parents[2]


def test_the_points_are_in_the_order_of_the_pairs(training_project: Path, tmp_path: Path) -> None:
    params = training_project / "params.yaml"
    compressor = load_params(params).compressor.path
    command = [sys.executable, str(ROOT / "benchmarks/learning_curve.py"), f"200={compressor}", f"30={compressor}"]
    options = ["--output", str(tmp_path), "--questions", "2", "--params", str(params)]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    points = json.loads((tmp_path / "learning_curve.json").read_text())
    assert [point["pairs"] for point in points] == [30, 200]
    assert all(point.keys() == {"pairs", "em", "em_prefix", "f1", "ci", "recall", "n"} for point in points)
    assert points[0]["f1"] == points[1]["f1"]
    assert (tmp_path / "learning_curve.png").read_bytes().startswith(b"\x89PNG")
