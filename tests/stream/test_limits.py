"""Source files are bounded in size, rows and length of a text."""

import gzip
import json
import lzma
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cmt.config import StreamParams
from cmt.errors import StreamError
from cmt.stream.limits import Limits
from cmt.stream.readers.detection import records
from cmt.stream.rows import read
from cmt.stream.store import SliceStore
from tests.helpers.rows import Ingest, make_document, make_question, write_csv, write_lines

SMALL = StreamParams(file_megabytes=1, file_rows=100, document_characters=1000)
SMALL_LIMITS = Limits(SMALL)


@pytest.mark.parametrize(
    ("suffix", "packed"), [("", bytes), (".gz", gzip.compress), (".xz", lzma.compress)]
)
def test_a_file_above_the_limit_is_refused_with_the_limit_and_what_to_do(
    tmp_path: Path, suffix: str, packed: Callable[[bytes], bytes]
) -> None:
    rows = [json.dumps(make_document(str(number), text="a" * 900)) for number in range(90)]
    path = tmp_path / f"rows.jsonl{suffix}"
    path.write_bytes(packed("\n".join(rows).encode()))
    assert len(read(path, limits=SMALL_LIMITS).documents) == 90
    path.write_bytes(packed("\n".join(rows * 20).encode()))
    with pytest.raises(
        StreamError,
        match=r"more than 1 MB, decompressed: split it, or raise stream\.file_megabytes",
    ):
        read(path, limits=SMALL_LIMITS)
    assert len(read(path).documents) == 1800


def test_all_parts_of_an_archive_are_read(tmp_path: Path) -> None:
    lines = [json.dumps(make_document(name)).encode() + b"\n" for name in ("a", "b")]
    for suffix, pack in ((".gz", gzip.compress), (".xz", lzma.compress)):
        path = tmp_path / f"rows.jsonl{suffix}"
        path.write_bytes(b"".join(map(pack, lines)) + (bytes(8) if suffix == ".xz" else b""))
        documents = read(path).documents
        assert [row.values["doc_id"] for row in documents] == ["a", "b"]
        assert documents[0].file == "rows.jsonl"
        path.write_bytes(pack(lines[0])[:-9])
        with pytest.raises(StreamError, match="is damaged or not a"):
            read(path)


def test_an_archive_that_wants_gigabytes_for_its_dictionary_is_refused(tmp_path: Path) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 30}]
    small = lzma.compress(json.dumps(make_document()).encode(), filters=filters)
    (tmp_path / "rows.jsonl.xz").write_bytes(small)
    with pytest.raises(StreamError, match="Memory usage limit"):
        read(tmp_path / "rows.jsonl.xz")


def test_a_file_with_too_many_rows_is_refused(tmp_path: Path) -> None:
    documents: list[Any] = [make_document(str(number)) for number in range(101)]
    squad = {
        "data": [
            {"title": "a", "paragraphs": [{"context": f"text {n}", "qas": []} for n in range(600)]}
        ]
    }
    (tmp_path / "squad.json").write_text(json.dumps(squad))
    write_csv(tmp_path / "rows.csv", ["text", "question", "answers"], [["a", "b", "c"]] * 101)
    pq.write_table(pa.Table.from_pylist(documents), tmp_path / "rows.parquet")
    sources = {
        "jsonl": write_lines(tmp_path / "rows.jsonl", documents),
        "squad": tmp_path / "squad.json",
        "streamingqa": tmp_path / "rows.csv",
        "parquet": tmp_path / "rows.parquet",
    }
    for file_format, source in sources.items():
        *_, last = records(source, format=file_format, limits=SMALL_LIMITS)
        assert re.search(r"more than 100 rows: .* raise stream\.file_rows", last.error or "")
        assert not any(record.error for record in records(source, format=file_format))


def test_an_overlong_field_is_quarantined_cut_or_left_out(
    ingest: Ingest, store: SliceStore
) -> None:
    long = {
        "doc_id": "i" * 513,
        "supersedes": "s" * 513,
        "title": "t" * 300_000,
        "url": f"https://a.org/{'u' * 2000}",
    }
    rows: list[Any] = [make_document("a", title=long["title"], url=long["url"], source="s" * 2001)]
    rows += [make_document(long["doc_id"]), make_document("b", supersedes=long["supersedes"])]
    rows += [{**make_document(), "doc_id": None, "text": "c", "url": f"https://a.org/{'v' * 1000}"}]
    rows += [
        make_question("q", "a", answers=["w" * 6000, "v" * 6000]),
        make_question("q" * 513, "a"),
    ]
    rows += [make_question("r", "a", question="w" * 2001)]
    report = ingest(rows, params=StreamParams(trust_source=True))
    assert [(row.row, row.reason) for row in report.rejected] == [
        (2, "doc_id has 513 characters, more than 512: shorten it"),
        (3, "supersedes has 513 characters, more than 512: shorten it"),
        (5, "answers has 12,000 characters, more than 10,000: shorten it"),
        (6, "question_id has 513 characters, more than 512: shorten it"),
        (7, "question has 2,001 characters, more than 2,000: shorten it"),
    ]
    assert report.quarantine is not None and len(report.quarantine.read_bytes()) < 20_000
    first, second = store.documents(report.slices[0]).to_pylist()
    assert (first["title"], first["url"], first["source"]) == ("t" * 1000, None, "file:rows.jsonl")
    assert len(second["doc_id"]) == 16 and len(second["url"]) == 1014
    notices = "\n".join(report.notices)
    assert "1 × title has more than 1,000 characters and is cut, such as" in notices
    assert "1 × url has more than 2,000 characters and is left out, such as" in notices
    assert len(notices) < 1_000


def test_an_overlong_text_is_quarantined(ingest: Ingest) -> None:
    rows: list[Any] = [make_document("a"), make_document("c", text="y" * 1000)]
    rows += [make_question("a", answers=["w" * 600, "v" * 600])]
    report = ingest(rows, params=SMALL)
    assert report.accepted == 2
    assert [(row.row, row.reason) for row in report.rejected] == [
        (3, "answers has 1,200 characters, more than 1,000: shorten it")
    ]
