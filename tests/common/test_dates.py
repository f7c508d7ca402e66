from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

import pytest

from cmt.common.dates import iso, parse_end, parse_instant, parse_start, to_utc

BOTH_FORMS = "write 2031-02-15T06:00:00Z, or a plain date such as 2031-02-15$"


@pytest.mark.parametrize("parse", [parse_instant, parse_start, parse_end])
def test_a_date_time_with_time_zone_is_converted_to_utc(parse: Callable[[str], datetime]) -> None:
    assert parse("2031-02-15T07:30:00+01:30") == datetime(2031, 2, 15, 6, tzinfo=UTC)
    assert iso(parse("2031-02-15T06:00:00Z")) == "2031-02-15T06:00:00Z"


def test_a_plain_date_is_the_start_or_the_end_of_its_day_in_utc() -> None:
    assert parse_start("2026-03-02") == datetime(2026, 3, 2, tzinfo=UTC)
    assert parse_end("2026-03-02") == datetime(2026, 3, 2, 23, 59, 59, 999_999, tzinfo=UTC)
    assert parse_end("2026-03-02") + timedelta(microseconds=1) == parse_start("2026-03-03")
    assert parse_end("9999-12-31").year == 9999


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        *((text, "no time zone") for text in ("2031-02-15T06:00:00", "2031-02-15")),
        *((text, "not a date-time") for text in ("yesterday", "", "2031-02-30T06:00:00Z", "zone")),
    ],
)
def test_text_that_is_no_instant_is_refused_with_an_example(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=f"{problem}; write 2031-02-15T06:00:00Z$"):
        parse_instant(text)


@pytest.mark.parametrize("parse", [parse_start, parse_end])
@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("2031-02-15T06:00:00", "2031-02-15T06:00:00 has no time zone"),
        ("2031-02-30", "'2031-02-30' is not a date-time"),
        ("2031-02", "'2031-02' is not a date-time"),
        ("", "'' is not a date-time"),
        ("x" * 1000, "'x{40}' is not a date-time"),
    ],
)
def test_where_dates_are_accepted_a_refusal_names_both_forms(
    parse: Callable[[str], datetime], text: str, problem: str
) -> None:
    with pytest.raises(ValueError, match=f"^{problem}; {BOTH_FORMS}"):
        parse(text)


def test_an_instant_outside_the_calendar_in_utc_is_refused() -> None:
    with pytest.raises(ValueError, match="out of range"):
        to_utc(datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))))
