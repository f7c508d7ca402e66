from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cmt.errors import StreamError
from cmt.stream.readers import read
from cmt.stream.rows import validate_rows
from cmt.stream.schema import Checks
from tests.helpers.rows import NOW, make_document, valid_documents, valid_questions, validated

INSTANT = pa.timestamp("us", tz="UTC")
AT = datetime(2031, 1, 2, 6, tzinfo=UTC)


def write_parquet(path: Path, **columns: pa.Array) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def document_columns(**changes: Any) -> dict[str, Any]:
    return {"text": pa.array(["one", "two"]), "published_at": pa.array([AT, AT], INSTANT)} | changes


def question_columns(**changes: Any) -> dict[str, Any]:
    columns = {
        "doc_id": pa.array(["ferry"]),
        "question": pa.array(["When?"]),
        "answers": pa.array([["noon"]]),
        "asked_at": pa.array(["2031-01-03T06:00:00Z"]),
    }
    return columns | changes


@pytest.mark.parametrize(
    "published_at",
    [
        pa.array([AT, AT], INSTANT),
        pa.array([AT, AT], pa.timestamp("ns", tz="UTC")),
        pa.array([AT, AT], pa.timestamp("s", tz="Europe/London")),
        pa.array(["2031-01-02T06:00:00Z", "2031-01-02T07:00:00+01:00"]),
    ],
)
def test_documents_are_read_with_any_type_of_date_column(tmp_path: Path, published_at: pa.Array) -> None:
    rows = valid_documents(
        read(write_parquet(tmp_path / "d.parquet", **document_columns(published_at=published_at)), "parquet")
    )
    assert [(row["text"], row["published_at"]) for row in rows] == [("one", AT), ("two", AT)]


def test_date_strings_may_be_plain_dates(tmp_path: Path) -> None:
    dates = pa.array(["2026-03-02", "2026-03-02T06:00:00Z"])
    write_parquet(tmp_path / "documents.parquet", **document_columns(published_at=dates))
    write_parquet(tmp_path / "questions.parquet", **question_columns(asked_at=dates[:1]))
    raw = read(tmp_path, "parquet")
    published = [row["published_at"] for row in valid_documents(raw)]
    assert published == [datetime(2026, 3, 2, tzinfo=UTC), datetime(2026, 3, 2, 6, tzinfo=UTC)]
    assert valid_questions(raw)[0]["asked_at"] == datetime(2026, 3, 2, 23, 59, 59, 999_999, tzinfo=UTC)


def test_strings_may_be_large_dictionary_encoded_or_all_null(tmp_path: Path) -> None:
    columns = document_columns(
        text=pa.array(["one", "two"], pa.large_string()),
        source=pa.array(["Courier", "Courier"]).dictionary_encode(),
        title=pa.nulls(2),
    )
    rows = valid_documents(read(write_parquet(tmp_path / "d.parquet", **columns), "parquet"))
    assert [(row["source"], row["title"]) for row in rows] == [("Courier", None)] * 2


def test_a_file_with_a_question_column_holds_questions(tmp_path: Path) -> None:
    write_parquet(tmp_path / "documents.parquet", **document_columns())
    write_parquet(tmp_path / "questions.parquet", **question_columns())
    raw = read(tmp_path, "parquet")
    assert [row["answers"] for row in valid_questions(raw)] == [["noon"]]
    assert [row.row for row in raw.documents] == [1, 2]


def test_a_table_of_the_store_can_be_read_as_a_source(tmp_path: Path) -> None:
    table = validated(make_document())[0].table
    pq.write_table(table, tmp_path / "d.parquet")
    assert valid_documents(read(tmp_path / "d.parquet", "parquet")) == table.to_pylist()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"body": pa.array(["a"])}, "no column text, published_at, which a file of documents needs; it has body"),
        ({"question": pa.array(["a"])}, "no column doc_id, answers, asked_at, which a file of questions needs"),
        (document_columns(text=pa.array([1, 2])), "column text is int64; write it as a string"),
        (document_columns(title=pa.array([["a"], ["b"]])), "column title is list"),
        (document_columns(published_at=pa.array([AT, AT], pa.timestamp("us"))), "with a time zone"),
        (document_columns(published_at=pa.array([1, 2])), "published_at is int64; write it as a timestamp"),
        (document_columns(published_at=pa.array([1, 2])), "or a string such as 2031-02-15T06:00:00Z or 2031-02-15"),
        (question_columns(answers=pa.array(["noon"])), "answers is string; write it as a list of strings"),
        (question_columns(answers=pa.array([[1]])), "write it as a list of strings"),
    ],
)
def test_a_missing_column_or_one_of_another_type_is_refused(tmp_path: Path, columns: Any, message: str) -> None:
    with pytest.raises(StreamError, match="d.parquet") as caught:
        read(write_parquet(tmp_path / "d.parquet", **columns), "parquet")
    assert message in str(caught.value)


def test_a_repeated_column_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table([["a"], ["b"], ["c"]], names=["text", "text", "published_at"]), tmp_path / "d.parquet")
    with pytest.raises(StreamError, match="column text twice"):
        read(tmp_path / "d.parquet", "parquet")


def test_a_truncated_file_or_another_format_is_refused(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "d.parquet", **document_columns())
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(StreamError, match="d.parquet is damaged or not a Parquet file"):
        read(path, "parquet")
    path.write_text("text\n")
    with pytest.raises(StreamError, match="d.parquet is damaged or not a Parquet file"):
        read(path, "parquet")


def test_only_the_row_with_an_unreadable_value_is_rejected(tmp_path: Path) -> None:
    bad_text = pa.Array.from_buffers(pa.string(), 3, pa.array([b"caf\xe9", b"two", b"three"]).buffers())
    far = pa.array([0, 2**62, 0]).cast(INSTANT)
    raw = read(write_parquet(tmp_path / "d.parquet", text=bad_text, published_at=far), "parquet")
    documents, _ = validate_rows(raw, Checks(NOW))
    table, rejected = documents.table, documents.rejected
    assert table["text"].to_pylist() == ["three"]
    assert [row.reason.split(",")[0] for row in rejected] == [
        "text must be a string",
        "published_at: an unreadable value is not a date-time; write 2031-02-15T06:00:00Z",
    ]
