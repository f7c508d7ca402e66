"""`cmt init`: the files of a new project."""

import errno
import json
import os
from pathlib import Path
from unittest.mock import Mock

import pytest
import yaml
from typer.testing import CliRunner, Result

from cmt.cli import _new_project
from cmt.cli.main import app
from cmt.config import SHIPPED, load_params


def run_init(folder: Path, *options: str, status: int = 0) -> Result:
    """Run `cmt init` outside any project."""
    result = CliRunner().invoke(app, ["init", str(folder), *options], catch_exceptions=False)
    assert result.exit_code == status, result.output
    return result


def test_a_project_has_parameters_an_example_and_a_gitignore(tmp_path: Path) -> None:
    folder = tmp_path / "new/news-project"
    record = json.loads(run_init(folder, "--json").stdout)
    assert [Path(file) for file in record["files"]] == [
        folder / n for n in ("params.yaml", "news.jsonl", ".gitignore")
    ]
    assert len(list(folder.iterdir())) == 3
    params = load_params(folder / "params.yaml")
    assert (params.stream.source, params.stream.clock) == (folder / "news.jsonl", "system")
    assert params.compressor.path.resolve() == _new_project.CLONE / "data/compressor"
    assert params.lm == load_params(_new_project.CLONE / "params.yaml").lm


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


UNUSABLE = {
    "unnamed.csv": "a,b\n1,2\n",
    "two-texts.csv": "body,content,date\nOne text.,Another text.,2026-03-05\n",
    "ambiguous.csv": "text,date\nOne text.,05/03/2026\n",
}
FEED = "http://127.0.0.1:9/feed.xml"


@pytest.mark.parametrize(
    ("options", "status", "reason"),
    [
        (
            "--from unnamed.csv",
            1,
            "unnamed.csv:2: no text in its columns, 'a', 'b': name one with --map text=COLUMN",
        ),
        ("--from two-texts.csv", 1, "the text may be body or content"),
        ("--from ambiguous.csv", 1, "cmt --set stream.day_first=true init"),
        ("--from ambiguous.csv --map text", 2, "write COLUMN=NAME"),
        ("--from nowhere.csv", 1, "nowhere.csv not found"),
        (
            "--from postgresql://host/news",
            2,
            "not postgresql: run `cmt init` without --from and add a database",
        ),
        ("--from https://me:secret@host.example/feed", 2, "holds credentials: write ${NAME}"),
        (f"--from {FEED}", 1, f"{FEED} cannot be read"),
        (f"--from {FEED} --published-at 2026-01-01", 2, "--published-at is for files and folders"),
        ("--published-at 2026-01-01", 2, "it is for the documents of --from"),
    ],
)
def test_data_that_cannot_be_ingested_leave_no_project(
    tmp_path: Path, options: str, status: int, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("cmt.sources.web.ATTEMPTS", 1)
    for name, content in UNUSABLE.items():
        (tmp_path / name).write_text(content)
    stderr = run_init(tmp_path / "project", *options.split(), status=status).stderr
    assert reason in " ".join(stderr.replace("│", " ").split())
    assert not (tmp_path / "project").exists()


@pytest.mark.parametrize(
    ("options", "failing", "message"),
    [
        (
            (),
            "pathlib.Path.write_text",
            "cannot be made: No space left on device; nothing was left there",
        ),
        (
            ("--from", "news.csv"),
            "cmt.workspace.Workspace.ingest",
            "No space left on device; check space",
        ),
    ],
)
def test_a_full_disk_leaves_no_part_of_a_project(
    tmp_path: Path,
    options: tuple[str, ...],
    failing: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "news.csv").write_text("text,date\nOne text.,2026-01-01\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("cmt.workspace.Workspace.pull", Mock())
    monkeypatch.setattr(failing, Mock(side_effect=OSError(errno.ENOSPC, "No space left on device")))
    assert message in run_init(tmp_path / "project", *options, status=1).stderr
    assert os.listdir(tmp_path) == ["news.csv"]


@pytest.mark.parametrize("value", ["day", "null", "true", "12", "a b", None, 3])
def test_a_value_is_written_as_yaml_that_reads_back(value: object) -> None:
    assert yaml.safe_load(_new_project.yaml_value(value)) == value


def test_the_parameters_before_the_command_are_written(tmp_path: Path) -> None:
    def init_with(folder: Path, *pairs: str) -> Result:
        options = [word for pair in pairs for word in ("--set", pair)]
        return CliRunner().invoke(app, [*options, "init", str(folder)], catch_exceptions=False)

    assert (
        init_with(
            tmp_path / "one", "stream.period=day", "stream.clock=2026-12-01T08:00:00Z"
        ).exit_code
        == 0
    )
    assert "# what one slice spans" in (tmp_path / "one/params.yaml").read_text()
    assert init_with(tmp_path / "two", "stream.period=day", "bank.keep_text=false").exit_code == 0
    one, two = (load_params(tmp_path / name / "params.yaml") for name in ("one", "two"))
    assert (one.stream.period, one.stream.clock[:10], one.bank.keep_text) == (
        "day",
        "2026-12-01",
        True,
    )
    assert (two.stream.period, two.stream.source, two.bank.keep_text) == (
        "day",
        tmp_path / "two/news.jsonl",
        False,
    )
    refused = init_with(tmp_path / "three", "bank.codes=int3")
    assert refused.exit_code == 2 and "--set: bank.codes: Input should be" in refused.stderr
    assert not (tmp_path / "three").exists()
    data = tmp_path / "news.csv"
    data.write_text("story,when\nOne text.,soon\n")
    keys = (
        "--set",
        "stream.columns.text=story",
        "init",
        str(tmp_path / "four"),
        "--from",
        str(data),
    )
    assert (
        "published_at" in CliRunner().invoke(app, keys).stderr
    )  # the text is found, a date is not


def test_an_empty_folder_is_taken_and_one_with_files_refused(tmp_path: Path) -> None:
    run_init(tmp_path)
    before = sorted(tmp_path.iterdir())
    for taken in (tmp_path, tmp_path / "params.yaml"):
        assert "is not an empty folder: name a new or empty one" in run_init(taken, status=1).stderr
    assert sorted(tmp_path.iterdir()) == before


def test_a_project_inside_the_clone_names_its_lm_by_a_relative_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "params.yaml").write_text("")
    monkeypatch.setattr(_new_project, "CLONE", tmp_path)
    run_init(tmp_path / "mine/project")
    params = yaml.safe_load((tmp_path / "mine/project/params.yaml").read_text())
    assert params["lm"]["path"] == "../../data/lm"


def test_without_a_clone_projects_share_the_lm_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_new_project, "CLONE", tmp_path / "site-packages")
    monkeypatch.setattr("cmt.config.user_cache_path", lambda name: tmp_path / "cache" / name)
    run_init(tmp_path / "project")
    params = load_params(tmp_path / "project/params.yaml")
    assert params.lm.path == tmp_path / "cache/cmt/lm"
    assert params.compressor.path == SHIPPED


def test_a_project_for_ones_own_lm_trains_its_compressor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    printed = run_init(tmp_path / "one", "--lm", "path:models/mine").stdout
    assert (
        printed.index("cmt model pull") < printed.index("cmt train") < printed.index("cmt update")
    )
    params = load_params(tmp_path / "one/params.yaml")
    assert (params.lm.source, params.lm.sha256) == (f"path:{tmp_path / 'models/mine'}", None)
    assert params.compressor.path == params.train.output == tmp_path / "one/data/trained"
    run_init(tmp_path / "two", "--lm", "hub:org/name")
    assert load_params(tmp_path / "two/params.yaml").lm.source == "hub:org/name@main"
    assert (
        "has no known scheme" in run_init(tmp_path / "three", "--lm", "org/name", status=2).stderr
    )
