"""Periods: the slice that a document or question belongs to."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, TypeVar

import pyarrow as pa

from cmt.common.arrow import take
from cmt.errors import ConfigError

K = TypeVar("K")
Part = tuple[str, pa.Table, pa.Table]
"""Label of a period, its documents, its questions."""

_UNITS = ("day", "week", "month")


def period_unit(period: str | int) -> str:
    """The unit of the labels of `period`: day, week, month or `every-<number>`; ConfigError for other values."""
    if period in _UNITS:
        return str(period)
    if isinstance(period, int) and period >= 1:
        return f"every-{period}"
    raise ConfigError(f"stream.period is {period!r}: use day, week, month or a number of documents, at least 1")


def unit_of(label: str) -> str:
    """The unit of the period that `label` names: day, week, month, `every-<number>`, or unknown."""
    if label.startswith("every-"):
        return label
    return "week" if "W" in label else {7: "month", 10: "day"}.get(len(label), "unknown")


def period_label(instant: datetime, *, unit: str) -> str:
    """The day (2031-02-15), ISO week (2031-W07) or month (2031-02) of `instant` (UTC). Labels sort in time order."""
    if unit == "week":
        year, week, _ = instant.isocalendar()
        return f"{year:04d}-W{week:02d}"
    day = instant.date().isoformat()
    return day if unit == "day" else day[:7]


def split(documents: pa.Table, questions: pa.Table, *, period: str | int) -> Iterator[Part]:
    """Yield (label, documents, questions) of each slice in time order, with the rows of a slice in time order.

    With a calendar period, documents go by `published_at` and questions by `asked_at`, so a slice may have questions
    alone. With a number of documents, questions go with their document; if that is in an earlier slice, they go to the
    first of the new ones.
    """
    if isinstance(period, int):
        return _split_by_number(documents, questions, period)
    return _split_by_calendar(documents, questions, period)


def parts_of(documents: pa.Table, *, period: str | int) -> list[Any]:
    """The part that `split` puts each of `documents` into: a label, or with a number of documents a number from 0."""
    if isinstance(period, int):
        part_of_row = {index: place // period for place, index in enumerate(_time_order(documents, "published_at"))}
        return [part_of_row[index] for index in range(documents.num_rows)]
    return [period_label(at, unit=period) for at in documents["published_at"].to_pylist()]


def _split_by_calendar(documents: pa.Table, questions: pa.Table, unit: str) -> Iterator[Part]:
    published = _group(parts_of(documents, period=unit))
    asked = _group([period_label(at, unit=unit) for at in questions["asked_at"].to_pylist()])
    for label in sorted(published.keys() | asked.keys()):
        yield label, _take(documents, published[label], "published_at"), _take(questions, asked[label], "asked_at")


def _split_by_number(documents: pa.Table, questions: pa.Table, size: int) -> Iterator[Part]:
    # 1. documents: `size` neighbours in time make a part
    part_of_row = parts_of(documents, period=size)
    published = _group(part_of_row)
    # 2. questions: with their document
    part_of_document = {doc_id: part_of_row[index] for index, doc_id in enumerate(documents["doc_id"].to_pylist())}
    asked = _group([part_of_document.get(doc_id, 0) for doc_id in questions["doc_id"].to_pylist()])
    label = period_unit(size)
    for part in sorted(published.keys() | asked.keys()):
        yield label, _take(documents, published[part], "published_at"), _take(questions, asked[part], "asked_at")


def _group(keys: Sequence[K]) -> defaultdict[K, list[int]]:
    """key → indices at which it stands."""
    groups: defaultdict[K, list[int]] = defaultdict(list)
    for index, key in enumerate(keys):
        groups[key].append(index)
    return groups


def _take(table: pa.Table, rows: list[int], instant: str) -> pa.Table:
    """These rows of `table`, in the order of the column `instant`."""
    part = take(table, rows)
    return take(part, _time_order(part, instant))


def _time_order(table: pa.Table, instant: str) -> list[int]:
    """Row indices by the column `instant`; rows with the same instant keep their order."""
    microseconds = table[instant].cast(pa.int64()).to_pylist()
    return sorted(range(table.num_rows), key=microseconds.__getitem__)
