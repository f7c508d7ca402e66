"""A truncated or wrongly typed file of the project is an error in one line, or is ignored; never a traceback."""

import json
from pathlib import Path

import pytest

import cmt
from cmt.config import load_params
from cmt.report.baselines import stored_baselines
from tests.helpers.cli import MAYOR, run

CONTENTS = ["", "5", "null", "[]", "{}", '["a"', '{"url": 5}', "\x00"]


def check(folder: Path, *arguments: str) -> str:
    """What `cmt` prints, whether it succeeds (0) or fails with one line (1)."""
    from typer.testing import CliRunner

    from cmt.cli.main import app

    result = CliRunner().invoke(app, ["--params", str(folder / "params.yaml"), *arguments])
    assert result.exit_code in (0, 1), result.output
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    if result.exit_code:
        assert [line.startswith("error: ") for line in result.stderr.splitlines()].count(True) == 1
        assert "Traceback" not in result.stderr
    return result.output


@pytest.mark.parametrize("content", CONTENTS)
def test_unreadable_baselines_are_ignored(adapted: Path, content: str) -> None:
    (adapted / "data/state/baselines.json").write_text(content)
    assert stored_baselines(cmt.open(params=adapted / "params.yaml"), {}).rows == []


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("name", ["config.json", "compressor.safetensors", "SHA256SUMS"])
def test_a_damaged_file_of_the_compressor_is_one_line(adapted: Path, tmp_path: Path, name: str, content: str) -> None:
    compressor = tmp_path / "compressor"
    compressor.mkdir()
    for file in load_params(adapted / "params.yaml").compressor.path.iterdir():
        (compressor / file.name).write_bytes(file.read_bytes())
    (compressor / name).write_text(content)
    output = check(adapted, "--set", f"compressor.path={compressor}", "ask", MAYOR)
    assert "is damaged" in output


@pytest.mark.parametrize("content", [*CONTENTS, json.dumps({"source": "a", "sha256": 1, "digest": 2, "files": 3})])
def test_a_damaged_record_of_the_lm_is_one_line(tiny_workspace: Path, tmp_path: Path, content: str) -> None:
    override = ("--set", f"lm.path={tmp_path / 'lm'}")
    run(tiny_workspace, *override, "model", "pull")
    (record,) = (tmp_path / "lm").glob("*/lm.json")
    record.write_text(content)
    run(tiny_workspace, "ingest")
    output = check(tiny_workspace, *override, "update")
    assert "no readable lm.json" in output and "cmt model pull" in output
    run(tiny_workspace, *override, "model", "pull")
