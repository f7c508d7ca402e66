from pathlib import Path

import pytest

from cmt.errors import StreamError
from cmt.stream.readers import Record, records


def test_a_bad_record_has_an_error_and_stops_no_other(tmp_path: Path) -> None:
    path = tmp_path / "news.jsonl"
    path.write_text('{"headline": "Bus"}\n{"headline":\n{"headline": "Tram"}\n')
    first, bad, last = records(path)
    assert (first, last) == (
        Record({"headline": "Bus"}, "news.jsonl row 1"),
        Record({"headline": "Tram"}, "news.jsonl row 3"),
    )
    assert bad.where == "news.jsonl row 2"
    assert bad.error and bad.error.startswith("broken JSON")


def test_an_empty_file_is_one_error_record_and_a_missing_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "news.jsonl").touch()
    [record] = records(tmp_path / "news.jsonl")
    assert record.error and "is empty" in record.error
    with pytest.raises(StreamError, match="not found"):
        list(records(tmp_path / "none"))
