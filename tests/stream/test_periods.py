from datetime import UTC, datetime

import pytest

from cmt.errors import ConfigError
from cmt.stream.periods import period_label, period_unit, unit_of


@pytest.mark.parametrize(("unit", "label"), [("day", "2031-02-01"), ("week", "2031-W05"), ("month", "2031-02")])
def test_a_period_is_labelled_in_its_unit(unit: str, label: str) -> None:
    assert period_label(datetime(2031, 2, 1, tzinfo=UTC), unit=unit) == label
    assert unit_of(label) == unit


def test_a_week_belongs_to_its_iso_year() -> None:
    assert period_label(datetime(2030, 12, 31, tzinfo=UTC), unit="week") == "2031-W01"


def test_labels_of_early_years_still_sort() -> None:
    assert period_label(datetime(987, 3, 1, tzinfo=UTC), unit="month") == "0987-03"


@pytest.mark.parametrize("period", ["year", "every-3", "", 0, -1])
def test_an_unknown_period_is_refused(period: str | int) -> None:
    with pytest.raises(ConfigError, match="stream.period"):
        period_unit(period)
