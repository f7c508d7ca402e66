"""The sample of SQuAD paragraphs, from a tiny file in SQuAD's layout."""

import json
import lzma
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from tests.helpers.scripts import load_script


@pytest.fixture(scope="module")
def squad() -> ModuleType:
    return load_script("squad")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three articles of four paragraphs; one paragraph occurs twice."""
    articles: list[dict[str, Any]] = [
        {"title": f"T{a}", "paragraphs": [{"context": f"Text {a}.{p}", "qas": []} for p in range(4)]} for a in range(3)
    ]
    articles[2]["paragraphs"].append({"context": "Text 0.0", "qas": []})
    path = tmp_path / "dev.json"
    path.write_text(json.dumps({"version": "1.1", "data": articles}))
    return path


def contexts(sample: dict[str, Any]) -> list[str]:
    return [paragraph["context"] for article in sample["data"] for paragraph in article["paragraphs"]]


def test_a_sample_has_unique_paragraphs_under_their_titles(squad: ModuleType, data: Path) -> None:
    sample = squad.draw(data, 5, 0)
    assert len(set(contexts(sample))) == len(contexts(sample)) == 5
    for article in sample["data"]:
        for paragraph in article["paragraphs"]:
            assert article["title"][1] == paragraph["context"][5] or paragraph["context"] == "Text 0.0"
    assert len(contexts(squad.draw(data, 99, 0))) == 12


def test_a_sample_depends_on_the_seed_only(squad: ModuleType, data: Path) -> None:
    compressed = data.with_suffix(".json.xz")
    compressed.write_bytes(lzma.compress(data.read_bytes()))
    assert squad.draw(data, 5, 0) == squad.draw(compressed, 5, 0)
    assert squad.draw(data, 5, 0) != squad.draw(data, 5, 1)


def test_a_missing_file_is_refused(squad: ModuleType, tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(squad.main)
    assert CliRunner().invoke(app, ["--data", str(tmp_path / "none.json")]).exit_code == 2
