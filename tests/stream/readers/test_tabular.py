import io
import json
from datetime import datetime
from typing import Any

import pyarrow as pa
import pytest

from cmt.errors import StreamError
from cmt.stream.limits import DEFAULT_LIMITS
from cmt.stream.readers import Record
from cmt.stream.readers.tabular import read_arrow, read_csv, read_json


def fields(content: Any) -> list[dict[str, Any]]:
    """The fields of the records in JSON."""
    return [one.fields for one in read_json(json.dumps(content).encode(), "a.json", DEFAULT_LIMITS)]


def rows(text: str) -> list[Record]:
    """The records in CSV."""
    return list(read_csv(text.encode(), "a.csv", DEFAULT_LIMITS))


ROW = {"title": "Bus", "content": "The bus is late."}


@pytest.mark.parametrize(
    "content",
    [
        [ROW, ROW],
        {"status": "ok", "articles": [ROW, ROW]},
        {"response": {"tags": [{"a": "b"}], "results": [ROW, ROW]}},
        {"tags": [{"name": "a"}], "items": [{"id": 1, "fields": ROW}, {"id": 2, "fields": ROW}]},
    ],
)
def test_json_holds_its_rows_at_any_key(content: Any) -> None:
    assert [one.get("title") or one["fields"]["title"] for one in fields(content)] == ["Bus", "Bus"]


def test_an_object_with_the_longest_text_is_the_document_itself() -> None:
    whole = {**ROW, "tags": [{"name": "bus"}], "author": {"name": "Ada"}}
    assert fields(whole) == [whole]


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


def test_json_cut_off_or_too_deep_is_refused() -> None:
    for data in (b'[{"a": 1}, {"a"', b"[" * 60_000):
        with pytest.raises(StreamError, match="a is not valid JSON"):
            list(read_json(data, "a", DEFAULT_LIMITS))


def test_squad_gives_documents_and_questions() -> None:
    qas = [{"id": "q", "question": "When?", "answers": [{"text": "late"}]}]
    document, question = fields({"data": [{"title": "Bus", "paragraphs": [{"context": "Late.", "qas": qas}]}]})
    assert document["text"] == "Late."
    assert question["answers"] == [{"text": "late"}]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_of_csv_is_found(delimiter: str) -> None:
    lines = [["title", "text", "date"], ["Bus", '"Late, late; late\nand ""on""', "2026"], ["Tram", "On time", ""]]
    lines[1][1] += '"'
    assert [one.fields["text"] for one in rows("\n".join(map(delimiter.join, lines)))] == [
        'Late, late; late\nand "on"',
        "On time",
    ]


def test_only_the_bad_rows_of_csv_are_errors_also_after_an_open_quotation_mark() -> None:
    text = 'title,text\nBus,late\nshort\nTram,a,b\nOpen,"never closed\nFerry,on time\nBoat,late,\n'
    read = rows(text)
    assert [one.fields["title"] for one in read if not one.error] == ["Bus", "Ferry", "Boat"]
    assert [one.where for one in read if one.error] == ["a.csv row 3", "a.csv row 4", "a.csv row 5"]


def test_columns_without_a_name_or_with_the_same_are_numbered() -> None:
    [row] = rows("sep=;\ntext;;text\na;b;c\n")
    assert row == Record({"text": "a", "column 2": "b", "text 3": "c"}, "a.csv row 3")


@pytest.mark.parametrize("writer", [pa.ipc.new_file, pa.ipc.new_stream])
def test_arrow_files_and_streams_are_read(writer: Any) -> None:
    table = pa.table({"text": ["a", None], "at": pa.array([datetime(2026, 1, 5)] * 2, pa.timestamp("ns"))})
    sink = io.BytesIO()
    with writer(sink, table.schema) as file:
        file.write_table(table)
    first, second = read_arrow(sink.getvalue(), "a", DEFAULT_LIMITS)
    assert first == Record({"text": "a", "at": datetime(2026, 1, 5)}, "a row 1")
    assert second.fields["text"] is None
