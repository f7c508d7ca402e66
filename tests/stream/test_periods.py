from datetime import UTC, datetime

import pyarrow as pa
import pytest

from cmt.stream import periods
from cmt.stream.periods import newest_apart, period_label, unit_of


@pytest.mark.parametrize(
    ("date", "unit", "label"),
    [
        ((2031, 2, 1), "day", "2031-02-01"),
        ((2031, 2, 1), "week", "2031-W05"),
        ((2030, 12, 31), "week", "2031-W01"),  # a week belongs to its ISO year
        ((2031, 2, 1), "month", "2031-02"),
        ((987, 3, 1), "month", "0987-03"),
    ],
)
def test_a_label_shows_its_unit(date: tuple[int, int, int], unit: str, label: str) -> None:
    assert period_label(datetime(*date, tzinfo=UTC), unit=unit) == label
    assert unit_of(label) == unit


@pytest.mark.parametrize(
    ("lengths", "sizes"),
    [
        ((1, 1, 1), [(3, 1)]),
        ((1, 1, 1, 1, 1), [(1, 0), (4, 1)]),  # at most four documents
        ((9, 4, 4), [(1, 0), (2, 1)]),  # at most ten characters
        ((1, 99), [(1, 0), (1, 1)]),  # at least one document
        ((99,), [(1, 1)]),
    ],
)
def test_the_newest_documents_of_a_large_period_become_a_part_of_their_own(
    lengths: tuple[int, ...], sizes: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(periods, "NEWEST_DOCUMENTS", 4)
    monkeypatch.setattr(periods, "NEWEST_CHARACTERS", 10)
    documents = pa.table(
        {"doc_id": [f"d{n}" for n in range(len(lengths))], "text": ["x" * n for n in lengths]}
    )
    questions = pa.table({"doc_id": [f"d{len(lengths) - 1}"]})
    old, late = ("2031-01", documents, questions), ("2031-03", documents.slice(0, 0), questions)
    first, *cut, last = newest_apart([old, ("2031-02", documents, questions), late])
    assert (first, last) == (old, late)
    assert [(label, one.num_rows, asked.num_rows) for label, one, asked in cut] == [
        ("2031-02", *size) for size in sizes
    ]
    assert pa.concat_tables(one for _, one, _ in cut).equals(documents)
