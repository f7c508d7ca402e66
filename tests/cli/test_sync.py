"""`cmt sync`: the table, the exit status, and what it asks."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from socketserver import BaseRequestHandler
from threading import Event
from typing import Any

import pytest

from cmt.sources import turns, web
from cmt.sources.watch import WatchedSource
from cmt.workspace import Workspace
from tests.helpers.cli import read, run
from tests.helpers.sources import Project, serving


@pytest.fixture
def project(tiny_workspace: Path) -> Path:
    """A project with a folder of two posts as a source, and one that is missing."""
    sources = [
        {"name": "posts", "kind": "folder", "address": "posts", "on_delete": "expire"},
        {"name": "missing", "kind": "folder", "address": "nowhere"},
    ]
    params = tiny_workspace / "params.yaml"
    params.write_text(f"{params.read_text()}\nsources: {json.dumps(sources)}\n")
    (tiny_workspace / "posts").mkdir()
    for name in ("one", "two"):
        row = {"doc_id": name, "published_at": "2031-03-01", "text": f"The post number {name}."}
        (tiny_workspace / f"posts/{name}.jsonl").write_text(json.dumps(row))
    return tiny_workspace


def test_sources_are_synced_and_a_missing_one_fails_at_the_end(project: Path) -> None:
    assert "posts" in run(project, "sync", "posts", "--dry-run").stdout
    assert not (project / "data/stream").exists()
    result = run(project, "sync", status=1)
    assert [
        line.split()[-1] for line in result.stdout.splitlines() if line.startswith("posts")
    ] == ["2"]
    assert "nowhere is not a folder" in result.stderr
    (report,) = read(project, "sync", "posts")["sources"]
    assert (report["listed"], report["new"], report["documents"]) == (2, 0, 0)
    assert (
        "no source 'other'; there are: posts, missing"
        in run(project, "sync", "other", status=1).stderr
    )


def test_a_source_without_its_secret_does_not_stop_the_others(project: Path) -> None:
    params = project / "params.yaml"
    text = params.read_text().replace('"address": "posts"', '"address": "${CMT_TEST_UNSET}"')
    params.write_text(text.replace('"nowhere"', '"posts"'))
    result = run(project, "sync", status=1)
    assert "${CMT_TEST_UNSET} has no value" in result.stderr
    assert [
        line.split()[-1] for line in result.stdout.splitlines() if line.startswith("missing")
    ] == ["2"]


def test_a_server_that_drips_does_not_delay_the_rows_of_another_source(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server drips until the stream has the rows of the source behind it."""
    monkeypatch.setattr(turns, "PATIENCE", 0.1)
    monkeypatch.setattr(web, "ATTEMPTS", 1)
    stream, seen = project / "data/stream", Event()

    class Dripping(BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):
                while not seen.wait(0.02):
                    self.request.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                    if [*stream.rglob("*.parquet")]:
                        seen.set()

    with serving(Dripping) as address:
        feed = {"name": "hostile", "kind": "feed", "address": address, "allow_private": True}
        params = project / "params.yaml"
        params.write_text(
            params.read_text().replace("sources: [", f"sources: [{json.dumps(feed)}, ")
        )
        result = run(project, "sync", status=1)
    assert seen.is_set()
    assert "hostile" in result.stderr
    assert [line.split()[0] for line in result.stdout.splitlines()[2:]] == ["posts"]


def test_the_columns_of_a_source_choose_the_array_of_a_json_file(project: Path) -> None:
    params = project / "params.yaml"
    columns = json.dumps({"text": "note", "published_at": "day"})
    params.write_text(params.read_text().replace('"posts",', f'"posts", "columns": {columns},', 1))
    content = {
        "adverts": [{"text": "An advert that is longer than the note."}],
        "notes": [{"note": "The mill is shut.", "day": "2031-03-02"}],
    }
    for path in (project / "posts").iterdir():
        path.unlink()
    (project / "posts/notes.json").write_text(json.dumps(content))
    run(project, "sync", "posts")
    texts = Project(project / "data").store.all_documents()["text"].to_pylist()
    assert texts == ["The mill is shut."]


def test_what_vanished_is_asked_for(project: Path) -> None:
    run(project, "sync", "posts")
    (project / "posts/one.jsonl").unlink()
    assert (
        "run `cmt sync posts --accept-vanished`" in run(project, "sync", "posts", status=1).stderr
    )
    (report,) = read(project, "sync", "posts", "--accept-vanished")["sources"]
    assert (report["vanished"], report["expired"]) == (1, 1)


def test_a_document_stays_while_another_source_of_its_publisher_has_it(project: Path) -> None:
    params, copy = project / "params.yaml", project / "nowhere/one.jsonl"
    text = params.read_text().replace(
        '"expire"', '"expire", "max_vanished": 1.0, "publisher": "town"'
    )
    params.write_text(text.replace('"nowhere"', '"nowhere", "publisher": "town"'))
    copy.parent.mkdir()
    copy.write_bytes((project / "posts/one.jsonl").read_bytes())
    run(project, "sync")
    for name in ("one", "two"):
        (project / f"posts/{name}.jsonl").unlink()
    (report,) = read(project, "sync", "posts")["sources"]
    assert (report["vanished"], report["expired"]) == (2, 1)
    assert set(Project(project / "data").texts()) == {"one"}


_MAIN = """
import signal
from cmt.cli.main import main
from cmt.sources import watch
watch._PAUSE = 0.05
signal.signal(signal.SIGINT, signal.default_int_handler)  # which the background of a shell ignores
main()
"""


@contextmanager
def process(project: Path, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """`cmt` in a process."""
    command = [sys.executable, "-c", _MAIN, "--params", str(project / "params.yaml"), *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        try:
            yield running
        finally:
            running.kill()


def write(file: Path, **row: str) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps({"published_at": "2031-03-01", **row}))


def test_a_folder_is_watched_until_ctrl_c(project: Path) -> None:
    params, posts = project / "params.yaml", project / "posts"
    params.write_text(params.read_text().replace('"expire"', '"expire", "max_vanished": 1.0'))
    stream = Project(project / "data")
    with process(project, "sync", "posts", "--watch") as running:

        def synced() -> str:
            """The counts of the next line, which is printed after the stream was written."""
            return running.stdout.readline().partition(" posts: ")[2].strip()

        assert synced() == "2 listed, 2 new, 2 documents"
        write(posts / "three.jsonl", doc_id="three", text="The post number three.")
        assert synced() == "3 listed, 1 new, 1 document"
        write(posts / "one.jsonl", doc_id="one", text="The first post, corrected.")
        assert synced() == "3 listed, 1 changed, 1 document, 1 version"
        (posts / "two.jsonl").unlink()
        assert synced() == "2 listed, 1 vanished, 1 expired"
        assert stream.texts() == {
            "one": "The first post, corrected.",
            "three": "The post number three.",
        }
        running.send_signal(signal.SIGINT)
        stdout, stderr = running.communicate(timeout=60)
    assert (running.returncode, stdout) == (130, "")
    assert "watching posts until Ctrl-C" in stderr
    assert "interrupted during watch: the recorded items are synchronised" in stderr
    assert not [line for line in stderr.splitlines() if "error" in line]


def scripted_wait(monkeypatch: pytest.MonkeyPatch, *steps: Callable[[], Any]) -> None:
    """In place of the passage of time: a step before each pair of listings, and Ctrl-C after the
    last step.
    """
    left = iter(steps)

    def wait(sources: list[WatchedSource], **_: bool) -> list[WatchedSource]:
        next(left, lambda: signal.raise_signal(signal.SIGINT))()
        now = datetime.now(UTC)
        return [one for one in sources if [one.is_due(now), one.is_due(now)] != [False, False]]

    monkeypatch.setattr("cmt.sources.watch.wait", wait)


@pytest.mark.usefixtures("interruptible")
def test_an_error_ends_neither_the_watch_nor_other_syncs(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted_wait(
        monkeypatch,
        lambda: (project / "posts/bad.pdf").write_bytes(b"%PDF-1.4 that is cut"),
        lambda: write(project / "posts/good.jsonl", doc_id="good", text="A good post."),
        lambda: write(project / "nowhere/late.jsonl", doc_id="late", text="A late post."),
    )
    result = run(project, "sync", "--watch", "--json", status=130)
    reports = [json.loads(line) for line in result.stdout.splitlines()]
    taken = [(report["source"], report["documents"]) for report in reports]
    assert taken == [("posts", 2), ("posts", 1), ("missing", 1)]
    errors = [
        line.split()[:2]
        for line in result.stderr.splitlines()
        if "error" in line or "bad.pdf" in line
    ]
    assert errors == [["posts:", "bad.pdf"], ["missing:", "error:"]]


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_during_a_watched_sync_says_what_is_in_step(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, progress: Any, **__: Any) -> None:
        progress.stage("fetch")
        signal.raise_signal(signal.SIGINT)

    scripted_wait(monkeypatch, lambda: None)
    monkeypatch.setattr(Workspace, "sync", interrupted)
    result = run(project, "sync", "--watch", status=130)
    assert "interrupted during fetch: the recorded items are synchronised" in result.stderr


def test_a_watch_knows_its_sources_and_compares_by_default(project: Path) -> None:
    assert "no source 'other'" in run(project, "sync", "other", "--watch", status=1).stderr
    assert "--dry-run" in run(project, "sync", "--watch", "--dry-run", status=2).stderr
