"""`cmt baselines` over a sample of SQuAD: the commands that are run, and the JSON that comes out."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from tests.helpers.scripts import load_script


def test_the_sample_is_compressed_in_one_round_and_then_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    baselines = load_script("baselines")
    data = tmp_path / "dev.json"
    data.write_text(json.dumps({"data": [{"title": "A", "paragraphs": [{"context": "Text.", "qas": []}]}]}))
    commands: list[tuple[str, ...]] = []

    def run(folder: Path, *arguments: str) -> str:
        commands.append(tuple(argument.replace(str(folder), ".") for argument in arguments))
        return '{"rows": [{"row": "cmt"}]}'

    monkeypatch.setattr(baselines, "cmt", run)
    app = typer.Typer()
    app.command()(baselines.main)
    options = ["--data", str(data), "--paragraphs", "1", "--questions", "7", "--rows", "cmt,rag", "--json"]
    result = CliRunner().invoke(app, options)
    assert commands == [
        ("ingest", "./squad.json", "--format", "squad", "--period", "1"),
        ("--set=evaluation.baselines=false", "update"),
        ("baselines", "--questions", "7", "--rows", "cmt,rag", "--json"),
    ]
    assert json.loads(result.output) == {"paragraphs": 1, "seed": 0, "rows": [{"row": "cmt"}]}
