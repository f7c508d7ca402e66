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
from cmt.config import SHIPPED, load_params


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
    assert params.compressor.path.resolve() == init.CLONE / "data/compressor"
    assert params.lm == load_params(init.CLONE / "params.yaml").lm


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


@pytest.mark.parametrize(
    ("content", "options", "reason"),
    [
        ("a,b\n1,2\n", (), "bad.csv:2: no text in its columns, 'a', 'b': name one with --map text=COLUMN"),
        ("body,content,date\nOne text.,Another text.,2026-03-05\n", (), "the text may be body or content"),
        ("text,date\nOne text.,05/03/2026\n", (), "cmt --set stream.day_first=true init"),
        ("text\nOne text.\n", ("--map", "text"), "write COLUMN=NAME"),
        (None, (), "bad.csv not found"),
    ],
)
def test_data_that_cannot_be_taken_leave_no_project(
    tmp_path: Path, content: str | None, options: tuple[str, ...], reason: str
) -> None:
    data, folder = tmp_path / "bad.csv", tmp_path / "project"
    if content is not None:
        data.write_text(content)
    status = 2 if options else 1
    stderr = run_init(folder, "--from", str(data), *options, status=status).stderr
    assert reason in " ".join(stderr.replace("│", " ").split())
    assert not folder.exists()


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("postgresql://host/news", "not postgresql: run `cmt init` without --from and add a database"),
        ("https://me:secret@host.example/feed", "holds credentials: write ${NAME}"),
        ("http://127.0.0.1:9/feed.xml", "http://127.0.0.1:9/feed.xml cannot be read"),
    ],
)
def test_an_address_that_cannot_be_read_leaves_no_project(
    tmp_path: Path, address: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cmt.sources.web.ATTEMPTS", 1)
    result = CliRunner().invoke(app, ["init", str(tmp_path / "project"), "--from", address], catch_exceptions=False)
    assert (result.exit_code in (1, 2), reason in " ".join(result.stderr.split())) == (True, True)
    assert not (tmp_path / "project").exists()


def test_a_full_disk_leaves_no_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "data/stream")

    monkeypatch.setattr("cmt.workspace.Workspace.pull", lambda *_, **__: None)
    monkeypatch.setattr("cmt.workspace.Workspace.ingest", full)
    data = tmp_path / "news.csv"
    data.write_text("text,date\nOne text.,2026-01-01\n")
    assert "No space left on device" in run_init(tmp_path / "project", "--from", str(data), status=1).stderr
    assert not (tmp_path / "project").exists()


def test_a_date_is_for_documents_in_files(tmp_path: Path) -> None:
    project, date = tmp_path / "project", ("--published-at", "2026-01-01")
    assert "--from" in run_init(project, *date, status=2).stderr
    refused = run_init(project, "--from", "http://127.0.0.1:9/feed.xml", *date, status=2).stderr
    assert "--published-at is for files and folders" in refused
    assert not project.exists()


@pytest.mark.parametrize("value", ["day", "null", "true", "12", "a b", None, 3])
def test_a_value_is_written_as_yaml_that_reads_back(value: object) -> None:
    assert yaml.safe_load(init._yaml(value)) == value


def test_the_parameters_before_the_command_are_written(tmp_path: Path) -> None:
    def init_with(folder: Path, *pairs: str) -> Result:
        options = [word for pair in pairs for word in ("--set", pair)]
        return CliRunner().invoke(app, [*options, "init", str(folder)], catch_exceptions=False)

    assert init_with(tmp_path / "one", "stream.period=day", "stream.clock=2026-12-01T08:00:00Z").exit_code == 0
    assert "# what one slice spans" in (tmp_path / "one/params.yaml").read_text()
    assert init_with(tmp_path / "two", "stream.period=day", "bank.keep_text=false").exit_code == 0
    one, two = (load_params(tmp_path / name / "params.yaml") for name in ("one", "two"))
    assert (one.stream.period, one.stream.clock[:10], one.bank.keep_text) == ("day", "2026-12-01", True)
    assert (two.stream.period, two.stream.source, two.bank.keep_text) == ("day", tmp_path / "two/news.jsonl", False)
    refused = init_with(tmp_path / "three", "bank.codes=int3")
    assert refused.exit_code == 2 and "--set: bank.codes: Input should be" in refused.stderr
    assert not (tmp_path / "three").exists()
    data = tmp_path / "news.csv"
    data.write_text("story,when\nOne text.,soon\n")
    keys = ("--set", "stream.columns.text=story", "init", str(tmp_path / "four"), "--from", str(data))
    assert "published_at" in CliRunner().invoke(app, keys).stderr  # the text is found, a date is not


def test_an_empty_folder_is_taken_and_one_with_files_refused(tmp_path: Path) -> None:
    run_init(tmp_path)
    before = sorted(tmp_path.iterdir())
    for taken in (tmp_path, tmp_path / "params.yaml"):
        assert "is not an empty folder: name a new or empty one" in run_init(taken, status=1).stderr
    assert sorted(tmp_path.iterdir()) == before


def test_a_full_disk_leaves_no_part_of_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, text: str, **_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(Path, "write_text", full)
    message = run_init(tmp_path / "project", status=1).stderr
    assert "cannot be made: No space left on device; nothing was left there" in message
    assert not list(tmp_path.iterdir())


def test_a_project_inside_the_clone_names_its_lm_by_a_relative_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "params.yaml").write_text("")
    monkeypatch.setattr(init, "CLONE", tmp_path)
    run_init(tmp_path / "mine/project")
    params = yaml.safe_load((tmp_path / "mine/project/params.yaml").read_text())
    assert params["lm"]["path"] == "../../data/lm"


def test_without_a_clone_projects_share_the_lm_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(init, "CLONE", tmp_path / "site-packages")
    monkeypatch.setattr("cmt.config.user_cache_path", lambda name: tmp_path / "cache" / name)
    run_init(tmp_path / "project")
    params = load_params(tmp_path / "project/params.yaml")
    assert params.lm.path == tmp_path / "cache/cmt/lm"
    assert params.compressor.path == SHIPPED


def test_a_project_for_ones_own_lm_trains_its_compressor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    printed = run_init(tmp_path / "one", "--lm", "path:models/mine").stdout
    assert printed.index("cmt model pull") < printed.index("cmt train") < printed.index("cmt update")
    params = load_params(tmp_path / "one/params.yaml")
    assert (params.lm.source, params.lm.sha256) == (f"path:{tmp_path / 'models/mine'}", None)
    assert params.compressor.path == params.train.output == tmp_path / "one/data/trained"
    run_init(tmp_path / "two", "--lm", "hub:org/name")
    assert load_params(tmp_path / "two/params.yaml").lm.source == "hub:org/name@main"
    assert "has no known scheme" in run_init(tmp_path / "three", "--lm", "org/name", status=2).stderr
