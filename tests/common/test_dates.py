from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from cmt.common.dates import iso, parse_instant, to_utc
from cmt.config import StreamParams, load_params
from cmt.errors import ConfigError


def test_a_zone_is_turned_into_utc() -> None:
    assert parse_instant("2031-02-15T07:30:00+01:30") == datetime(2031, 2, 15, 6, tzinfo=UTC)
    assert iso(parse_instant("2031-02-15T06:00:00Z")) == "2031-02-15T06:00:00Z"


@pytest.mark.parametrize("text", ["2031-02-15T06:00:00", "2031-02-15"])
def test_an_instant_without_a_zone_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="no time zone; write 2031-02-15T06:00:00Z"):
        parse_instant(text)


@pytest.mark.parametrize("text", ["yesterday", "", "2031-02-30T06:00:00Z", "zone"])
def test_what_is_no_date_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="not a date-time; write 2031-02-15T06:00:00Z"):
        parse_instant(text)


def test_an_instant_that_leaves_the_calendar_in_utc_is_refused() -> None:
    with pytest.raises(ValueError, match="out of range"):
        to_utc(datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))))


def test_the_clock_is_the_systems_unless_set() -> None:
    before = datetime.now(UTC)
    assert before <= StreamParams().now() <= datetime.now(UTC)
    assert StreamParams(clock="2031-12-31T23:59:59Z").now() == datetime(2031, 12, 31, 23, 59, 59, tzinfo=UTC)


@pytest.mark.parametrize("value", ["2031-12-31T23:59:59Z", "'2031-12-31T23:59:59Z'", "2032-01-01T00:59:59+01:00"])
def test_the_clock_reads_the_same_with_and_without_quotes(tmp_path: Path, value: str) -> None:
    (tmp_path / "params.yaml").write_text(f"stream:\n  clock: {value}\n")
    assert load_params(tmp_path / "params.yaml").stream.clock == "2031-12-31T23:59:59Z"


@pytest.mark.parametrize("value", ["noon", "2031-12-31", "2031-12-31T23:59:59", "12"])
def test_a_wrong_clock_is_refused_by_name(tmp_path: Path, value: str) -> None:
    (tmp_path / "params.yaml").write_text(f"stream:\n  clock: {value}\n")
    with pytest.raises(ConfigError, match="stream.clock"):
        load_params(tmp_path / "params.yaml")
