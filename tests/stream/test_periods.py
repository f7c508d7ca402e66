from datetime import UTC, datetime

import pytest

from cmt.errors import ConfigError
from cmt.stream.periods import period_label, period_unit, unit_of


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


@pytest.mark.parametrize("period", ["year", "every-3", "", 0, -1])
def test_an_unknown_period_is_refused(period: str | int) -> None:
    with pytest.raises(ConfigError, match="stream.period"):
        period_unit(period)
