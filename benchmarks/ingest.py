"""Seconds that `cmt ingest` takes to add one document to streams of 10, 100 and 1,000 slices.

    python benchmarks/ingest.py

Each slice has a document and a question; a month has ten slices, or with --period day a day has
one. The streams take turns, so that a busy machine slows all of them alike; the time of a stream is
the least of its ingests. With --bar N the command fails if the largest stream takes more than N
times as long as the smallest one.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from cmt.common.dates import iso
from cmt.config import StreamParams
from cmt.stream.admission.ingest import Options, ingest
from cmt.stream.periods import period_label
from cmt.stream.rows import RawRow, RawRows, validate_rows
from cmt.stream.schema import Checks
from cmt.stream.store import SliceStore

_START = datetime(1940, 1, 1, tzinfo=UTC)
_EVERY = timedelta(days=3)  # between two slices of months
_CLOCK = "2031-12-31T23:59:59Z"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the seconds of each stream, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, nargs="+", default=[10, 100, 1_000], metavar="N")
    parser.add_argument("--period", choices=("day", "month"), default="month")
    parser.add_argument("--repeats", type=int, default=20, help="ingests of each stream")
    parser.add_argument("--bar", type=float, help="largest time of the last stream ÷ the first")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        seconds = measure(Path(folder), options.slices, options.period, options.repeats)
    first = seconds[options.slices[0]]
    for count, least in seconds.items():
        print(f"{count:>6,} slices {1000 * least:8.1f} ms {least / first:6.2f} ×")
    return int(options.bar is not None and seconds[options.slices[-1]] > options.bar * first)


def measure(
    folder: Path, sizes: Sequence[int], period: Literal["day", "month"], repeats: int
) -> dict[int, float]:
    """Number of slices → the seconds of the fastest of `repeats` ingests of one new document."""
    params = StreamParams(period=period, clock=_CLOCK)
    stores = dict[int, SliceStore]()
    for size in sizes:
        stores[size] = SliceStore(folder / f"{size}/stream", folder / f"{size}/quarantine")
        _fill(stores[size], folder, size, params)
    seconds = dict.fromkeys(sizes, float("inf"))
    for number in range(repeats):
        for size, store in stores.items():
            row = _document(f"new-{number}", _START)
            started = time.perf_counter()
            _ingest(store, folder, [row], params)
            seconds[size] = min(seconds[size], time.perf_counter() - started)
    return seconds


def _fill(store: SliceStore, folder: Path, size: int, params: StreamParams) -> None:
    """Write `size` slices, and ingest one document, so that the index is complete."""
    with store.opened() as index:
        for number in range(size):
            date = _START + number * _EVERY
            rows = [_document(f"d{number}", date), _question(f"d{number}", date)]
            documents, questions = validate_rows(
                RawRows([RawRow("rows", 1, rows[0])], [RawRow("rows", 2, rows[1])]),
                Checks(params.now()),
            )
            label = period_label(date, unit=str(params.period))
            index.add(label, documents.table, questions.table)
    _ingest(store, folder, [_document("first", _START)], params)


def _document(doc_id: str, date: datetime) -> dict[str, object]:
    text = f"The report {doc_id} of {date:%Y-%m-%d} says what is new in the harbour."
    return {"doc_id": doc_id, "published_at": iso(date), "text": text}


def _question(doc_id: str, date: datetime) -> dict[str, object]:
    return {
        "doc_id": doc_id,
        "asked_at": iso(date),
        "question": f"What is new in {doc_id}?",
        "answers": ["News."],
    }


def _ingest(
    store: SliceStore, folder: Path, rows: Sequence[dict[str, object]], params: StreamParams
) -> None:
    path = folder / "rows.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    ingest(store, path, options=Options(params))


if __name__ == "__main__":
    sys.exit(main())
