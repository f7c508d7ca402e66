"""Files whose few bytes stand for many are refused before they are unpacked or decoded."""

import gzip
import io
import lzma
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cmt.config import StreamParams
from cmt.errors import StreamError
from cmt.stream.limits import DEFAULT_LIMITS, Limits
from cmt.stream.readers._decoding import read_arrow, read_parquet

ROOT = Path(__file__).parents[3]
LONG, ROWS = 500_000, 20_000  # characters of a string, and how often it is repeated: 10 GB
REPEATED = pa.DictionaryArray.from_arrays(pa.array([0] * ROWS, pa.int32()), pa.array(["x" * LONG]))
READ = """
import resource, sys
from pathlib import Path
import psutil
from cmt.config import StreamParams
from cmt.stream.limits import Limits
from cmt.stream.readers.detection import records
# a fifth of the usual limits
limits = Limits(StreamParams(file_megabytes=20, file_rows=40_000, document_characters=600_000))
for number, name in enumerate(sys.argv[1:]):
    print([*records(Path(name), limits=limits)][-1].error)
    if number == 0:  # a good file, with which Arrow reserves its memory
        used = psutil.Process().memory_info().vms
        resource.setrlimit(resource.RLIMIT_AS, (used + 200_000_000,) * 2)
"""


def parquet(columns: dict[str, Any], **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, compression="zstd", **options)
    return sink.getvalue()


def arrow(
    columns: dict[str, Any], new: Any = pa.ipc.new_file, compression: str | None = "zstd"
) -> bytes:
    sink, table = io.BytesIO(), pa.table(columns)
    with new(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table)
    return sink.getvalue()


FILES = {
    "good.parquet": lambda: parquet({"text": ["a"]}),
    "dictionary.parquet": lambda: parquet({"text": REPEATED}, store_schema=False),
    "list.parquet": lambda: parquet(
        {"text": pa.ListArray.from_arrays(pa.array([0, ROWS], pa.int32()), REPEATED)},
        store_schema=False,
    ),
    "delta.parquet": lambda: parquet(
        {"text": ["x" * LONG] * 60},
        use_dictionary=False,
        column_encoding={"text": "DELTA_BYTE_ARRAY"},
    ),
    "fixed.parquet": lambda: parquet({"text": pa.array([b"x" * LONG] * 60, pa.binary(LONG))}),
    "nulls.parquet": lambda: parquet(
        {"text": pa.array([[None] * 4_000_000], pa.list_(pa.int32()))}
    ),
    "file.arrow": lambda: arrow({"text": ["y" * 600_000] * 50}),
    "stream.arrow": lambda: arrow({"text": ["y" * 600_000] * 50}, pa.ipc.new_stream),
    "dictionary.arrow": lambda: arrow({"text": REPEATED}),
    "runs.arrow": lambda: arrow(
        {
            "text": pa.RunEndEncodedArray.from_arrays(
                pa.array([ROWS], pa.int32()), pa.array(["x" * LONG])
            )
        },
        compression=None,
    ),
    "nulls.arrow": lambda: arrow(
        {"text": pa.FixedSizeListArray.from_arrays(pa.nulls(100_000_000), 100_000_000)},
        compression=None,
    ),
    "members.jsonl.gz": lambda: gzip.compress(b" " * 20_000_000) * 10,
    "streams.jsonl.xz": lambda: lzma.compress(b" " * 20_000_000, preset=0) * 10,
    "objects.jsonl.gz": lambda: gzip.compress(b"{}\n" * 6_600_000),
    "lists.json.gz": lambda: gzip.compress(b"[" + b"[]," * 6_600_000 + b"[]]"),
    "line.jsonl.gz": lambda: gzip.compress(b'{"text": [' + b"[]," * 6_600_000 + b"[]]}"),
    "rows.csv.gz": lambda: gzip.compress(b"text,question,answers\n" + b"a,b,c\n" * 3_000_000),
}


def test_a_small_file_does_not_take_much_memory(tmp_path: Path) -> None:
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content())
        assert (tmp_path / name).stat().st_size < 600_000
    done = subprocess.run(
        [sys.executable, "-c", READ, *(str(tmp_path / name) for name in FILES)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    first, *errors = done.stdout.splitlines()
    assert first == "None"
    for name, error in zip([*FILES][1:], errors, strict=True):
        assert "raise stream.file_" in error or "raise stream.document_characters" in error, name


def test_every_type_is_decoded() -> None:
    columns = {
        "text": pa.array(["a", None, "c"]).dictionary_encode(),
        "plain": pa.array(["a", None, "c"]),
        "view": pa.array(["a", None, "c"], pa.string_view()),
        "numbers": pa.array([[1, 2], None, []]),
        "object": pa.array([{"a": 1, "b": ["x"]}, None, {"a": None, "b": None}]),
        "runs": pa.RunEndEncodedArray.from_arrays(
            pa.array([2, 3], pa.int32()), pa.array(["r", None])
        ),
        "none": pa.nulls(3),
    }
    names = ("text", "plain", "view", "numbers", "object", "runs", "none")
    rows: list[tuple[Any, ...]] = [
        ("a", "a", "a", [1, 2], {"a": 1, "b": ["x"]}, "r", None),
        (None, None, None, None, None, "r", None),
        ("c", "c", "c", [], {"a": None, "b": None}, None, None),
    ]
    expected = [dict(zip(names, row, strict=True)) for row in rows]
    for content in (
        arrow(columns),
        arrow(columns, pa.ipc.new_stream),
        arrow(columns, compression="lz4"),
    ):
        assert [record.fields for record in read_arrow(content, "a", DEFAULT_LIMITS)] == expected
    del columns["runs"]
    read = [record.fields for record in read_parquet(parquet(columns), "a", DEFAULT_LIMITS)]
    assert read == [{key: value for key, value in row.items() if key != "runs"} for row in expected]


def test_a_table_of_many_columns_has_fewer_rows() -> None:
    limits = Limits(StreamParams(file_rows=100))
    wide = parquet({f"column {number}": pa.nulls(31) for number in range(100)})
    with pytest.raises(StreamError, match="has 100 columns and 31 rows or more: leave out columns"):
        list(read_parquet(wide, "a", limits))
