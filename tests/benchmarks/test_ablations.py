"""The ablations as a command, on a tiny LM and a few steps of training."""

import json
from pathlib import Path

from tests.helpers.scripts import run_main


def test_each_variant_is_compared_with_the_whole_method(training_project: Path, tmp_path: Path) -> None:
    options = ["--params", str(training_project / "params.yaml"), "--output", str(tmp_path)]
    status, stdout, stderr = run_main("ablations", "--json", "--pairs", "8", "--questions", "2", *options)
    assert status == 0, stderr
    result = json.loads(stdout)
    assert result["pairs"] == 8
    rows = {row["row"]: row for row in result["rows"]}
    assert list(rows) == [
        "whole",
        "whole, keys alone",
        "whole, 60 paragraphs",
        "without top-k, 60 paragraphs",
        "without memory-aware objective",
        "without self-matching",
        "without self-matching, keys alone",
        "without question set",
    ]
    for name, row in rows.items():
        assert row["n"] == 2 and 0 <= row["f1"] <= 100
        assert ("less" in row) == name.startswith("without")


def test_a_project_without_training_data_is_an_error_with_the_command(tiny_workspace: Path) -> None:
    params = tiny_workspace / "params.yaml"
    params.write_text(params.read_text() + "train: {source: 'path:pairs.json', path: train}\n")
    status, stdout, stderr = run_main("ablations", "--params", str(params))
    assert (status, stdout) == (1, "")
    assert stderr.startswith("error: the training data path:") and "run `cmt data pull`" in stderr
