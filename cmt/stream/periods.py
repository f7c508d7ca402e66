"""Periods: the slice that a document or question belongs to."""

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from cmt.common.arrow import rows_with, rows_without, take
from cmt.errors import ConfigError

Part = tuple[str, pa.Table, pa.Table]

NEWEST_DOCUMENTS, NEWEST_CHARACTERS = 40, 40_000


def period_unit(period: str | int) -> str:
    """The unit of the labels of `period`: day, week, month or `every-<number>`; ConfigError for
    other values.
    """
    if period in ("day", "week", "month"):
        return str(period)
    if isinstance(period, int) and period >= 1:
        return f"every-{period}"
    raise ConfigError(
        f"stream.period is {period!r}: use day, week, month or a number of documents, at least 1"
    )


def unit_of(label: str) -> str:
    """The unit of the period that `label` names: day, week, month, `every-<number>`, or unknown."""
    if label.startswith("every-"):
        return label
    return "week" if "W" in label else {7: "month", 10: "day"}.get(len(label), "unknown")


def period_label(instant: datetime, *, unit: str) -> str:
    """The day (2031-02-15), ISO week (2031-W07) or month (2031-02) of `instant` (UTC). Labels sort
    in time order.
    """
    if unit == "week":
        year, week, _ = instant.isocalendar()
        return f"{year:04d}-W{week:02d}"
    day = instant.date().isoformat()
    return day if unit == "day" else day[:7]


def split(documents: pa.Table, questions: pa.Table, *, period: str | int) -> Iterator[Part]:
    """Yield (label, documents, questions) of each slice in time order, with the rows of a slice in
    time order.

    A calendar period cuts documents by `published_at` and questions by `asked_at`, so a slice may
    have only questions. With a number of documents, a question follows its document; if its
    document is in an earlier slice, the question goes into the first new one.
    """
    # 1. the slice of each document and of each question
    slices = slice_of_each(documents, period=period)
    if isinstance(period, int):
        slice_of_document = dict(zip(documents["doc_id"].to_pylist(), slices, strict=True))
        question_slices = [
            slice_of_document.get(doc_id, 0) for doc_id in questions["doc_id"].to_pylist()
        ]
    else:
        question_slices = [
            period_label(at, unit=period) for at in questions["asked_at"].to_pylist()
        ]
    # 2. the rows of each slice
    rows = defaultdict[Any, tuple[list[int], list[int]]](lambda: ([], []))
    for number, keys in enumerate((slices, question_slices)):
        for row, key in enumerate(keys):
            rows[key][number].append(row)
    for key, (published, asked) in sorted(rows.items()):
        label = period_unit(period) if isinstance(period, int) else key
        yield (
            label,
            take(documents, published).sort_by("published_at"),
            take(questions, asked).sort_by("asked_at"),
        )


def newest_apart(parts: Sequence[Part]) -> list[Part]:
    """`parts`, the last one with documents cut in two if it is large, so that a first round is
    short.
    """
    last = max((n for n, (_, documents, _) in enumerate(parts) if documents.num_rows), default=None)
    if last is None:
        return list(parts)
    label, documents, questions = parts[last]
    latest = (
        documents["text"].slice(max(0, documents.num_rows - NEWEST_DOCUMENTS)).to_pylist()[::-1]
    )
    sizes = itertools.accumulate(map(len, latest))
    start = documents.num_rows - max(1, sum(size <= NEWEST_CHARACTERS for size in sizes))
    if not start:
        return list(parts)
    older, newer = documents.slice(0, start), documents.slice(start)
    own = newer["doc_id"].to_pylist()
    about_older = rows_without(questions, "doc_id", own)
    about_newer = rows_with(questions, "doc_id", own)
    return [
        *parts[:last],
        (label, older, about_older),
        (label, newer, about_newer),
        *parts[last + 1 :],
    ]


def slice_of_each(documents: pa.Table, *, period: str | int) -> list[Any]:
    """The slice that `split` puts each document into: a label, or with a number of documents a
    number from 0.
    """
    if isinstance(period, int):
        slices = [0] * documents.num_rows
        for position, row in enumerate(pc.sort_indices(documents["published_at"]).to_pylist()):
            slices[row] = position // period
        return slices
    return [period_label(at, unit=period) for at in documents["published_at"].to_pylist()]
