"""`cmt sync`: the table, the exit status, and what it asks."""

import json
from pathlib import Path

import pytest

from tests.helpers.cli import read, run


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
    assert [line.split()[-1] for line in result.stdout.splitlines() if line.startswith("posts")] == ["2"]
    assert "nowhere is no folder" in result.stderr
    (report,) = read(project, "sync", "posts")["sources"]
    assert (report["listed"], report["new"], report["documents"]) == (2, 0, 0)
    assert "no source 'other'; there are: posts, missing" in run(project, "sync", "other", status=2).stderr


def test_what_vanished_is_asked_for(project: Path) -> None:
    run(project, "sync", "posts")
    (project / "posts/one.jsonl").unlink()
    assert "run `cmt sync posts --accept-vanished`" in run(project, "sync", "posts", status=1).stderr
    (report,) = read(project, "sync", "posts", "--accept-vanished")["sources"]
    assert (report["vanished"], report["expired"]) == (1, 1)


def test_without_a_source_it_says_where_to_add_one(tiny_workspace: Path) -> None:
    assert "add one to `sources`" in run(tiny_workspace, "sync", status=2).stderr
