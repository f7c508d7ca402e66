import gzip
import json
import lzma
from pathlib import Path
from typing import Any

import pytest

from cmt.errors import StreamError
from cmt.stream.readers import read
from tests.helpers.rows import (
    make_document,
    valid_documents,
    write_csv,
    write_lines,
)


def test_a_file_of_blank_lines_counts_as_empty(tmp_path: Path) -> None:
    with pytest.raises(StreamError, match="is empty"):
        read(write_lines(tmp_path / "rows.jsonl", ["", "  "]), "jsonl")


def test_a_broken_line_is_rejected_and_the_other_lines_are_read(tmp_path: Path) -> None:
    rows: list[Any] = [make_document(str(number)) for number in range(10)]
    rows[2] = '{"doc_id": "2", "text": "cut'
    raw = read(write_lines(tmp_path / "rows.jsonl", rows), "jsonl")
    assert len(raw.documents) == 9
    assert [(row.file, row.row, row.raw) for row in raw.rejected] == [("rows.jsonl", 3, rows[2])]
    assert raw.rejected[0].reason.startswith("broken JSON: Unterminated string")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"text": "a", "text": "b"}', "broken JSON: the key 'text' appears twice"),
        ("[1, 2]", "not a JSON object but list"),
        ('"text"', "not a JSON object but str"),
        ("null", "not a JSON object but NoneType"),
        ("[" * 100_000, "broken JSON: maximum recursion depth"),
        ('{"text": ' + "9" * 5000 + "}", "broken JSON: Exceeds the limit"),
    ],
)
def test_a_line_that_is_not_an_object_is_rejected_with_a_reason(tmp_path: Path, line: str, reason: str) -> None:
    raw = read(write_lines(tmp_path / "rows.jsonl", [make_document(), line]), "jsonl")
    assert len(raw.documents) == 1
    assert raw.rejected[0].row == 2
    assert raw.rejected[0].reason.startswith(reason)
    assert len(raw.rejected[0].raw) <= 2000


def test_only_the_line_that_is_not_utf8_is_rejected(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "rows.jsonl", [])
    path.write_bytes('{"text": "Café à Noël"}\n{"text": "Été"}\n'.encode() + b'{"text": "caf\xe9"}\r\n')
    raw = read(path, "jsonl")
    assert len(raw.documents) == 2
    assert raw.rejected[0].reason == "not UTF-8: byte 0xe9 at position 14 of the line"
    assert raw.rejected[0].raw == '{"text": "caf\\xe9"}\r'


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-16-le", "utf-32"])
def test_json_lines_in_another_encoding_are_read(tmp_path: Path, encoding: str) -> None:
    text = '{"text": "Größe und Käse"}\n{"text": "Fußgänger"}\n'
    (tmp_path / "rows.jsonl").write_bytes(text.encode(encoding))
    raw = read(tmp_path / "rows.jsonl", "jsonl")
    assert [row.values["text"] for row in raw.documents] == ["Größe und Käse", "Fußgänger"]
    assert not raw.rejected


def test_a_byte_order_mark_and_windows_line_ends_are_accepted(tmp_path: Path) -> None:
    data = b"\xef\xbb\xbf" + b"\r\n".join(json.dumps(make_document(name)).encode() for name in "ab")
    (tmp_path / "rows.jsonl").write_bytes(data)
    raw = read(tmp_path / "rows.jsonl", "jsonl")
    assert [row.values["doc_id"] for row in raw.documents] == ["a", "b"]
    assert not raw.rejected


@pytest.mark.parametrize(("name", "pack"), [("a.json.gz", gzip.compress), ("a.json.xz", lzma.compress)])
def test_a_compressed_file_cut_in_half_or_not_compressed_is_refused(tmp_path: Path, name: str, pack: Any) -> None:
    data = json.dumps({"data": [{"title": "Bus", "paragraphs": [{"context": "The bus.", "qas": []}]}]}).encode()
    for broken in (pack(data)[:-20], data):
        (tmp_path / name).write_bytes(broken)
        with pytest.raises(StreamError, match=f"{name} is damaged or not a .(gz|xz) file"):
            read(tmp_path / name, "squad")


def test_only_the_csv_rows_that_are_cut_short_or_not_utf8_are_rejected(tmp_path: Path) -> None:
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
    assert len(valid_documents(read(path, "streamingqa"))[0]["text"]) > 1_900_000


@pytest.mark.parametrize("data", [b"text,answers\na,b\n", b"\xef\xbb\xbf", "text,question,answers\n".encode("utf-16")])
def test_a_csv_without_its_columns_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "qa.csv").write_bytes(data)
    with pytest.raises(StreamError, match="qa.csv lacks the columns .*question"):
        read(tmp_path / "qa.csv", "streamingqa")
