"""`cmt init`: the files of a new project."""

import errno
import json
import os
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from cmt.cli import init
from cmt.cli.main import app
from cmt.config import load_params


def run_init(folder: Path, *options: str, status: int = 0) -> Result:
    """Run `cmt init` outside any project."""
    result = CliRunner().invoke(app, ["init", str(folder), *options], catch_exceptions=False)
    assert result.exit_code == status, result.output
    return result


def test_a_project_has_parameters_an_example_and_a_gitignore(tmp_path: Path) -> None:
    folder = tmp_path / "new/news-project"
    record = json.loads(run_init(folder, "--json").stdout)
    assert [Path(file) for file in record["files"]] == [folder / n for n in ("params.yaml", "news.jsonl", ".gitignore")]
    assert len(list(folder.iterdir())) == 3
    params = load_params(folder / "params.yaml")
    assert (params.stream.source, params.stream.clock) == (folder / "news.jsonl", "system")
    assert params.compressor.path == init.CLONE / "data/compressor"
    shipped = load_params(init.CLONE / "params.yaml").lm
    assert (params.lm.source, params.lm.sha256) == (shipped.source, shipped.sha256)
    assert params.lm.path == init.CLONE / "data/lm"


def test_the_next_commands_are_printed_and_accept_the_example(tmp_path: Path) -> None:
    folder = tmp_path / "news project"
    printed = run_init(folder).stdout.splitlines()
    assert printed[0] == f"{folder} has params.yaml, news.jsonl and .gitignore; next:"
    assert [line.removeprefix("  ") for line in printed[1:]] == [
        f"cd '{folder}'",
        "cmt model pull",
        "cmt ingest",
        "cmt update --all",
        'cmt ask "What is the toll on the Alder Bridge?"',
        'cmt ask "What is the toll on the Alder Bridge?" --as-of 2026-09-27',
    ]
    arguments = ["--params", str(folder / "params.yaml"), "ingest", "--json"]
    report = json.loads(CliRunner().invoke(app, arguments, catch_exceptions=False).stdout)
    assert (report["accepted"], report["questions"], report["rejected"]) == (7, 4, [])


def test_an_empty_folder_is_taken_and_one_with_files_refused(tmp_path: Path) -> None:
    run_init(tmp_path)
    before = sorted(tmp_path.iterdir())
    for taken in (tmp_path, tmp_path / "params.yaml"):
        assert "is not an empty folder: name a new or empty one" in run_init(taken, status=2).stderr
    assert sorted(tmp_path.iterdir()) == before


def test_a_full_disk_leaves_no_part_of_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, text: str, **_: object) -> int:
        if path.name == ".gitignore":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return path.write_bytes(text.encode())

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        message = run_init(tmp_path / "project", status=2).stderr
    assert "cannot be made: No space left on device; nothing was left there" in message
    assert not list(tmp_path.iterdir())
    run_init(tmp_path / "project")


def test_paths_within_the_clone_are_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("data/compressor", "data/lm"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "data/compressor/config.json").write_text("{}")
    (tmp_path / "params.yaml").write_text("lm: {source: 'hub:org/name@1'}\n")
    monkeypatch.setattr(init, "CLONE", tmp_path)
    run_init(tmp_path / "mine/project")
    params = yaml.safe_load((tmp_path / "mine/project/params.yaml").read_text())
    assert params["compressor"]["path"] == os.path.join("..", "..", "data", "compressor")
    assert params["lm"] == {"source": "hub:org/name@1", "sha256": None, "path": "../../data/lm"}


def test_a_package_outside_a_clone_has_no_compressor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(init, "CLONE", tmp_path / "site-packages")
    assert "install cmt from a clone" in run_init(tmp_path / "project", status=1).stderr
    assert not (tmp_path / "project").exists()
