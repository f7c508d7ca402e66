import csv
import gzip
import json
import lzma
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cmt.errors import ConfigError, StreamError
from cmt.stream.readers import RawRows, read
from cmt.stream.schema import document_id, validate_documents, validate_questions
from tests.helpers.rows import NOW, Row, make_document, make_question, write_lines

INSTANT = pa.timestamp("us", tz="UTC")
AT = datetime(2031, 1, 2, 6, tzinfo=UTC)
SORTING_KEY = "20200102000000000000\x00\x01ab12\x00\x01"


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])
    return path


def documents(raw: RawRows) -> list[Row]:
    """The documents of `raw`, all of which must be good."""
    table, rejected = validate_documents(((row.row, row.values) for row in raw.documents), file="", now=NOW)
    assert not rejected
    return list(table.to_pylist())


def questions(raw: RawRows) -> list[Row]:
    table, rejected = validate_questions(((row.row, row.values) for row in raw.questions), file="", now=NOW)
    assert not rejected
    return list(table.to_pylist())


def test_an_unknown_format_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="jsonl, parquet, squad, streamingqa, archivalqa"):
        read(tmp_path, "xml")


@pytest.mark.parametrize("format", ["jsonl", "parquet", "squad", "streamingqa", "archivalqa"])
def test_a_missing_source_and_an_empty_one_are_refused_by_name(tmp_path: Path, format: str) -> None:
    with pytest.raises(StreamError, match="none.jsonl not found"):
        read(tmp_path / "none.jsonl", format)
    with pytest.raises(StreamError, match=r"has no .*documents|has no \*\."):
        read(tmp_path, format)
    (tmp_path / "rows.csv").touch()
    with pytest.raises(StreamError, match=r"rows\.csv is empty"):
        read(tmp_path / "rows.csv", format)


def test_blank_lines_alone_are_an_empty_file(tmp_path: Path) -> None:
    with pytest.raises(StreamError, match="is empty"):
        read(write_lines(tmp_path / "rows.jsonl", ["", "  "]), "jsonl")


def test_jsonl_tells_questions_from_documents_by_their_columns(tmp_path: Path) -> None:
    raw = read(write_lines(tmp_path / "rows.jsonl", [make_document(), "", make_question()]), "jsonl")
    assert [(row.row, row.values["doc_id"]) for row in raw.documents] == [(1, "ferry")]
    assert [(row.row, row.values["question_id"]) for row in raw.questions] == [(3, "q1")]


def test_a_folder_may_have_an_empty_file_beside_another(tmp_path: Path) -> None:
    write_lines(tmp_path / "documents.jsonl", [make_document()])
    (tmp_path / "questions.jsonl").touch()
    assert len(read(tmp_path, "jsonl").documents) == 1
    (tmp_path / "documents.jsonl").write_text("")
    with pytest.raises(StreamError, match=r"documents\.jsonl is empty"):
        read(tmp_path, "jsonl")


def test_a_folder_is_read_by_its_two_files(tmp_path: Path) -> None:
    write_lines(tmp_path / "documents.jsonl", [make_document()])
    write_lines(tmp_path / "questions.jsonl", [make_question()])
    write_lines(tmp_path / "notes.jsonl", ["not read"])
    raw = read(tmp_path, "jsonl")
    assert [row.file for row in (*raw.documents, *raw.questions)] == ["documents.jsonl", "questions.jsonl"]
    assert not raw.rejected


def test_the_digest_follows_the_content(tmp_path: Path) -> None:
    first = read(write_lines(tmp_path / "a.jsonl", [make_document()]), "jsonl").digest
    assert read(write_lines(tmp_path / "b.jsonl", [make_document()]), "jsonl").digest == first
    assert read(write_lines(tmp_path / "b.jsonl", [make_document("bus")]), "jsonl").digest != first


def test_a_broken_line_is_rejected_and_the_other_nine_are_read(tmp_path: Path) -> None:
    rows: list[Any] = [make_document(str(number)) for number in range(10)]
    rows[2] = '{"doc_id": "2", "text": "cut'
    raw = read(write_lines(tmp_path / "rows.jsonl", rows), "jsonl")
    assert len(raw.documents) == 9
    assert [(row.file, row.row, row.raw) for row in raw.rejected] == [("rows.jsonl", 3, rows[2])]
    assert raw.rejected[0].reason.startswith("broken JSON: Unterminated string")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"text": "a", "text": "b"}', "broken JSON: the key 'text' stands there twice"),
        ("[1, 2]", "not a JSON object but list"),
        ('"text"', "not a JSON object but str"),
        ("null", "not a JSON object but NoneType"),
        ("[" * 100_000, "broken JSON: maximum recursion depth"),
        ('{"text": ' + "9" * 5000 + "}", "broken JSON: Exceeds the limit"),
    ],
)
def test_a_line_that_is_no_row_is_rejected_with_a_reason(tmp_path: Path, line: str, reason: str) -> None:
    raw = read(write_lines(tmp_path / "rows.jsonl", [make_document(), line]), "jsonl")
    assert len(raw.documents) == 1
    assert raw.rejected[0].row == 2
    assert raw.rejected[0].reason.startswith(reason)
    assert len(raw.rejected[0].raw) <= 2000


def test_a_line_that_is_not_utf8_is_rejected_alone(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "rows.jsonl", [make_document("a"), make_document("b")])
    path.write_bytes(path.read_bytes() + b'{"text": "caf\xe9"}\r\n')
    raw = read(path, "jsonl")
    assert len(raw.documents) == 2
    assert raw.rejected[0].reason == "not UTF-8: byte 0xe9 at position 14 of the line"
    assert raw.rejected[0].raw == '{"text": "caf\\xe9"}\r'


@pytest.mark.parametrize("data", [b"caf\xe9\nth\xe9\n", "a,b\nc,d\n".encode("utf-16"), "a\n".encode("utf-32")])
def test_a_file_that_is_not_utf8_at_all_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "rows.jsonl").write_bytes(data)
    with pytest.raises(StreamError, match="rows.jsonl is .*iconv"):
        read(tmp_path / "rows.jsonl", "jsonl")


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path: Path) -> None:
    data = b"\xef\xbb\xbf" + b"\r\n".join(json.dumps(make_document(name)).encode() for name in "ab")
    (tmp_path / "rows.jsonl").write_bytes(data)
    raw = read(tmp_path / "rows.jsonl", "jsonl")
    assert [row.values["doc_id"] for row in raw.documents] == ["a", "b"]
    assert not raw.rejected


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
def test_parquet_documents_are_read_with_any_dated_column(tmp_path: Path, published_at: pa.Array) -> None:
    rows = documents(
        read(write_parquet(tmp_path / "d.parquet", **document_columns(published_at=published_at)), "parquet")
    )
    assert [(row["text"], row["published_at"]) for row in rows] == [("one", AT), ("two", AT)]


def test_parquet_strings_may_be_large_coded_or_all_null(tmp_path: Path) -> None:
    columns = document_columns(
        text=pa.array(["one", "two"], pa.large_string()),
        source=pa.array(["Courier", "Courier"]).dictionary_encode(),
        title=pa.nulls(2),
    )
    rows = documents(read(write_parquet(tmp_path / "d.parquet", **columns), "parquet"))
    assert [(row["source"], row["title"]) for row in rows] == [("Courier", None)] * 2


def test_parquet_with_a_question_column_holds_questions(tmp_path: Path) -> None:
    write_parquet(tmp_path / "documents.parquet", **document_columns())
    write_parquet(tmp_path / "questions.parquet", **question_columns())
    raw = read(tmp_path, "parquet")
    assert [row["answers"] for row in questions(raw)] == [["noon"]]
    assert [row.row for row in raw.documents] == [1, 2]


def test_parquet_slices_of_the_store_can_be_read_back(tmp_path: Path) -> None:
    table, _ = validate_documents([(1, make_document())], file="", now=NOW)
    pq.write_table(table, tmp_path / "d.parquet")
    assert documents(read(tmp_path / "d.parquet", "parquet")) == table.to_pylist()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"body": pa.array(["a"])}, "no column text, published_at, which a file of documents needs; it has body"),
        ({"question": pa.array(["a"])}, "no column doc_id, answers, asked_at, which a file of questions needs"),
        (document_columns(text=pa.array([1, 2])), "column text is int64; write it as a string"),
        (document_columns(title=pa.array([["a"], ["b"]])), "column title is list"),
        (document_columns(published_at=pa.array([AT, AT], pa.timestamp("us"))), "with a time zone"),
        (document_columns(published_at=pa.array([1, 2])), "published_at is int64; write it as a timestamp"),
        (question_columns(answers=pa.array(["noon"])), "answers is string; write it as a list of strings"),
        (question_columns(answers=pa.array([[1]])), "write it as a list of strings"),
    ],
)
def test_parquet_with_a_missing_or_wrong_column_is_refused(tmp_path: Path, columns: Any, message: str) -> None:
    with pytest.raises(StreamError, match="d.parquet") as caught:
        read(write_parquet(tmp_path / "d.parquet", **columns), "parquet")
    assert message in str(caught.value)


def test_parquet_with_a_column_twice_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table([["a"], ["b"], ["c"]], names=["text", "text", "published_at"]), tmp_path / "d.parquet")
    with pytest.raises(StreamError, match="column text twice"):
        read(tmp_path / "d.parquet", "parquet")


def test_what_is_no_parquet_or_half_of_one_is_refused(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "d.parquet", **document_columns())
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(StreamError, match="d.parquet is damaged or not a Parquet file"):
        read(path, "parquet")
    path.write_text("text\n")
    with pytest.raises(StreamError, match="d.parquet is damaged or not a Parquet file"):
        read(path, "parquet")


def test_a_parquet_value_that_cannot_be_read_spoils_its_row_alone(tmp_path: Path) -> None:
    bad_text = pa.Array.from_buffers(pa.string(), 3, pa.array([b"caf\xe9", b"two", b"three"]).buffers())
    far = pa.array([0, 2**62, 0]).cast(INSTANT)
    raw = read(write_parquet(tmp_path / "d.parquet", text=bad_text, published_at=far), "parquet")
    table, rejected = validate_documents(((row.row, row.values) for row in raw.documents), file="", now=NOW)
    assert table["text"].to_pylist() == ["three"]
    assert [row.reason.split(",")[0] for row in rejected] == [
        "text must be a string",
        "published_at must be a date-time such as 2031-02-15T06:00:00Z",
    ]


def squad(**changes: Any) -> dict[str, Any]:
    qas = [
        {"id": "5", "question": "When?", "answers": [{"text": "noon", "answer_start": 13}] * 2},
        {"question": "Where?", "answers": [{"text": "here", "answer_start": 0}]},
    ]
    paragraph = {"context": "The ferry sails at noon.", "qas": qas} | changes
    other = {"context": "The bus.", "qas": [{"id": "7", "question": "Who?", "answers": [{"text": "bus"}]}]}
    articles = [{"title": "Port_of_Ellery", "paragraphs": [paragraph]}, {"title": "Bus", "paragraphs": [other]}]
    return {"version": "1.1", "data": articles}


@pytest.mark.parametrize(
    ("name", "pack"), [("a.json", bytes), ("a.json.gz", gzip.compress), ("a.json.xz", lzma.compress)]
)
def test_squad_contexts_become_documents_and_qas_questions(tmp_path: Path, name: str, pack: Any) -> None:
    (tmp_path / name).write_bytes(pack(json.dumps(squad()).encode()))
    raw = read(tmp_path / name, "squad")
    first, second = documents(raw)
    assert (first["doc_id"], first["title"]) == (document_id("The ferry sails at noon."), "Port of Ellery")
    assert {first["published_at"], second["published_at"]} == {datetime(2016, 6, 16, tzinfo=UTC)}
    asked = questions(raw)
    assert [row["answers"] for row in asked] == [["noon"], ["here"], ["bus"]]
    assert [row["doc_id"] for row in asked] == [first["doc_id"], first["doc_id"], second["doc_id"]]
    assert (asked[0]["question_id"], len(asked[1]["question_id"])) == ("5", 16)
    assert [row.row for row in raw.questions] == [1, 2, 3]


@pytest.mark.parametrize(
    "changes", [{"context": None}, {"qas": None}, {"qas": ["When?"]}, {"qas": [{"question": "When?"}]}]
)
def test_a_squad_paragraph_out_of_layout_is_rejected_alone(tmp_path: Path, changes: dict[str, Any]) -> None:
    (tmp_path / "a.json").write_text(json.dumps(squad(**changes)))
    raw = read(tmp_path / "a.json", "squad")
    assert [row["text"] for row in documents(raw)] == ["The bus."]
    assert raw.rejected[0].row == 1
    assert "paragraph 1 is not in SQuAD's layout" in raw.rejected[0].reason


def test_a_squad_article_without_paragraphs_is_rejected_alone(tmp_path: Path) -> None:
    whole = squad()
    whole["data"].insert(0, {"title": "Nothing"})
    (tmp_path / "a.json").write_text(json.dumps(whole))
    raw = read(tmp_path / "a.json", "squad")
    assert (len(raw.documents), [row.row for row in raw.rejected]) == (2, [1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"data": [', "not valid JSON"),
        ("[]", "not in SQuAD's layout"),
        ('{"data": {}}', "not in SQuAD's layout"),
        ('{"data": []}', "has no rows"),
    ],
)
def test_a_file_that_is_no_squad_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(StreamError, match=message):
        read(tmp_path / "a.json", "squad")


def test_a_squad_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'{"data": "caf\xe9"}')
    with pytest.raises(StreamError, match=r"a.json is not UTF-8 \(byte 13\)"):
        read(tmp_path / "a.json", "squad")


@pytest.mark.parametrize(("name", "pack"), [("a.json.gz", gzip.compress), ("a.json.xz", lzma.compress)])
def test_a_compressed_file_cut_in_half_or_not_compressed_is_refused(tmp_path: Path, name: str, pack: Any) -> None:
    data = json.dumps(squad()).encode()
    for broken in (pack(data)[:-20], data):
        (tmp_path / name).write_bytes(broken)
        with pytest.raises(StreamError, match=f"{name} is damaged or not a .(gz|xz) file"):
            read(tmp_path / name, "squad")


def official_question(**changes: Any) -> Row:
    row = {
        "qa_id": "eval-0",
        "question": "Who won?",
        "answers": ["Ann", "Ann Lee"],
        "answers_additional": "",
        "question_ts": 1_577_923_200,
        "evidence_ts": 1_577_923_200,
        "evidence_id": SORTING_KEY,
        "recent_or_past": "recent",
        "written_or_generated": "written",
        "toxicity_insult": 0.1,
    }
    return row | changes


def test_streamingqa_joins_official_questions_and_wmt_documents(tmp_path: Path) -> None:
    wmt = {"sorting_key": SORTING_KEY, "publication_ts": 1_577_923_200, "text": "Ann Lee won."}
    write_lines(tmp_path / "wmt.jsonl", [wmt])
    lines = write_lines(tmp_path / "qa.txt", [official_question()]).read_bytes()
    (tmp_path / "streaminqa_eval.jsonl.gz").write_bytes(gzip.compress(lines))
    raw = read(tmp_path, "streamingqa")
    document, question = documents(raw)[0], questions(raw)[0]
    assert document["doc_id"] == question["doc_id"] == "20200102000000000000-ab12"
    assert document["published_at"] == question["asked_at"] == datetime(2020, 1, 2, tzinfo=UTC)
    assert (question["question_id"], question["answers"]) == ("eval-0", ["Ann", "Ann Lee"])


@pytest.mark.parametrize(
    ("timestamp", "reason"),
    [(None, "no asked_at"), (True, "not True"), (10**30, "must be a date-time"), ("1", "not a date")],
)
def test_a_streamingqa_timestamp_that_is_no_instant_is_rejected(tmp_path: Path, timestamp: Any, reason: str) -> None:
    raw = read(write_lines(tmp_path / "qa.jsonl", [official_question(question_ts=timestamp)]), "streamingqa")
    _, rejected = validate_questions(((row.row, row.values) for row in raw.questions), file="", now=NOW)
    assert reason in rejected[0].reason


def test_streamingqa_reads_the_csv_of_camels(tmp_path: Path) -> None:
    rows = [('Ann Lee\nwon "twice".', "Who won?", "Ann\\Ann Lee"), ("The bus.", "What?", "bus")]
    path = write_csv(tmp_path / "qa.csv", ("text", "question", "answers"), rows)
    raw = read(path, "streamingqa")
    assert [row["text"] for row in documents(raw)] == ['Ann Lee\nwon "twice".', "The bus."]
    assert [row["answers"] for row in questions(raw)] == [["Ann", "Ann Lee"], ["bus"]]
    assert {row["asked_at"] for row in questions(raw)} == {datetime(2020, 12, 31, tzinfo=UTC)}
    assert [row.row for row in raw.documents] == [2, 4]


def test_a_csv_row_cut_short_or_not_utf8_is_rejected_alone(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "qa.csv", ("text", "question", "answers"), [("a", "b?", "c"), ("a", "b?")])
    path.write_bytes(path.read_bytes() + b"caf\xe9,b?,c\n\nx,y?,z\n")
    raw = read(path, "streamingqa")
    assert [row.row for row in raw.documents] == [2, 6]
    assert [(row.row, row.reason) for row in raw.rejected] == [
        (3, "has 2 fields, the header has 3"),
        (4, "not UTF-8"),
    ]


def test_a_csv_text_of_two_megabytes_is_read(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "qa.csv", ("text", "question", "answers"), [("fish " * 400_000, "What?", "fish")])
    assert len(documents(read(path, "streamingqa"))[0]["text"]) > 1_900_000


@pytest.mark.parametrize("data", [b"text,answers\na,b\n", b"\xef\xbb\xbf", "text,question,answers\n".encode("utf-16")])
def test_a_csv_without_its_columns_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "qa.csv").write_bytes(data)
    with pytest.raises(StreamError, match="qa.csv lacks the columns .*question"):
        read(tmp_path / "qa.csv", "streamingqa")


ARCHIVAL = ("question", "answer", "para_id", "doc_id", "para_num", "ans_paragraph", "ans_text", "title", "date", "year")


def archival(question: str = "Who won?", date: str = "1987-03-04") -> tuple[str, ...]:
    return (question, "Ann Lee", "1234_2", "1234", "2", "Ann Lee won.", "First.\nAnn Lee won.", "A race", date, "1987")


def test_archivalqa_takes_the_answering_paragraph_at_its_day(tmp_path: Path) -> None:
    raw = read(write_csv(tmp_path / "test.csv", ARCHIVAL, [archival(), archival("What?")]), "archivalqa")
    document, question = documents(raw)[0], questions(raw)[1]
    assert (document["doc_id"], document["text"], document["title"]) == ("1234_2", "Ann Lee won.", "A race")
    assert document["published_at"] == question["asked_at"] == datetime(1987, 3, 4, tzinfo=UTC)
    assert (question["doc_id"], question["answers"]) == ("1234_2", ["Ann Lee"])


@pytest.mark.parametrize("date", ["", "None-None-None", "1987-13-01"])
def test_an_archivalqa_row_without_a_day_is_rejected(tmp_path: Path, date: str) -> None:
    raw = read(write_csv(tmp_path / "test.csv", ARCHIVAL, [archival(date=date)]), "archivalqa")
    _, rejected = validate_documents(((row.row, row.values) for row in raw.documents), file="", now=NOW)
    assert "published_at" in rejected[0].reason


def test_an_archivalqa_file_without_the_paired_text_is_refused(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "test.csv", ("question", "answer", "para_id"), [("a", "b", "c")])
    with pytest.raises(StreamError, match="lacks the columns doc_id, para_num, ans_paragraph"):
        read(path, "archivalqa")
