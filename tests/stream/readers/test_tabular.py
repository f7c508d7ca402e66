import csv
import io
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cmt.config import Column, StreamParams
from cmt.stream.columns import Columns, Record
from cmt.stream.limits import DEFAULT_LIMITS, Limits
from cmt.stream.readers._decoding import read_parquet
from cmt.stream.readers._tabular import read_csv, read_json, read_json_lines
from cmt.stream.readers.detection import records
from cmt.stream.rows import ValidatedRows, collect, validate_rows
from cmt.stream.schema import Checks, Notes
from tests.helpers.rows import NOW


def fields(content: Any) -> list[dict[str, Any]]:
    """The fields of the records in JSON."""
    return [one.fields for one in read_json(json.dumps(content).encode(), "a.json", DEFAULT_LIMITS)]


def rows(text: str) -> list[Record]:
    """The records in CSV."""
    return list(read_csv(text.encode(), "a.csv", DEFAULT_LIMITS))


def lines(data: bytes) -> list[Record]:
    """The records in JSON lines."""
    return list(read_json_lines(data, "a.jsonl", DEFAULT_LIMITS))


ROW = {"title": "Bus", "content": "The bus is late."}
AT = datetime(2031, 1, 2, 6, tzinfo=UTC)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"text": "a", "text": "b"}', "broken JSON: the key 'text' appears twice"),
        ('{"doc_id": "2", "text": "cut', "broken JSON: Unterminated string"),
        ("[1, 2]", "not a JSON object but list"),
        ('"text"', "not a JSON object but str"),
        ("null", "not a JSON object but NoneType"),
        ("[" * 100_000, "broken JSON: maximum recursion depth"),
        ('{"text": ' + "9" * 5000 + "}", "broken JSON: Exceeds the limit"),
    ],
)
def test_a_line_that_is_not_an_object_is_an_error_and_stops_no_other(
    line: str, reason: str
) -> None:
    first, bad, last = lines(f'{{"text": "a"}}\n\n{line}\n{{"text": "b"}}\n'.encode())
    assert (first.fields, last.fields, bad.where) == ({"text": "a"}, {"text": "b"}, "a.jsonl row 3")
    assert bad.error and bad.error.startswith(reason)
    assert bad.fields == {"raw": line[:2000]}


def test_only_the_line_that_is_not_utf8_is_an_error() -> None:
    *good, bad = lines(
        '{"text": "Café à Noël"}\n{"text": "Été"}\n'.encode() + b'{"text": "caf\xe9"}\r\n'
    )
    assert len(good) == 2
    assert bad.error == "not UTF-8: byte 0xe9 at position 14 of the line"
    assert bad.fields["raw"] == '{"text": "caf\\xe9"}'


def test_the_array_or_the_object_with_the_longest_text_is_read() -> None:
    whole = {**ROW, "tags": [{"name": "bus"}], "author": {"name": "Ada"}}
    assert fields(whole) == [whole]
    assert fields({"response": {"tags": [{"name": "bus"}], "results": [ROW, ROW]}}) == [ROW, ROW]
    short = {"text": "A bus."}
    assert fields({"title": "The town", "description": "All of its news", "articles": [short]}) == [
        short
    ]
    token = {"next": "a" * 50}
    assert fields({**token, "articles": [short]}) == [short]
    assert fields(unnamed := {"正文": "公交车晚点了。", "images": [{"summary": "A bus"}]}) == [
        unnamed
    ]
    article = {
        "titular": "Bus",
        "cuerpo largo": "The bus is late.",
        "images": [{"description": "A bus"}],
    }
    assert fields(article) == [article]  # whose text --map names


def test_all_arrays_of_like_objects_are_read_and_the_others_are_named(tmp_path: Path) -> None:
    other = {**ROW, "author": "Ada"}
    months = {
        "tags": [{"name": "bus"}],
        "2026": {"march": [ROW], "april": [3, other]},
        "summary": "News",
    }
    (tmp_path / "a.json").write_text(json.dumps(months))
    notes = Notes()
    first, bad, last = records(tmp_path / "a.json", notes=notes)
    assert (first.fields, last.fields) == (ROW, other)
    assert (first.left_out, bad.left_out, last.left_out) == (
        ("the array tags", "the summary of the file"),
        (),
        (),
    )
    assert notes.changes == {"part of a file is not a document and is left out": 2}


def test_items_that_are_no_objects_are_errors_and_notices_of_slack_are_left_out() -> None:
    content = [
        ROW,
        3,
        {"type": "message", "subtype": "channel_join", "text": "joined"},
        {"type": "message", "text": "a"},
    ]
    first, bad, last = read_json(json.dumps(content).encode(), "a.json", DEFAULT_LIMITS)
    assert (first.where, last.where) == ("a.json row 1", "a.json row 4")
    assert bad.error == "not a JSON object but int; write an object for each document"


@pytest.mark.parametrize("third", ["date", "Price?", "Which line, which stop, which day?"])
@pytest.mark.parametrize("first", ["title", "No.", ""])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_of_csv_is_found(delimiter: str, first: str, third: str) -> None:
    header = delimiter.join([first, "text", f'"{third}"' if delimiter == "," else third])
    late = "Late, late; late\n" * 30 + 'and ""on""'
    lines = [
        header,
        delimiter.join(["Bus", f'"{late}"', "2026"]),
        delimiter.join(["Tram", "On time", ""]),
    ]
    assert [one.fields["text"] for one in rows("\n".join(lines))] == [
        late.replace('""', '"'),
        "On time",
    ]
    [only] = rows(f'{header}\nBus{delimiter}"Late, late"{delimiter}\n')
    assert only.fields["text"] == "Late, late"


@pytest.mark.parametrize(
    "text", ['The sign says "open".', 'Say "yes", "no"\nor C:\\', '"', '"\\"', "C:\\", "\\\\a"]
)
@pytest.mark.parametrize(
    "written", [{"doublequote": True}, {"doublequote": False, "escapechar": "\\"}]
)
def test_quotation_marks_in_csv_are_doubled_or_follow_a_backslash(
    text: str, written: dict[str, Any]
) -> None:
    file, lines = io.StringIO(), [["title", "text"], ["C:\\", text], ['"Bus"', "on time"]]
    csv.writer(file, quoting=csv.QUOTE_ALL, **written).writerows(lines)
    assert [list(one.fields.values()) for one in rows(file.getvalue())] == lines[1:]


def test_a_backslash_before_a_closing_or_within_no_quotation_mark_is_kept() -> None:
    read = rows('title,text\n5\\" pipe,"C:\\"\nLog,"a ""\\"", b"\n')
    assert [list(one.fields.values()) for one in read] == [
        ['5\\" pipe', "C:\\"],
        ["Log", 'a "\\", b'],
    ]


def test_a_null_of_a_database_in_csv_is_blank() -> None:
    read = rows("title\ttext\tpublished_at\nBus\tlate\t\\N\n\\N\ton \\N time\t2031-01-01\n")
    assert [list(one.fields.values()) for one in read] == [
        ["Bus", "late", ""],
        ["", "on \\N time", "2031-01-01"],
    ]


def test_only_the_bad_rows_of_csv_are_errors_also_after_an_open_quotation_mark() -> None:
    text = 'title,text\nBus,late\nshort\nTram,a,b\nOpen,"never closed\nFerry,on time\nBoat,late,\n'
    text += f"Long,{'fish ' * 400_000}\n"
    read = rows(text)
    assert [one.fields["title"] for one in read if not one.error] == [
        "Bus",
        "Ferry",
        "Boat",
        "Long",
    ]
    assert [one.where for one in read if one.error] == ["a.csv row 3", "a.csv row 4", "a.csv row 5"]


def test_columns_without_a_name_or_with_the_same_are_numbered() -> None:
    [row] = rows("sep=;\ntext;;text\na;b;c\n")
    assert row == Record({"text": "a", "column 2": "b", "text 3": "c"}, "a.csv row 3")


def test_blank_rows_before_the_header_of_csv_are_skipped() -> None:
    assert rows("\n;;\n\ntitle;text;date\nBus;late, late;2026\n") == [
        Record({"title": "Bus", "text": "late, late", "date": "2026"}, "a.csv row 5")
    ]


def parquet_rows(**columns: pa.Array) -> ValidatedRows:
    """The documents of a Parquet file, validated."""
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return validated(read_parquet(sink.getvalue(), "a.parquet", DEFAULT_LIMITS))


def validated(records: Iterable[Record]) -> ValidatedRows:
    """The documents of some records."""
    return validate_rows(collect(records, Columns()), Checks(NOW))[0]


@pytest.mark.parametrize(
    "dates",
    [
        pa.array([AT, AT], pa.timestamp("ns", tz="UTC")),
        pa.array([AT, AT], pa.timestamp("s", tz="Europe/London")),
        pa.array(["2031-01-02T06:00:00Z", "2031-01-02T07:00:00+01:00"]),
    ],
)
def test_parquet_is_read_with_any_type_of_dates_and_strings(dates: pa.Array) -> None:
    texts = pa.array(["one", "two"], pa.large_string())
    titles = pa.array(["Bus", "Bus"]).dictionary_encode()
    table = parquet_rows(text=texts, title=titles, published_at=dates, source=pa.nulls(2)).table
    assert table.select(["text", "title", "published_at"]).to_pylist() == [
        {"text": text, "title": "Bus", "published_at": AT} for text in ("one", "two")
    ]


def test_only_the_row_with_an_unreadable_value_of_parquet_is_rejected() -> None:
    bad_text = pa.Array.from_buffers(
        pa.string(), 3, pa.array([b"caf\xe9", b"two", b"three"]).buffers()
    )
    documents = parquet_rows(
        text=bad_text, published_at=pa.array([0, 2**62, 0]).cast(pa.timestamp("us", tz="UTC"))
    )
    assert documents.table["text"].to_pylist() == ["three"]
    assert [row.reason.split(",")[0] for row in documents.rejected] == [
        "text must be a string",
        "published_at: an unreadable value is not a date-time; write 2031-02-15T06:00:00Z",
    ]


def test_the_array_with_the_chosen_columns_is_read_behind_a_longer_text() -> None:
    content: dict[str, Any] = {
        "meta": {
            "disclaimer": "Do not rely on these data. " * 5,
            "pages": [{"reason": "next", "rel": "a", "href": "b"}],
        },
        "results": [{"reason": "Undeclared walnuts.", "report_date": "20310106"}],
    }
    columns: dict[Column, str] = {"text": "reason", "published_at": "report_date"}
    limits = Limits(StreamParams(columns=columns))
    (record,) = read_json(json.dumps(content).encode(), "a.json", limits)
    assert record.fields == content["results"][0]
    assert record.left_out == ("the array pages",)


def test_a_message_of_telegram_is_read_with_its_links_and_author() -> None:
    parts = ["The trip on the ", {"type": "bold", "text": "Luna"}, " is off."]
    message = {"id": 2, "type": "message", "date": "2031-01-02", "from": "Pim", "text": parts}
    joined = {"id": 3, "type": "service", "action": "join", "actor": "Ola", "text": ""}
    content = {"name": "Club", "messages": [message, joined, {**message, "id": 4, "text": "Yes"}]}
    records = list(read_json(json.dumps(content).encode(), "a.json", DEFAULT_LIMITS))
    table = validated(records).table
    assert table["text"].to_pylist() == [
        "The trip on the Luna is off.\n\nFrom: Pim",
        "Yes\n\nFrom: Pim",
    ]


def test_fields_of_news_and_releases_have_a_role() -> None:
    article = {
        "headline": {"main": "Slow to Show", "kicker": "Docs"},
        "snippet": "Cars.",
        "lead_paragraph": "Cars that fly.",
        "pub_date": "2031-01-02",
    }
    release = {
        "name": "v2.0.3",
        "tag_name": "2.0.3",
        "body": "Fixed.",
        "published_at": "2031-01-02",
    }
    records = [Record(article, "a.json row 1"), Record(release, "b.json row 1")]
    table = validated(records).table
    assert table["title"].to_pylist() == ["Slow to Show", "v2.0.3"]
    assert table["text"].to_pylist() == ["Cars that fly.", "Fixed.\n\nTag name: 2.0.3"]
