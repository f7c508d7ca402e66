"""Sync: after each one the stream is what the source has, whatever happened before."""

import errno
import itertools
import json
import os
import random
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest.mock import Mock
from uuid import UUID

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import create_engine, text

from cmt.common import storage
from cmt.common.storage import write_table
from cmt.config import SourceParams
from cmt.errors import ConfigError, StreamError
from cmt.sources import _state as state_module
from cmt.sources import kinds
from cmt.sources.connector import Item
from cmt.sources.kinds import open_connector
from cmt.sources.sync import VanishedError
from cmt.stream._index import SliceIndex
from cmt.stream.columns import Record
from cmt.stream.readers import files as read_files
from cmt.stream.slices import read_rows
from tests.helpers.sources import (
    Changing,
    Faulty,
    Killed,
    Project,
    Scripted,
    Texts,
    atom,
    atom_entry,
    expected,
    later,
    rows,
    served,
    source,
    write_files,
)

STEPS = int(os.environ.get("CMT_SYNC_STEPS", "12"))
"""Steps of one history; `CMT_SYNC_STEPS=300` plays that many on each medium."""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """An empty stream, on a disk that nobody waits for."""
    monkeypatch.setattr(storage, "flush_to_disk", lambda _: None)
    return Project(tmp_path / "project")


def held(source_: SourceParams, changing: Changing) -> dict[str, str]:
    """doc_id → text of what the source has."""

    def name(key: str) -> str:
        """The doc_id of the only document of an item."""
        if source_.address.startswith("memory"):
            return f"news/news/{key}"
        on_web = f"{source_.address.rpartition('/')[0]}/{key}"
        return {"remote": on_web, "folder": f"news/{key}"}.get(source_.kind, key)

    return expected(changing.texts, name)


def play(
    project: Project,
    source_: SourceParams,
    show: Any,
    monkeypatch: pytest.MonkeyPatch,
    *,
    seed: int,
) -> None:
    """Change the source, sync with failures, kills and a wandering clock, then once without, and
    compare.
    """
    # `known`: what the stream had before, which `keep` keeps; `shown`: each (id, text) that the
    # source ever had
    changing, rng = Changing(seed, returning=source_.on_delete != "forget"), random.Random(seed)
    known, shown, kills = dict[str, str](), set[tuple[str, str]](), 0
    for _ in range(STEPS):
        changing.step()
        show(changing.texts)
        now = held(source_, changing)
        shown |= now.items()
        project.stream = later(project.stream, rng)
        with monkeypatch.context() as patched:
            add, kill_at = SliceIndex.add, rng.choice([None, 0, 1])

            def add_or_die(
                self: SliceIndex, *rows: Any, kill_at: int | None = kill_at, add: Any = add
            ) -> Any:
                if kill_at == 0:
                    raise Killed
                slice_ = add(self, *rows)
                if kill_at == 1:
                    raise Killed
                return slice_

            def write_or_die(*arguments: Any, die: bool = rng.random() < 0.2) -> None:
                if die:
                    raise Killed
                write_table(*arguments)

            patched.setattr(SliceIndex, "add", add_or_die)
            patched.setattr(state_module, "write_table", write_or_die)
            faulty = Faulty(open_connector(source_, project.setting()), rng, fail=0.1, kill=0.05)
            try:
                project.sync(source_, faulty)
            except Killed:
                kills += 1
            except StreamError as error:
                assert "the network is down" in str(error)
        if rng.random() < 0.5:
            report = project.sync(
                source_, Faulty(open_connector(source_, project.setting()), rng, fail=0, kill=0)
            )
            assert not report.problems
            texts = project.texts()
            if (
                source_.on_delete == "keep"
            ):  # an interrupted sync may have taken what has vanished since
                known |= {
                    doc_id: text for doc_id, text in texts.items() if (doc_id, text) in shown
                } | now
                now = known
            assert texts == now
            again = project.sync(source_)
            assert (again.new, again.documents, again.expired, again.forgotten) == (0, 0, 0, 0)
    assert kills > 2


@pytest.mark.parametrize("on_delete", ["keep", "expire", "forget"])
def test_a_folder(
    project: Project, tmp_path: Path, on_delete: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "news"
    news = source(address=str(folder), on_delete=on_delete)
    play(project, news, lambda texts: write_files(folder, texts), monkeypatch, seed=1)


def files(**documents: dict[str, str]) -> Scripted:
    """A scripted source of items with these documents."""
    return Scripted(dict(documents))


def test_pages_of_an_http_server(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "pages"
    folder.mkdir()
    with served(folder) as address:
        pages = source(
            kind="remote", address=f"{address}/*.jsonl", on_delete="expire", allow_private=True
        )
        play(project, pages, lambda texts: write_files(folder, texts), monkeypatch, seed=2)


def test_objects_of_a_storage(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    storage_ = fsspec.filesystem("memory")

    def show(texts: Texts) -> None:
        there = (
            {path.rpartition("/")[2] for path in storage_.ls("/news", detail=False)}
            if texts
            else set()
        )
        for key in there - texts.keys():
            storage_.rm(f"/news/{key}")
        for key, documents in texts.items():
            content = "".join(json.dumps(row) + "\n" for row in rows(documents))
            if key not in there or storage_.cat(f"/news/{key}").decode() != content:
                storage_.pipe(f"/news/{key}", content.encode())

    storage_.makedirs("/news", exist_ok=True)
    play(
        project,
        source(kind="remote", address="memory://news", on_delete="forget"),
        show,
        monkeypatch,
        seed=3,
    )
    storage_.rm("/news", recursive=True)


@pytest.mark.parametrize("updated_at", [None, "changed"])
def test_rows_of_a_database(
    project: Project, tmp_path: Path, updated_at: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    follow_database(project, f"sqlite:///{tmp_path / 'news.db'}", updated_at, monkeypatch)


def follow_database(
    project: Project, address: str, updated_at: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Play a history in a table of the database at `address`."""
    engine, ticks = create_engine(address), itertools.count()
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE IF EXISTS news"))
        connection.execute(
            text("CREATE TABLE news (id TEXT, text TEXT, published_at TEXT, changed INTEGER)")
        )

    def show(texts: Texts) -> None:
        with engine.begin() as connection:
            there = {
                (row.id, row.text) for row in connection.execute(text("SELECT id, text FROM news"))
            }
            now = {
                (doc_id or key, words)
                for key, one in texts.items()
                for doc_id, words in one.items()
            }
            for id_, _ in there - now:
                connection.execute(text("DELETE FROM news WHERE id = :id"), {"id": id_})
            for id_, words in now - there:
                row = {"id": id_, "text": words, "changed": next(ticks) if updated_at else None}
                connection.execute(
                    text("INSERT INTO news VALUES (:id, :text, '2031-01-02', :changed)"), row
                )

    rows_of_news = source(
        kind="sql",
        address=address,
        query="SELECT id, text, published_at, changed FROM news",
        key="id",
        updated_at=updated_at,
        columns={"doc_id": "id"},
        on_delete="expire",
    )
    play(project, rows_of_news, show, monkeypatch, seed=4)
    engine.dispose()


def test_entries_of_a_feed(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "feed"
    folder.mkdir()

    def show(texts: Texts) -> None:
        entries = (
            atom_entry(doc_id or key, words)
            for key, one in texts.items()
            for doc_id, words in one.items()
        )
        (folder / "feed.xml").write_text(atom(*entries))

    with served(folder) as address:
        feed = source(kind="feed", address=f"{address}/feed.xml", allow_private=True)
        play(project, feed, show, monkeypatch, seed=5)


def test_documents_with_the_date_of_their_file_are_counted(
    project: Project, tmp_path: Path
) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    for name in ("07 Nov 2026.md", "25-11-2026.md", "05-11-2026.md", "boat.md"):
        (notes / name).write_text(f"The boat needs oil, says {name}.")
    report = project.sync(source(kind="folder", address=str(notes)))
    assert (report.documents, report.undated) == (4, 2)


def test_a_later_date_makes_a_version_the_same_one_a_correction(project: Project) -> None:
    scripted = files(a={"d": "First text."})
    project.sync(source(), scripted)
    scripted.texts["a"] = {"d": "Corrected text."}
    report = project.sync(source(), scripted)
    assert (report.changed, report.documents, report.versions) == (1, 1, 1)
    scripted.texts["a"], scripted.dates["a"] = {"d": "Later text."}, "2031-03-01"
    project.sync(source(), scripted)
    scripted.texts["a"], scripted.dates["a"] = (
        {"d": "Redated text."},
        "2031-02-01",
    )  # older than what is there
    project.sync(source(), scripted)
    dates = [
        (str(row["published_at"].date()), row["text"])
        for row in project.store.all_documents().to_pylist()
    ]
    assert sorted(dates) == [
        ("2031-01-02", "Corrected text."),
        ("2031-01-02", "First text."),
        ("2031-03-01", "Later text."),
        ("2031-12-31", "Redated text."),
    ]
    assert project.texts() == {"d": "Redated text."}


def test_a_row_of_a_database_holds_from_its_update(project: Project, tmp_path: Path) -> None:
    database = create_engine(f"sqlite:///{tmp_path / 'fees.db'}")
    rows = [("The fee is 3 crowns.", "2031-01-02"), ("The fee is 4 crowns.", "2031-01-09")]
    with database.begin() as connection:
        connection.execute(text("CREATE TABLE fees (id, published_at, text, changed)"))
        connection.execute(text("INSERT INTO fees (id, published_at) VALUES (1, '2031-01-02')"))
    fees = source(
        kind="sql",
        address=f"sqlite:///{tmp_path / 'fees.db'}",
        query="SELECT * FROM fees",
        key="id",
        updated_at="changed",
    )
    for body, changed in rows:
        with database.begin() as connection:
            connection.execute(
                text("UPDATE fees SET text = :body, changed = :changed"),
                {"body": body, "changed": changed},
            )
        project.sync(fees)
        project.sync(fees, everything=True)
    found = {
        (row["text"], row["published_at"].date().isoformat())
        for row in project.store.all_documents().to_pylist()
    }
    assert found == {*rows}


@pytest.mark.parametrize(
    ("doc_id", "text"),
    [(UUID(int=7), str(UUID(int=7))), (Decimal("7.00"), "7"), (Decimal(10**30), str(10**30))],
)
def test_an_id_of_a_database_names_its_document_and_a_field_that_is_left_out_is_told(
    project: Project, doc_id: Any, text: str
) -> None:
    class Table(Scripted):
        def fetch(self, key: str) -> Iterator[Record]:
            yield Record(
                {"id": doc_id, "text": self.texts[key][""], "date": "2031-01-02", "title": b"Toll"},
                key,
            )

    table = Table({"a": {"": "The toll is two marks."}})
    assert project.sync(source(), table).problems == [
        "1 × title is left out, because it is no string, such as b'Toll'"
    ]
    table.texts = {"a": {"": "The toll is three marks."}}
    project.sync(source(), table)
    assert project.texts() == {text: "The toll is three marks."}


def test_a_text_that_returns_at_its_own_date_holds_again(project: Project) -> None:
    scripted = files(a={"d": "First text."})
    project.sync(source(), scripted)
    for words in ("Corrected text.", "First text.", "Corrected text."):
        scripted.texts["a"] = {"d": words}
        assert project.sync(source(), scripted).documents == 1
        assert project.texts() == {"d": words}
        assert project.sync(source(), scripted).documents == 0


def test_a_document_without_a_date_gets_that_of_its_item_and_keeps_it(
    project: Project, tmp_path: Path
) -> None:
    folder = tmp_path / "news"
    write_files(folder, {"a.jsonl": {"": "One text."}}, date=None)
    os.utime(folder / "a.jsonl", (1_700_000_000, 1_700_000_000))
    project.sync(source(address=str(folder)))
    os.utime(folder / "a.jsonl", (1_800_000_000, 1_800_000_000))
    report = project.sync(source(address=str(folder)))
    assert (report.changed, report.documents) == (1, 0)
    (row,) = project.store.all_documents().to_pylist()
    assert (row["doc_id"], str(row["published_at"].date()), row["source"]) == (
        "news/a.jsonl",
        "2023-11-14",
        "news",
    )


def test_too_much_that_vanished_stops_and_asks(project: Project) -> None:
    careful = source(max_vanished=0.2, on_delete="expire")
    scripted = files(**{f"k{n}": {f"d{n}": f"Text number {n} of many."} for n in range(10)})
    project.sync(careful, scripted)
    for key in ("k1", "k2"):
        del scripted.texts[key]
    assert project.sync(careful, scripted).expired == 2
    kept = scripted.texts
    scripted.texts = {"k0": kept["k0"], "new": {"n": "A new one."}}
    with pytest.raises(VanishedError, match=r"7 of 8 known items vanished.*--accept-vanished"):
        project.sync(careful, scripted)
    assert len(project.texts()) == 8
    assert project.sync(careful, scripted, dry_run=True, accept_vanished=True).vanished == 7
    assert project.sync(careful, scripted, accept_vanished=True).expired == 7
    assert set(project.texts()) == {"d0", "n"}
    # a file that lost most of its rows is a partial one, too
    scripted.texts["new"] = {f"n{n}": f"Row {n} of the file." for n in range(10)}
    project.sync(careful, scripted, accept_vanished=True)
    scripted.texts["new"] = {"n0": "Row 0 of the file."}
    for _ in range(2):
        with pytest.raises(VanishedError, match="9 of 11 known documents"):
            project.sync(careful, scripted)
    scripted.texts["new"] = {f"n{n}": f"Row {n} of the file." for n in range(10)}
    assert (project.sync(careful, scripted).documents, len(project.texts())) == (0, 11)


def test_what_a_reader_leaves_out_of_an_item_is_told(project: Project) -> None:
    class Folder(Scripted):
        def fetch(self, key: str) -> Iterator[Record]:
            yield from (one._replace(left_out=("the array tags",)) for one in super().fetch(key))

    problems = project.sync(source(), Folder({"a.json": {"a": "The first."}})).problems
    assert problems == ["a.json: the array tags is not a document and is left out"]


def test_a_post_that_becomes_a_draft_expires(project: Project, tmp_path: Path) -> None:
    folder = tmp_path / "posts"
    folder.mkdir()
    for draft, texts in (("", {"posts/a.md"}), ("draft: true\n", set[str]()), ("", {"posts/a.md"})):
        (folder / "a.md").write_text(
            f"---\ndate: 2031-01-02\n{draft}---\nThe ferry sails at noon.\n"
        )
        report = project.sync(
            source(name="posts", address=str(folder), on_delete="expire"), accept_vanished=True
        )
        assert ({*project.texts()}, report.refused) == (texts, 0)


def test_an_item_that_fails_stops_no_other_and_is_tried_again(project: Project) -> None:
    scripted = files(a={"a": "The first."}, b={"b": "The second."})
    scripted.broken = {"a"}
    report = project.sync(source(), scripted)
    assert (report.failed, report.documents, report.problems) == (1, 1, ["a: OSError: a is broken"])
    scripted.broken = set()
    report = project.sync(source(), scripted)
    assert (report.new, report.documents, report.failed) == (1, 1, 0)
    # to forget is for good: it waits until every item could be read
    forgets = source(on_delete="forget")
    scripted.texts, scripted.broken = {"a": {"a": "The first."}, "c": {"b": "The second."}}, {"c"}
    assert project.sync(forgets, scripted).forgotten == 0
    scripted.broken = set()
    assert project.sync(forgets, scripted).forgotten == 0  # it moved
    del scripted.texts["c"]
    assert project.sync(forgets, scripted).forgotten == 1
    assert set(project.texts()) == {"a"}


def test_refused_rows_are_in_one_quarantine_as_long_as_the_source_has_them(
    project: Project,
) -> None:
    def refused() -> list[str]:
        path = project.store.quarantine / "source-news.jsonl"
        return (
            [json.loads(line)["file"] for line in path.read_text().splitlines()]
            if path.exists()
            else []
        )

    scripted = files(a={"a": ""}, b={"b": "A good one."}, c={"c": ""})
    report = project.sync(source(), scripted)
    assert (report.refused, report.documents) == (2, 1)
    assert refused() == ["a", "c"]
    scripted.texts["a"] = {"a": "Now it has a text."}
    report = project.sync(source(), scripted)
    assert (report.refused, report.documents) == (0, 1)
    assert refused() == ["c"]
    del scripted.texts["c"]
    project.sync(source(), scripted)
    assert refused() == []


def test_a_row_of_tomorrow_is_taken_tomorrow(project: Project) -> None:
    scripted = files(a={"a": "Of the new year."})
    scripted.dates["a"] = "2032-01-02"
    assert project.sync(source(), scripted).refused == 1
    assert (project.sync(source(), scripted).changed, project.texts()) == (1, {})
    project.stream = project.stream.model_copy(update={"clock": "2032-01-03T00:00:00Z"})
    assert project.sync(source(), scripted).documents == 1


def test_a_stream_that_was_removed_is_filled_again_and_a_lost_state_doubles_nothing(
    project: Project,
) -> None:
    scripted = files(a={"a": "The first."}, b={"b": "The second."})
    project.sync(source(), scripted)
    for slice_ in project.store.slices():
        slice_.path.unlink()
    assert project.sync(source(), scripted).documents == 2
    state = project.folder / "state/sources/news.parquet"
    state.write_bytes(state.read_bytes()[:-20])
    with pytest.raises(StreamError, match=r"news\.parquet cannot be read .*: remove it"):
        project.sync(source(), scripted)
    state.unlink()
    report = project.sync(source(), scripted)
    assert (report.new, report.documents) == (2, 0)


def test_a_state_with_the_column_of_an_earlier_version_is_read(project: Project) -> None:
    scripted = files(a={"a": "The first."})
    project.sync(source(), scripted)
    state = project.folder / "state/sources/news.parquet"
    table = pq.read_table(state)
    order = pa.array([None], pa.timestamp("us", tz="UTC"))
    write_table(state, table.add_column(1, "order", order))
    report = project.sync(source(), scripted)
    assert (report.new, report.changed, report.documents) == (0, 0, 0)


def test_a_file_that_could_not_be_read_once_is_read_by_the_next_sync(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "posts/2031/01/02").mkdir(parents=True)
    (tmp_path / "posts/2031/01/02/note.txt").write_text("The bus is late.")

    posts = SourceParams(name="posts", kind="folder", address=str(tmp_path / "posts"))
    with monkeypatch.context() as patch:
        patch.setattr(
            read_files, "open_regular", Mock(side_effect=OSError(errno.EIO, "Input/output error"))
        )
        assert project.sync(posts).failed == 1
    project.sync(posts)
    [document] = project.store.all_documents().to_pylist()
    assert (document["text"], str(document["published_at"])[:10]) == (
        "The bus is late.",
        "2031-01-02",
    )


def test_a_problem_names_its_file_once(project: Project, tmp_path: Path) -> None:
    folder = tmp_path / "news"
    folder.mkdir()
    (folder / "bad.bin").write_bytes(bytes(range(32)))
    good = "2,Two cafés.,2031-01-02\n".encode()
    (folder / "bad.csv").write_bytes(b"id,text,date\n1,A caf\xe9.,2031-01-02\n" + 9 * good)
    unknown, bytes_ = project.sync(source(address=str(folder))).problems
    assert (
        unknown == "bad.bin is in no known format: leave it out, or convert it to text, HTML or CSV"
    )
    assert bytes_.startswith("bad.csv row 2: not UTF-8: it has the byte 0xe9")


def test_nothing_of_another_source_is_removed(project: Project) -> None:
    scripted = files(a={"shared": "What the first source says."})
    project.sync(source(name="first", on_delete="forget"), scripted)
    other = files(x={"shared": "What another one claims."}, y={"own": "Its own."})
    report = project.sync(source(name="second", on_delete="forget"), other)
    assert (report.refused, "may not correct" in report.problems[0]) == (1, True)
    other.texts = {}
    assert project.sync(source(name="second", on_delete="forget"), other).forgotten == 1
    assert project.texts() == {"shared": "What the first source says."}


@pytest.mark.parametrize("on_delete", ["expire", "forget"])
def test_a_renamed_file_keeps_its_text_and_takes_all_its_names_with_it(
    project: Project, on_delete: str
) -> None:
    scripted, news = files(n1={"": "The toll is two euros."}), source(on_delete=on_delete)
    project.sync(news, scripted)
    for name in ("n2", "n3"):
        scripted.texts = {name: {"": "The toll is two euros."}}
        report = project.sync(news, scripted)
        assert (report.new, report.vanished, report.expired, report.forgotten) == (1, 1, 0, 0)
        assert project.texts() == {"news/n1": "The toll is two euros."}
    assert project.sync(news, scripted, everything=True).documents == 0
    scripted.texts = {"n3": {"": "The toll is three euros."}}
    report = project.sync(news, scripted)
    assert (report.expired, report.forgotten) == ((2, 0) if on_delete == "expire" else (0, 2))
    assert project.texts() == {"news/n3": "The toll is three euros."}
    scripted.texts = {}
    project.sync(news, scripted)
    assert project.texts() == {}


def test_a_file_that_grows_a_second_row_keeps_its_first(project: Project) -> None:
    class Rows(Scripted):
        def fetch(self, key: str) -> Iterator[Record]:
            for words in self.texts[key].values():
                yield Record({"text": words, "published_at": "2031-01-02"}, key)

    grown, news = Rows({"a": {"1": "The first row."}}), source(on_delete="forget")
    project.sync(news, grown)
    grown.texts["a"]["2"] = "The second row."
    assert project.sync(news, grown).forgotten == 0
    assert sorted(project.texts().values()) == ["The first row.", "The second row."]
    del grown.texts["a"]["2"]
    assert project.sync(news, grown).forgotten == 1
    assert project.texts() == {"news/a": "The first row."}


def test_what_another_source_of_the_publisher_has_does_not_vanish(project: Project) -> None:
    toll, fare = {"toll": "The toll is two euros."}, {"fare": "The fare is one euro."}
    scripted = {"one": files(a=toll, b=fare), "two": files(x=toll, y={"copy": fare["fare"]})}

    def sync(name: str) -> Any:
        shared = source(name=name, publisher="town", on_delete="expire")
        return project.sync(shared, scripted[name], siblings={"one", "two"} - {name})

    sync("one")
    sync("two")
    scripted["one"].texts = {}
    report = sync("one")
    assert (report.vanished, report.expired, project.texts()) == (2, 0, toll | fare)
    assert ["fare is kept" in problem for problem in report.problems] == [True]
    scripted["two"].texts = {"y": {"copy": fare["fare"]}}
    assert (sync("two").expired, project.texts()) == (1, fare)


def test_a_sync_without_news_reads_no_documents(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted = files(a={"a": "The first."}, b={"b": "The second."})
    project.sync(source(), scripted)
    monkeypatch.setattr(
        "cmt.sources.sync.read_rows", lambda *_, **__: pytest.fail("a slice was read")
    )
    assert project.sync(source(), scripted).changed == 0
    project.store.slices()[0].path.unlink()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("cmt.sources.sync.read_rows", read_rows)
        assert project.sync(source(), scripted).changed == 2


def test_two_syncs_of_one_source_exclude_each_other(project: Project) -> None:
    class Nested(Scripted):
        def list(self) -> Iterator[Item]:
            with pytest.raises(StreamError, match="news is being read by another process"):
                project.sync(source(), Scripted())
            yield from super().list()

    assert project.sync(source(), Nested({"a": {"a": "Once."}})).documents == 1


def test_columns_dates_and_formats_are_those_of_an_ingest(project: Project, tmp_path: Path) -> None:
    folder = tmp_path / "news"
    folder.mkdir()
    (folder / "post.md").write_text(
        "---\ntitle: A post\ndate: 2031-02-01\n---\nThe post says something.\n"
    )
    (folder / "table.csv").write_text(
        "headline;story;lead;date\nA;One story.;x;3 March 2031\nB;Two stories.;y;4 March 2031\n"
    )
    mapped = source(address=str(folder), columns={"title": "lead"})
    report = project.sync(mapped)
    assert (report.documents, report.problems) == (3, [])
    found = {row["text"]: row for row in project.store.all_documents().to_pylist()}
    assert found["The post says something."]["doc_id"] == "news/post.md"
    assert (found["One story."]["title"], str(found["One story."]["published_at"].date())) == (
        "x",
        "2031-03-03",
    )


def test_a_connector_of_another_package(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    class Tickets:
        name = "tickets"

        @staticmethod
        def load() -> Any:
            return lambda source_, setting: files(
                **{source_.options["queue"]: {"t": "A ticket was closed."}}
            )

    monkeypatch.setattr(
        kinds, "entry_points", lambda group: [Tickets] if group == "cmt.sources" else []
    )
    assert project.sync(source(kind="tickets", options={"queue": "outages"})).documents == 1
    with pytest.raises(
        ConfigError, match="has the kind 'mail'; there are folder, remote, feed, sql, tickets"
    ):
        project.sync(source(kind="mail"))
