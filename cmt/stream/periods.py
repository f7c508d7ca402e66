"""Periods: which slice a document or question goes to."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TypeVar

import pyarrow as pa

from cmt.errors import ConfigError

K = TypeVar("K")
Part = tuple[str, pa.Table, pa.Table]

_UNITS = ("day", "week", "month")


def period_unit(period: str | int) -> str:
    """The unit that labels are made in: day, week, month, or `every-<number>`; ConfigError for anything else."""
    if period in _UNITS:
        return str(period)
    if isinstance(period, int) and period >= 1:
        return f"every-{period}"
    raise ConfigError(f"stream.period is {period!r}: use day, week, month or a number of documents, at least 1")


def unit_of(label: str) -> str:
    """The unit that a period's label was made in."""
    if label.startswith("every-"):
        return label
    return "week" if "W" in label else {7: "month", 10: "day"}.get(len(label), "unknown")


def period_label(instant: datetime, *, unit: str) -> str:
    """The day (2031-02-15), ISO week (2031-W07) or month (2031-02) of `instant` (UTC); labels sort in time order."""
    if unit == "week":
        year, week, _ = instant.isocalendar()
        return f"{year:04d}-W{week:02d}"
    day = instant.date().isoformat()
    return day if unit == "day" else day[:7]


def split(documents: pa.Table, questions: pa.Table, *, period: str | int) -> Iterator[Part]:
    """(label, documents, questions) for each slice in time order, rows in time order within it.

    By calendar, documents go by `published_at` and questions by `asked_at`, so a part may have questions alone. By
    number, questions go with their document, or into the first part when it is in an earlier slice.
    """
    if isinstance(period, int):
        return _by_number(documents, questions, period)
    return _by_calendar(documents, questions, period)


def _by_calendar(documents: pa.Table, questions: pa.Table, unit: str) -> Iterator[Part]:
    published = _groups([period_label(at, unit=unit) for at in _instants(documents, "published_at")])
    asked = _groups([period_label(at, unit=unit) for at in _instants(questions, "asked_at")])
    for label in sorted(published.keys() | asked.keys()):
        yield label, _take(documents, published[label], "published_at"), _take(questions, asked[label], "asked_at")


def _by_number(documents: pa.Table, questions: pa.Table, size: int) -> Iterator[Part]:
    order = _in_order(documents, "published_at")
    part_of = {index: place // size for place, index in enumerate(order)}
    doc_ids = documents.column("doc_id").to_pylist()
    homes = {doc_id: part_of[index] for index, doc_id in enumerate(doc_ids)}
    published = _groups([part_of[index] for index in range(len(order))])
    asked = _groups([homes.get(doc_id, 0) for doc_id in questions.column("doc_id").to_pylist()])
    for part in sorted(published.keys() | asked.keys()):
        label = period_unit(size)
        yield label, _take(documents, published[part], "published_at"), _take(questions, asked[part], "asked_at")


def _groups(keys: Sequence[K]) -> defaultdict[K, list[int]]:
    groups: defaultdict[K, list[int]] = defaultdict(list)
    for index, key in enumerate(keys):
        groups[key].append(index)
    return groups


def _take(table: pa.Table, rows: list[int], instant: str) -> pa.Table:
    part = table.take(pa.array(rows, pa.int64()))
    return part.take(pa.array(_in_order(part, instant), pa.int64()))


def _in_order(table: pa.Table, instant: str) -> list[int]:
    """The rows by instant; equal ones stay in the order of the source."""
    microseconds = table.column(instant).cast(pa.int64()).to_pylist()
    return sorted(range(table.num_rows), key=microseconds.__getitem__)


def _instants(table: pa.Table, column: str) -> list[datetime]:
    return list(table.column(column).to_pylist())
