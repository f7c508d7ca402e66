import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from unittest.mock import Mock

import filelock
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cmt.errors import ConfigError, StreamError
from cmt.stream.admission.ingest import Options
from cmt.stream.admission.ingest import ingest as ingest_into
from cmt.stream.schema import DOCUMENT_SCHEMA, QUESTION_SCHEMA
from cmt.stream.slices import rows_digest
from cmt.stream.store import SliceStore
from tests.helpers.processes import CONTEXT, started
from tests.helpers.rows import NOW, Ingest, Row, doc_ids, make_document, make_question, validated

COURIER = Path(__file__).parents[2] / "data" / "courier"
DOCUMENTS, QUESTIONS = (
    rows.table for rows in validated(*map(make_document, "abc"), *map(make_question, "xy"))
)


def dated(doc_id: str, published_at: str) -> Row:
    """A document of this date."""
    return make_document(doc_id, published_at=published_at)


def sizes(store: SliceStore) -> list[tuple[str, int, int]]:
    """(slice_id, number of documents, number of questions) of every slice."""
    return [(slice_.slice_id, slice_.n_documents, slice_.n_questions) for slice_ in store.slices()]


def test_documents_go_by_date_of_publication_and_questions_by_date_of_asking(
    ingest: Ingest, store: SliceStore
) -> None:
    rows = [
        dated("b", "2031-02-10T00:00:00Z"),
        dated("a", "2031-01-10T00:00:00Z"),
        dated("c", "2031-01-05T00:00:00Z"),
    ]
    ingest(
        [*rows, make_question("q1", "a", asked_at="2031-03-01T00:00:00Z"), make_question("q2", "a")]
    )
    assert sizes(store) == [("2031-01/0001", 2, 1), ("2031-02/0001", 1, 0), ("2031-03/0001", 0, 1)]
    assert store.documents(store.slice("2031-01/0001"))["doc_id"].to_pylist() == ["c", "a"]
    assert store.questions(store.slice("2031-03/0001"))["question_id"].to_pylist() == ["q1"]


@pytest.mark.parametrize(
    ("period", "labels"),
    [
        ("day", ["2031-01-31/0001", "2031-02-01/0001", "2031-02-03/0001"]),
        ("week", ["2031-W05/0001", "2031-W06/0001"]),
        ("month", ["2031-01/0001", "2031-02/0001"]),
    ],
)
def test_a_period_is_cut_in_utc(
    ingest: Ingest, store: SliceStore, period: str, labels: list[str]
) -> None:
    rows = ["2031-02-01T00:30:00+01:00", "2031-02-01T00:00:00Z", "2031-02-03T12:00:00Z"]
    # a question on the first, with the plain date of its day
    asked = make_question("q", "0", asked_at="2031-01-31")
    ingest([*(dated(str(number), at) for number, at in enumerate(rows)), asked], period=period)
    assert [slice_.slice_id for slice_ in store.slices()] == labels
    assert [slice_.n_questions for slice_ in store.slices()] == [1] + [0] * (len(labels) - 1)


def test_a_number_of_documents_makes_slices_in_time_order_with_their_questions(
    ingest: Ingest, store: SliceStore
) -> None:
    rows = [dated(str(day), f"2031-01-0{day}T00:00:00Z") for day in (5, 4, 3, 2, 1)]
    ingest(
        [*rows, make_question("q5", "5"), make_question("q1", "1"), make_question("q4", "4")],
        period=2,
    )
    assert sizes(store) == [("every-2/0001", 2, 1), ("every-2/0002", 2, 1), ("every-2/0003", 1, 1)]
    assert doc_ids(store) == ["1", "2", "3", "4", "5"]
    assert store.all_questions()["doc_id"].to_pylist() == ["1", "4", "5"]
    ingest([make_question("late", "1")], period=2, name="late.jsonl")
    assert sizes(store)[-1] == ("every-2/0004", 0, 1)


def test_a_store_cannot_be_cut_by_another_period(ingest: Ingest) -> None:
    ingest([make_document("a")])
    with pytest.raises(StreamError, match="cut by month, not by every-2"):
        ingest([make_document("b")], period=2)
    with pytest.raises(ConfigError, match="stream.period"):
        ingest([make_document("b")], period="year")


def test_late_documents_make_another_slice_and_leave_the_first_unchanged(
    ingest: Ingest, store: SliceStore
) -> None:
    ingest([make_document("a")])
    before = {path: path.read_bytes() for path in store.path.rglob("0001*")}
    ingest([make_document("b")])
    assert sizes(store) == [("2031-01/0001", 1, 0), ("2031-01/0002", 1, 0)]
    assert {path: path.read_bytes() for path in store.path.rglob("0001*")} == before


def test_slices_with_more_than_four_digits_stay_in_order(ingest: Ingest, store: SliceStore) -> None:
    ingest([make_document("a")])
    first = store.slice("2031-01/0001").path
    for table in ("documents", "questions"):
        first.with_name(f"0001.{table}.parquet").rename(first.with_name(f"9999.{table}.parquet"))
    manifest = json.loads(first.read_text()) | {"slice_id": "2031-01/9999", "seq": 9999}
    first.rename(first.with_name("9999.json")).write_text(json.dumps(manifest))
    ingest([make_document("b")])
    assert [slice_.slice_id for slice_ in store.slices()] == ["2031-01/9999", "2031-01/10000"]


def test_a_slice_without_its_manifest_is_ignored_and_overwritten(
    ingest: Ingest, store: SliceStore
) -> None:
    rows = [make_document("a"), make_question("q1", "a"), dated("b", "2031-02-01T00:00:00Z")]
    digests = [slice_.digest for slice_ in ingest(rows).slices]
    store.slice("2031-02/0001").path.unlink()  # the state that a crash before the manifest leaves
    half = store.path / "2031-02" / "0001.documents.parquet"
    half.write_bytes(half.read_bytes()[:50])
    (store.path / "2031-02" / ".0001.questions.parquet.tmp").write_text("half")
    assert sizes(store) == [("2031-01/0001", 1, 1)]
    assert store.verify() == []
    assert [slice_.slice_id for slice_ in ingest(rows).slices] == ["2031-02/0001"]
    assert [slice_.digest for slice_ in store.slices()] == digests
    assert store.verify() == []


def test_a_failed_write_leaves_no_slice_and_no_partial_file(
    ingest: Ingest, store: SliceStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with (
        monkeypatch.context() as patch,
        pytest.raises(StreamError, match="cannot write .*No space left"),
    ):
        patch.setattr("os.fsync", Mock(side_effect=OSError(28, "No space left on device")))
        ingest([make_document()])
    assert store.slices() == []
    assert [path.name for path in store.path.rglob("*") if path.is_file()] == [".lock"]
    assert ingest([make_document()]).accepted == 1
    # a folder that cannot be made
    elsewhere = replace(store, path=tmp_path / "rows.jsonl" / "stream")
    with pytest.raises(StreamError, match="cannot write .*rows.jsonl"):
        ingest_into(elsewhere, COURIER, file_format="jsonl", options=Options(now=NOW))


@pytest.mark.parametrize("table", ["documents", "questions"])
def test_a_flipped_bit_is_noticed_and_its_file_named(
    ingest: Ingest, store: SliceStore, table: str
) -> None:
    rows = [make_document("a", text="ferry " * 500), make_question("q1", "a")]
    slice_ = ingest(rows).slices[0]
    path = slice_.path.with_name(f"0001.{table}.parquet")
    data = path.read_bytes()
    column = pq.ParquetFile(path).metadata.row_group(0).column(0)
    last = (
        (column.dictionary_page_offset or column.data_page_offset)
        + column.total_compressed_size
        - 1
    )
    path.write_bytes(data[:last] + bytes([data[last] ^ 1]) + data[last + 1 :])
    with pytest.raises(StreamError, match=rf"0001\.{table}\.parquet is damaged.*ingest again"):
        getattr(store, table)(slice_)
    with pytest.raises(StreamError, match=rf"0001\.{table}\.parquet"):
        ingest(rows)
    [problem] = store.verify()
    assert f"0001.{table}.parquet" in problem


def test_a_missing_damaged_or_foreign_table_is_refused_with_a_remedy(
    ingest: Ingest, store: SliceStore
) -> None:
    [slice_] = ingest([make_document("a")]).slices
    path = slice_.path.with_name("0001.documents.parquet")
    no_utf8 = path.read_bytes().replace(b"doc_id", b"doc\xd6id")  # the name of a column
    foreign = path.with_name("0001.questions.parquet").read_bytes()
    path.unlink()
    problems = {
        None: "is missing",
        b"PAR1": "is damaged",
        no_utf8: "is damaged",
        foreign: "has other columns",
    }
    for content, problem in problems.items():
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(
            StreamError, match=rf"{problem}.*restore it .* or delete .*/0001\.\* and ingest again"
        ):
            store.documents(slice_)


def test_a_damaged_manifest_is_named_and_does_not_hide_other_problems(
    ingest: Ingest, store: SliceStore
) -> None:
    ingest([make_document("a"), dated("b", "2031-02-01T00:00:00Z")])
    (store.path / "2031-01" / "0001.json").write_text('{"slice_id": "2031-')
    (store.path / "2031-02" / "0001.questions.parquet").unlink()
    with pytest.raises(StreamError, match="2031-01/0001.json is not the manifest of a slice"):
        store.slices()
    first, second = store.verify()
    assert "2031-01/0001.json is not the manifest" in first
    assert "2031-02/0001.questions.parquet is missing" in second


def test_an_unknown_slice_is_refused_and_the_existing_ones_are_named(
    ingest: Ingest, store: SliceStore
) -> None:
    with pytest.raises(StreamError, match="none, ingest first"):
        store.slice("2031-01/0001")
    ingest([make_document()])
    with pytest.raises(
        StreamError, match="no slice '2031-09/0001' .*existing slices: 2031-01/0001"
    ):
        store.slice("2031-09/0001")


def test_an_unreadable_source_writes_nothing(
    ingest: Ingest, store: SliceStore, tmp_path: Path
) -> None:
    (tmp_path / "rows.jsonl").touch()
    with pytest.raises(StreamError, match="rows.jsonl is empty"):
        ingest(tmp_path / "rows.jsonl")
    assert not store.path.exists()
    assert not store.quarantine.exists()


def test_a_locked_store_is_refused_after_a_timeout(ingest: Ingest, store: SliceStore) -> None:
    store.path.mkdir()
    refused = pytest.raises(
        StreamError, match=r"cmt ingest, cmt update .* holds .*\.lock; waited 0.2 s"
    )
    with filelock.FileLock(store.path / ".lock"), refused:
        ingest([make_document()])
    assert ingest([make_document()]).accepted == 1


def ingest_courier(store: SliceStore, counts: "SimpleQueue[int]") -> None:
    options = Options(now=datetime(2031, 12, 31, tzinfo=UTC))
    counts.put(ingest_into(store, COURIER, file_format="jsonl", options=options).accepted)


def test_two_concurrent_ingests_accept_every_row_once(tmp_path: Path) -> None:
    store = SliceStore(
        path=tmp_path / "stream", quarantine=tmp_path / "quarantine", lock_timeout=60
    )
    counts = CONTEXT.SimpleQueue()
    with started(ingest_courier, store, counts), started(ingest_courier, store, counts):
        pass
    assert sorted([counts.get(), counts.get()]) == [0, 320]
    slices = store.slices()  # the bundled newspaper, by month
    assert [(one.slice_id, one.n_documents) for one in slices] == [
        (f"2031-0{month}/0001", 40) for month in range(1, 9)
    ]
    assert (store.all_documents().num_rows, sum(one.n_questions for one in slices)) == (320, 1277)
    assert store.verify() == []


def test_forgotten_documents_are_listed_once_and_a_damaged_list_raises(store: SliceStore) -> None:
    assert store.forgotten() == []
    for doc_id in ("b", 'a\'s "100%"', "b"):
        store.forget({doc_id: []})
    assert store.forgotten() == ['a\'s "100%"', "b"]
    for damaged in ('["a', "5", '["a", 5]'):
        (store.path / "forgotten.json").write_text(damaged)
        with pytest.raises(StreamError, match=r"forgotten\.json cannot be read .*restore it"):
            store.forgotten()


def test_the_digest_of_a_slice_is_a_stable_value() -> None:
    # slices, memories and rounds that exist are identified by it
    assert (
        rows_digest(DOCUMENTS, QUESTIONS)
        == "f79b27b0eab6e0d4b10bb1f5a61af96e0ec46a3090348eceb1ab2a147f2f6315"
    )


def test_the_digest_depends_on_the_rows_and_not_on_their_order_or_chunks() -> None:
    digest = rows_digest(DOCUMENTS, QUESTIONS)
    assert rows_digest(DOCUMENTS.take([2, 0, 1]), QUESTIONS.take([1, 0])) == digest
    assert rows_digest(pa.concat_tables([DOCUMENTS[:1], DOCUMENTS[1:]]), QUESTIONS) == digest
    assert rows_digest(DOCUMENTS[:2], QUESTIONS) != digest
    assert rows_digest(DOCUMENTS, QUESTION_SCHEMA.empty_table()) != digest
    first, *others = DOCUMENTS.to_pylist()
    first["published_at"] += timedelta(microseconds=1)
    assert (
        rows_digest(pa.Table.from_pylist([first, *others], schema=DOCUMENT_SCHEMA), QUESTIONS)
        != digest
    )
