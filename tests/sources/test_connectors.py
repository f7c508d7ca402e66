"""What folder, storage and database list, without a stream."""

import sqlite3
from pathlib import Path

import fsspec
import pytest

from cmt.config import SourceParams, StreamParams
from cmt.errors import StreamError
from cmt.sources import _sql
from cmt.sources._folder import FolderSource
from cmt.sources._remote import StorageSource
from cmt.sources._sql import SqlSource
from cmt.sources.connector import Setting
from cmt.stream.limits import DEFAULT_LIMITS, Limits
from tests.helpers.permissions import deny_listing

SETTING = Setting(DEFAULT_LIMITS)


@pytest.mark.parametrize(
    "address", ["notes[1]", "notes[1]/**", "notes[1]/**/*.md", "notes[[]1]/deep/*", "note*/**"]
)
def test_a_folder_may_have_brackets_in_its_name(tmp_path: Path, address: str) -> None:
    folder = tmp_path / "notes[1]" / "deep"
    folder.mkdir(parents=True)
    (folder / "a.md").write_text("text")
    listed = FolderSource(
        SourceParams(name="a", kind="folder", address=str(tmp_path / address)), SETTING
    ).list()
    assert [Path(item.key).name for item in listed] == ["a.md"]


def test_links_are_followed_once_and_a_folder_that_cannot_be_listed_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def listed(address: str) -> list[str]:
        params = SourceParams(name="a", kind="folder", address=str(tmp_path / address))
        return sorted(item.key for item in FolderSource(params, SETTING).list())

    for name in ("notes/z/b.md", "notes/.git/c.md", "notes/top.md", "other/d.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("text")
    for name, target in {"a": "notes/z", "link": "other", "z/loop": "notes"}.items():
        (tmp_path / "notes" / name).symlink_to(tmp_path / target)
    assert listed("notes") == listed("notes/**/*.md") == ["link/d.md", "top.md", "z/b.md"]
    assert (listed("notes/*.md"), listed("notes/*/?.md")) == (["top.md"], ["link/d.md", "z/b.md"])
    deny_listing(monkeypatch, "z", ".git")
    assert listed("notes/*.md") == ["top.md"]
    with pytest.raises(StreamError, match="cannot list .*/notes/z: Permission denied"):
        listed("notes")


@pytest.mark.parametrize(
    "address", ["memory://store/a.md", "memory://store", "memory://store/*.md"]
)
def test_an_object_a_folder_and_a_pattern_of_a_storage(address: str) -> None:
    storage = fsspec.filesystem("memory")
    storage.pipe("/store/a.md", b"text")
    listed = list(
        StorageSource(SourceParams(name="a", kind="remote", address=address), SETTING).list()
    )
    storage.rm("/store", recursive=True)
    assert [Path(item.key).name for item in listed] == ["a.md"]


def test_the_folders_of_an_object_date_it_and_its_name_may_hold_any_character() -> None:
    storage = fsspec.filesystem("memory")
    storage.pipe("/store/2031/01/02/a#b?.txt", b"text")
    source = StorageSource(SourceParams(name="a", kind="remote", address="memory://store"), SETTING)
    records = [record for item in source.list() for record in source.fetch(item.key)]
    storage.rm("/store", recursive=True)
    [record] = records
    assert (record.where, record.fields["published_at"]) == (
        "store/2031/01/02/a#b?.txt",
        "2031-01-02",
    )


def test_a_row_without_a_date_of_change_is_compared_with_each_sync(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "news.db") as database:
        database.execute("CREATE TABLE news (id, updated_at)")
        database.executemany("INSERT INTO news VALUES (?, ?)", [(1, "2031-03-01"), (2, None)])
    address, query = f"sqlite:///{tmp_path}/news.db", "SELECT * FROM news;\n"
    params = SourceParams(
        name="a", kind="sql", address=address, query=query, key="id", updated_at="updated_at"
    )
    assert [item.fingerprint for item in SqlSource(params, SETTING).list()] == ["2031-03-01", ""]


@pytest.mark.parametrize(
    ("select", "reason"),
    [
        ("SELECT n AS id FROM c", "more than 1,000 rows"),
        ("SELECT n AS id, zeroblob(10000) AS text FROM c", "more than 1 MB"),
        ("SELECT max(n) AS id FROM c", "takes over 0.2 s"),
    ],
    ids=["rows", "bytes", "seconds"],
)
def test_a_query_without_end_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, select: str, reason: str
) -> None:
    monkeypatch.setattr(_sql, "LONGEST", 0.2 if "max" in select else 900.0)
    endless = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) "
    params = SourceParams(
        name="a", kind="sql", address=f"sqlite:///{tmp_path}/a.db", query=endless + select, key="id"
    )
    setting = Setting(Limits(StreamParams(file_rows=1_000, file_megabytes=1)))
    with pytest.raises(StreamError, match=reason):
        list(SqlSource(params, setting).list())
