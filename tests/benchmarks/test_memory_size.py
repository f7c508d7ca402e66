"""Bytes against F1 as a command, on a tiny LM."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from cmt.modeling.codebook import Codebook
from tests.helpers.projects import open_workspace
from tests.helpers.scripts import run_main


def test_every_format_has_its_bytes_and_is_compared_with_fp16(training_project: Path, tmp_path: Path) -> None:
    project = Path(shutil.copytree(training_project, tmp_path / "project"))
    arguments = ("memory_size", "--json", "--questions", "2", "--params", str(project / "params.yaml"))
    rows = _rows(arguments)
    assert {codes for _, codes in rows} == {"fp16", "int8", "int4"}
    # a codebook of noise, for one window
    opened = open_workspace(project)
    dim = opened.model.key_dim
    own = Path(shutil.copytree(opened.params.compressor.path, project / "own-compressor"))
    params = yaml.safe_load((project / "params.yaml").read_text())
    params["compressor"]["path"] = str(own)
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    noise = np.random.default_rng(0).standard_normal((dim // 8, 256, 8)).astype(np.float16)
    Codebook(noise).save(own, 8)
    rows = _rows(arguments)
    assert [codes for window, codes in rows if window == 8] == ["fp16", "int4", "pq"]
    assert (16, "pq") not in rows
    assert rows[8, "fp16"]["memory"] > rows[8, "int4"]["memory"] > rows[8, "pq"]["memory"] > 0
    assert rows[4, "fp16"]["memory"] > rows[8, "fp16"]["memory"]
    for (_, codes), row in rows.items():
        assert row["bank"] > row["memory"]
        assert row["n"] == 2
        assert ("less" in row) == (codes != "fp16")


def _rows(arguments: tuple[str, ...]) -> dict[tuple[int, str], dict[str, Any]]:
    status, stdout, stderr = run_main(*arguments)
    assert status == 0, stderr
    return {(row["window"], row["codes"]): row for row in json.loads(stdout)}
