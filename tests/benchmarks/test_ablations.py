"""Ablations and number formats as a command, on a tiny LM and a few steps of training."""

import json
import shutil
from pathlib import Path

import numpy as np

from cmt.modeling.codebook import Codebook
from tests.helpers.projects import change_params, open_workspace
from tests.helpers.scripts import run_main


def test_each_variant_is_compared_with_the_whole_method(
    training_project: Path, tmp_path: Path
) -> None:
    options = ["--params", str(training_project / "params.yaml"), "--output", str(tmp_path)]
    status, stdout, stderr = run_main("ablations", "--pairs", "8", "--questions", "2", *options)
    assert status == 0, stderr
    rows = {row["row"]: row for row in json.loads(stdout)}
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
    change_params(tiny_workspace, train={"source": "path:pairs.json", "path": "train"})
    status, stdout, stderr = run_main("ablations", "--params", str(tiny_workspace / "params.yaml"))
    assert (status, stdout) == (1, "")
    assert stderr.startswith("error: the training data path:") and "run `cmt data pull`" in stderr


def test_every_format_has_its_bytes_and_is_compared_with_fp16(
    training_project: Path, tmp_path: Path
) -> None:
    project = Path(shutil.copytree(training_project, tmp_path / "project"))
    arguments = (
        "ablations",
        "--formats",
        "--questions",
        "2",
        "--params",
        str(project / "params.yaml"),
    )
    # a codebook of noise, for one window
    opened = open_workspace(project)
    dim = opened.project.model.key_dim
    own = Path(shutil.copytree(opened.params.compressor.path, project / "own-compressor"))
    change_params(project, compressor={"path": str(own)})
    noise = np.random.default_rng(0).standard_normal((dim // 8, 256, 8)).astype(np.float16)
    Codebook(noise).save(own, 8)
    status, stdout, stderr = run_main(*arguments)
    assert status == 0, stderr
    rows = {row["row"]: row for row in json.loads(stdout)}
    assert [name for name in rows if name.startswith("8")] == [
        "8 tokens, fp16",
        "8 tokens, int4",
        "8 tokens, pq",
    ]
    assert "4 tokens, int8" in rows and "16 tokens, pq" not in rows
    sizes = [
        rows[name]["memory"]
        for name in ("4 tokens, fp16", "8 tokens, fp16", "8 tokens, int4", "8 tokens, pq")
    ]
    assert sizes == sorted(sizes, reverse=True)
    for name, row in rows.items():
        assert row["bank"] > row["memory"]
        assert row["n"] == 2
        assert ("less" in row) == ("fp16" not in name)
