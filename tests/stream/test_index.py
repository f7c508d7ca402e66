"""The index of a store: lost, damaged, older than the slices, or of forgotten documents."""

import logging
import os
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cmt.common.storage import atomic_path
from cmt.errors import StreamError
from cmt.stream._index import FILE, SliceIndex
from cmt.stream.slices import read_rows
from cmt.stream.store import SliceStore
from tests.helpers.damage import garble
from tests.helpers.rows import Ingest, Row, make_document, make_question

ROWS = [
    make_document("a"),
    make_document("b", published_at="2031-02-01"),
    make_document("c", published_at="2031-03-01", supersedes="a"),
    make_question("q1", "a"),
]
CHANGES = {
    "duplicates": ROWS,
    "a version": [make_document("b", published_at="2031-02-01", text="The ferry is sold.")],
    "a repeat": [make_document("d", text="The b sails at noon.", published_at="2031-04-01")],
    "an update": [make_document("e", supersedes="b", published_at="2031-04-01")],
    "an asked question": [make_question("q1", "b")],
}


@pytest.fixture
def ingest(ingest: Ingest) -> Ingest:
    """Ingest rows of one publisher."""
    return partial(ingest, publisher="Courier")


@pytest.fixture
def filled(store: SliceStore, ingest: Ingest) -> SliceStore:
    """A store with three slices and an index."""
    ingest(ROWS)
    assert (store.path / FILE).exists()
    return store


def outcome(ingest: Ingest, rows: Iterable[Row]) -> tuple[object, ...]:
    """What an ingest of `rows` does."""
    try:
        report = ingest(rows, name="changes.jsonl")
    except StreamError as error:
        return (str(error),)
    slices = [(slice_.slice_id, slice_.digest) for slice_ in report.slices]
    return report.summary(), slices, report.rejected


def remove(path: Path) -> None:
    path.unlink()


def garble_all(path: Path) -> None:
    garble([path])


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5_000])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def from_a_later_version(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 1000")


@pytest.mark.parametrize("harm", [remove, garble_all, truncate, empty, from_a_later_version])
@pytest.mark.parametrize("change", CHANGES)
def test_an_index_that_cannot_be_read_is_made_again(
    filled: SliceStore,
    ingest: Ingest,
    harm: Callable[[Path], None],
    change: str,
) -> None:
    index, kept = filled.path / FILE, {}
    for path in filter(Path.is_file, filled.path.rglob("*")):
        kept[path.relative_to(filled.path)] = path.read_bytes()
    expected = outcome(ingest, CHANGES[change])
    for path in filter(Path.is_file, filled.path.rglob("*")):
        path.unlink()
    for name, content in kept.items():
        (filled.path / name).write_bytes(content)
    harm(index)
    assert outcome(ingest, CHANGES[change]) == expected
    assert filled.verify() == []
    assert index.exists()


@pytest.mark.parametrize("written", range(3))
def test_a_kill_between_slices_and_index_is_harmless(
    filled: SliceStore, ingest: Ingest, written: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    rows = [make_document(f"n{month}", published_at=f"2031-0{month}-09") for month in (1, 2, 5)]
    added, add = list[object](), SliceIndex.add

    def add_or_die(self: SliceIndex, *part: object) -> object:
        added.append(add(self, *part))  # type: ignore[arg-type]
        if len(added) > written:
            raise Killed
        return added[-1]

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(SliceIndex, "add", add_or_die)
        ingest(rows)
    report = ingest(rows)
    assert (report.accepted, report.duplicates) == (2 - written, written + 1)
    assert len(filled.all_documents()) == 6 and filled.verify() == []
    assert ingest(rows).duplicates == 3


def test_slices_that_come_and_go_are_noticed(filled: SliceStore, ingest: Ingest) -> None:
    kept = {path: path.read_bytes() for path in (filled.path / "2031-02").iterdir()}
    for path in kept:
        path.unlink()
    assert ingest(ROWS).accepted == 1
    [again] = (filled.path / "2031-02").glob("*.json")
    again.unlink()
    for path, content in kept.items():
        path.write_bytes(content)
    assert ingest(ROWS).duplicates == 3


def test_the_digests_of_the_index_are_those_of_the_slices(
    filled: SliceStore, ingest: Ingest
) -> None:
    ingest([make_document("new", published_at="2031-04-01")], name="new.jsonl")
    assert len(filled.digests()) == len(filled.slices()) > 2
    for path in [*(filled.path / "2031-02").iterdir()]:
        path.unlink()
    assert filled.digests() == {slice_.digest for slice_ in filled.slices()}
    assert SliceStore(filled.path / "none", filled.quarantine).digests() == set()


def test_the_file_is_an_index_of_the_slices_after_every_ingest(
    filled: SliceStore, ingest: Ingest
) -> None:
    for rows in CHANGES.values():
        outcome(ingest, rows)
        with closing(sqlite3.connect(filled.path / FILE)) as database:
            count = "SELECT count(*), count(DISTINCT slice_id) FROM versions"
            assert database.execute(count).fetchone() == (
                len(filled.all_documents()),
                len(filled.slices()),
            )


def test_an_ingest_reads_only_the_slices_of_its_rows(
    filled: SliceStore, ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = set[str]()

    def note(path: Path, **_: object) -> object:
        read.add(path.parent.name)
        return parquet_file(path, page_checksum_verification=True)

    parquet_file = pq.ParquetFile
    monkeypatch.setattr("pyarrow.parquet.ParquetFile", note)
    ingest([make_document("new", published_at="2031-04-01")], name="new.jsonl")
    assert read == set()
    ingest([make_document("b", published_at="2031-05-01")], name="b.jsonl")
    assert read == {"2031-02"}


def test_a_dry_run_writes_no_index(filled: SliceStore, ingest: Ingest) -> None:
    for harm in (lambda _: None, garble_all, remove):
        harm(filled.path / FILE)
        before = {path: path.read_bytes() for path in filled.path.rglob("*") if path.is_file()}
        assert ingest(ROWS, dry_run=True).duplicates == 3
        after = {path: path.read_bytes() for path in filled.path.rglob("*") if path.is_file()}
        assert after == before


def test_an_index_that_cannot_be_written_costs_no_document(
    filled: SliceStore,
    ingest: Ingest,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (filled.path / FILE).unlink()

    def full(path: Path) -> object:
        if path.name == FILE:
            raise OSError(28, "No space left on device")
        return atomic_path(path)

    with monkeypatch.context() as patched, caplog.at_level(logging.WARNING):
        patched.setattr("cmt.stream._index.atomic_path", full)
        assert ingest([make_document("new")]).accepted == 1
    assert FILE in caplog.text and not (filled.path / FILE).exists()
    assert ingest([make_document("new")]).duplicates == 1


def test_verify_names_an_index_that_lacks_a_row(filled: SliceStore) -> None:
    for change in ("DELETE FROM versions WHERE doc_id = 'b'", "DELETE FROM questions"):
        with closing(sqlite3.connect(filled.path / FILE)) as database, database:
            database.execute(change)
        [problem] = filled.verify()
        assert FILE in problem
        (filled.path / FILE).unlink()
        with filled.opened():
            pass
        assert filled.verify() == []


def test_a_purge_leaves_no_trace_in_the_index(filled: SliceStore, ingest: Ingest) -> None:
    documents = read_rows(filled.slice("2031-02/0001"), "documents").to_pylist()
    filled.forget({"b": ()})
    for slice_ in filled.slices_containing(["b"]):
        digest = filled.purged_digest(slice_, ["b"])
        filled.purge(slice_.slice_id, ["b"], digest=digest)
    assert not (filled.path / FILE).exists()
    outcome(ingest, [make_document("new", published_at="2031-02-09")])
    content = (filled.path / FILE).read_bytes()
    assert documents[0]["sha256"].encode() not in content
    assert filled.verify() == []


def test_a_journal_of_a_lost_index_is_not_applied_to_the_next(
    filled: SliceStore, ingest: Ingest
) -> None:
    journal = filled.path / f"{FILE}-journal"
    (filled.path / FILE).unlink()
    journal.write_bytes(os.urandom(2_000))
    assert ingest(ROWS).duplicates == 3
    assert not journal.exists() and filled.verify() == []
