from datetime import UTC, datetime

import pyarrow as pa
import pytest

from cmt.errors import ConfigError
from cmt.stream.periods import period_label, period_unit, split, unit_of
from cmt.stream.schema import INSTANT


@pytest.mark.parametrize(("unit", "label"), [("day", "2031-02-01"), ("week", "2031-W05"), ("month", "2031-02")])
def test_a_label_shows_its_unit(unit: str, label: str) -> None:
    assert period_label(datetime(2031, 2, 1, tzinfo=UTC), unit=unit) == label
    assert unit_of(label) == unit


def test_a_week_belongs_to_its_iso_year() -> None:
    assert period_label(datetime(2030, 12, 31, tzinfo=UTC), unit="week") == "2031-W01"


def test_labels_of_early_years_have_four_digits() -> None:
    assert period_label(datetime(987, 3, 1, tzinfo=UTC), unit="month") == "0987-03"


@pytest.mark.parametrize("period", ["year", "every-3", "", 0, -1])
def test_an_unknown_period_is_refused(period: str | int) -> None:
    with pytest.raises(ConfigError, match="stream.period"):
        period_unit(period)


def documents(**days: int) -> pa.Table:
    """Documents by doc_id, each published on a day of January 2031."""
    dates = pa.array([datetime(2031, 1, day, tzinfo=UTC) for day in days.values()], INSTANT)
    return pa.table({"doc_id": pa.array(days, pa.string()), "published_at": dates})


def questions(**days: int) -> pa.Table:
    """One question on each of these documents, asked on a day of January 2031."""
    return documents(**days).rename_columns(["doc_id", "asked_at"])


def test_calendar_periods_are_in_time_order_and_may_have_questions_alone() -> None:
    parts = list(split(documents(b=2, a=1), questions(a=3, b=2), period="day"))
    assert [label for label, _, _ in parts] == ["2031-01-01", "2031-01-02", "2031-01-03"]
    assert [part["doc_id"].to_pylist() for _, part, _ in parts] == [["a"], ["b"], []]
    assert [part["doc_id"].to_pylist() for _, _, part in parts] == [[], ["b"], ["a"]]


def test_rows_of_the_same_instant_keep_their_order() -> None:
    [(_, part, _)] = split(documents(c=2, b=2, a=1), questions(), period="month")
    assert part["doc_id"].to_pylist() == ["a", "c", "b"]


def test_with_a_number_of_documents_questions_go_with_their_document() -> None:
    parts = list(split(documents(c=3, b=2, a=1), questions(c=4, a=9, earlier=5), period=2))
    assert [label for label, _, _ in parts] == ["every-2", "every-2"]
    assert [part["doc_id"].to_pylist() for _, part, _ in parts] == [["a", "b"], ["c"]]
    assert [part["doc_id"].to_pylist() for _, _, part in parts] == [["earlier", "a"], ["c"]]


@pytest.mark.parametrize("period", ["month", 10])
def test_no_rows_make_no_slice(period: str | int) -> None:
    assert list(split(documents(), questions(), period=period)) == []
