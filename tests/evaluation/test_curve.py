"""A curve's points, files and plot."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cmt.bank.bank import Bank
from cmt.errors import StreamError
from cmt.evaluation.curve import POINT_SCHEMA, Curve, Point, point, points_table, read, write
from cmt.evaluation.evaluate import RECORD_SCHEMA
from tests.helpers.news import FIRST_DAY


def make_point(x: float, f1: float) -> Point:
    return {
        "series": "memory",
        "x": x,
        "n": 9,
        "em": 1.0,
        "em_prefix": 1.0,
        "f1": f1,
        "f1_low": f1 - 10,
        "f1_high": f1 + 10,
        "recall": 0.5,
        "documents": 5,
        "memories": 5,
        "bytes": 10,
        "seconds": 0.25,
    }


@pytest.fixture
def curve() -> Curve:
    points = points_table([make_point(1.0, 30.0), make_point(16.0, 50.0), make_point(32.0, 40.0)])
    return Curve("k", "How many", {"x": "selected", "bytes": "bytes"}, points, {"compressor": "c" * 64})


def record(question_id: str, answer: str, gold: str) -> dict[str, Any]:
    return {
        "question_id": question_id,
        "doc_id": "crane",
        "question": "What colour?",
        "golds": [gold],
        "asked_at": FIRST_DAY,
        "cmt": answer,
        "cmt_f1": float(answer == gold),
        "sources": ["crane"],
        "recalled": question_id == "q1",
        "confidence": 0.5,
        "uncalibrated": 0.5,
    }


def test_a_point_has_the_scores_of_its_records_and_the_size_of_its_bank(news_bank: Bank) -> None:
    rows = [record("q1", "blue", "blue"), record("q2", "red", "blue")]
    records = pa.Table.from_pylist(rows, schema=RECORD_SCHEMA)
    found = point(records, bank=news_bank, series="memory", seconds=3.0, seed=0)
    assert (found["x"], found["documents"], found["memories"]) == (10.0, 10, 10)
    assert (found["n"], found["em"], found["f1"], found["recall"]) == (2, 50.0, 50.0, 0.5)
    assert found["f1_low"] <= 50.0 <= found["f1_high"]
    assert found["seconds"] == 1.5
    assert point(records, bank=news_bank, series="memory", x=4, seconds=3.0, seed=0)["x"] == 4.0


def test_points_lack_what_was_not_measured() -> None:
    table = points_table([make_point(1.0, 30.0)])
    assert table.schema == POINT_SCHEMA
    assert table["kept"].null_count == table["known"].null_count == table["first_token"].null_count == 1


def test_a_curve_is_written_as_json_parquet_and_png(curve: Curve, tmp_path: Path) -> None:
    files = write(curve, tmp_path)
    assert [file.name for file in files] == ["k.json", "k.parquet", "k.png"]
    assert read(files[0]) == curve
    assert pq.read_table(files[1]) == curve.points
    assert files[2].read_bytes().startswith(b"\x89PNG")
    assert list(json.loads(files[0].read_text())) == ["curve", "title", "axes", "lineage", "points"]


def test_a_folder_that_cannot_be_written_is_a_stream_error(curve: Curve, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StreamError, match="cannot write"):
        write(curve, tmp_path / "file")


@pytest.mark.parametrize("axes", [{"x": "selected"}, {}], ids=["lines", "bars"])
def test_equal_curves_give_equal_plots(curve: Curve, axes: dict[str, str], tmp_path: Path) -> None:
    curve = replace(curve, axes=axes)
    plots = [write(curve, tmp_path / name)[2].read_bytes() for name in ("one", "two")]
    assert plots[0] == plots[1]
    shorter = replace(curve, points=curve.points.slice(0, 2))
    assert write(shorter, tmp_path / "three")[2].read_bytes() != plots[0]


@pytest.mark.parametrize("text", ["", "[]", '{"curve": "k"}', '{"curve": 1, "title": 2, "axes": 3, "points": 4}'])
def test_a_file_that_is_no_curve_is_a_stream_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "k.json").write_text(text)
    with pytest.raises(StreamError, match=r"k\.json is not a curve"):
        read(tmp_path / "k.json")
