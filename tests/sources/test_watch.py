"""When a watched source is due, and that a file is read whole."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cmt.config import SourceParams
from cmt.sources.kinds import open_connector
from cmt.sources.watch import INTERVAL, WatchedSource
from tests.helpers.sources import Project, source, write_files

NOW = datetime(2031, 3, 5, 10, 20, tzinfo=UTC)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project")


def watched(project: Project, params: SourceParams) -> WatchedSource:
    return WatchedSource(params, open_connector(params, project.setting()))


def test_a_file_is_read_when_two_listings_agree(project: Project, tmp_path: Path) -> None:
    folder = tmp_path / "news"
    write_files(folder, {"old.jsonl": {"a": "An old text."}})
    params = source(address=str(folder), on_delete="expire")
    watch = watched(project, params)
    assert watch.is_due(NOW)
    assert project.sync(params, settled=watch.settled).documents == 1
    assert not watch.is_due(NOW)
    # a file that grows waits, and stops no other one
    growing = folder / "growing.jsonl"
    growing.write_text('{"doc_id": "b", "published_at": "2031-01-02", "te')
    assert not watch.is_due(NOW)
    write_files(folder, {"old.jsonl": {"a": "An old text."}, "whole.jsonl": {"c": "A whole text."}})
    growing.write_text('{"doc_id": "b", "published_at": "2031-01-02", "text": "A text that gr')
    assert not watch.is_due(NOW)
    growing.write_text('{"doc_id": "b", "published_at": "2031-01-02", "text": "A text that grew')
    assert watch.is_due(NOW)
    report = project.sync(params, settled=watch.settled)
    assert (report.new, report.refused, set(project.texts())) == (1, 0, {"a", "c"})
    growing.write_text('{"doc_id": "b", "published_at": "2031-01-02", "text": "A text that grew."}')
    assert [watch.is_due(NOW), watch.is_due(NOW), watch.is_due(NOW)] == [False, True, False]
    project.sync(params, settled=watch.settled)
    assert project.texts() == {"a": "An old text.", "b": "A text that grew.", "c": "A whole text."}


def test_what_vanished_for_a_moment_stays(project: Project, tmp_path: Path) -> None:
    folder = tmp_path / "news"
    params = source(address=str(folder), on_delete="forget")
    write_files(folder, {"one.jsonl": {"a": "A text."}, "two.jsonl": {"b": "Another text."}})
    watch = watched(project, params)
    assert watch.is_due(NOW)
    project.sync(params, settled=watch.settled)
    # 1. a file vanishes after the last listing, or the folder does for one listing
    shutil.move(folder / "one.jsonl", tmp_path)
    assert project.sync(params, settled=watch.settled).forgotten == 0
    shutil.move(folder, tmp_path / "elsewhere")
    assert not watch.is_due(NOW)
    shutil.move(tmp_path / "elsewhere", folder)
    # 2. its document moves to a file that is being written: nothing is forgotten before that file
    #    is read
    assert [watch.is_due(NOW), watch.is_due(NOW)] == [True, False]
    write_files(folder, {"two.jsonl": {"b": "Another text."}, "three.jsonl": {"a": "A text."}})
    assert project.sync(params, settled=watch.settled).forgotten == 0
    assert [watch.is_due(NOW), watch.is_due(NOW)] == [False, True]
    project.sync(params, settled=watch.settled)
    assert project.texts() == {"a": "A text.", "b": "Another text."}
    # 3. what is gone for good is forgotten
    (folder / "three.jsonl").unlink()
    assert [watch.is_due(NOW), watch.is_due(NOW)] == [False, True]
    assert project.sync(params, settled=watch.settled).forgotten == 1


@pytest.mark.parametrize(
    ("schedule", "wait"), [("*/30 * * * *", timedelta(minutes=10)), (None, INTERVAL)]
)
def test_a_source_is_due_at_once_and_then_at_its_schedule(
    project: Project, schedule: str | None, wait: timedelta
) -> None:
    feed = source(kind="feed", address="https://herald.example/feed.xml", schedule=schedule)
    watch = watched(project, feed)
    assert [watch.is_due(NOW), watch.is_due(NOW), watch.is_due(NOW + wait)] == [True, False, True]
    assert not watch.is_due(NOW + wait)
    assert watch.settled("an entry", "of any fingerprint")
