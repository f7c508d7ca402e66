import time
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from cmt.text.date_formats import WITHOUT_ZONE, DateReader

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "form"),
    [
        ("2024-05-01T12:00:00z", "ISO 8601"),
        (" 2024-05-01 17:30:00 +0530 ", "ISO 8601"),
        ("2024-05-01 12:00:00", "ISO 8601" + WITHOUT_ZONE),
        ("2024-05-01 12:00:00 UTC", "year-month-day"),
        ("Wed, 01 May 2024 12:00:00 +0000", "RFC 2822"),
        ("Wed, 01 May 2024 08:00:00 EDT", "RFC 2822"),
        ("Wed, 01 May 24 12:00:00 GMT", "RFC 2822"),
        ("Wed, 01 May 2024 14:00:00 CEST", "names of months"),
        ("Wed, 01 May 2024 13:00:00 BST", "names of months"),
        (1714564800.0, "epoch seconds"),
        (1714564800000, "epoch milliseconds"),
        (1714564800000000, "epoch microseconds"),
        ("May 1, 2024 12:00 PM", "names of months" + WITHOUT_ZONE),
        ("Mittwoch, 1. Mai 2024, 12:00 Uhr", "names of months" + WITHOUT_ZONE),
        ("1. Mai 2024, 12.00 Uhr", "names of months" + WITHOUT_ZONE),
        ("2024-05-01 12.00", "ISO 8601" + WITHOUT_ZONE),
        ("1 de mayo de 2024 12:00 UTC", "names of months"),
        ("Wed May 01 2024 14:00:00 GMT+0200 (CEST)", "names of months"),
        ("Wed May 01 2024 14:00:00 GMT+0200 (Central European Summer Time)", "names of months"),
        ("Wed, 01 May 2024 12:00:00 +0000 (GMT)", "RFC 2822"),
        ("May 1, 2024 07:00 GMT-5", "names of months"),
        ("1 May 2024 07:00 UTC -5", "names of months"),
        ("2024-05-01 14:00 UTC+02:00", "year-month-day"),
        (datetime(2024, 5, 1, 12), "timestamp" + WITHOUT_ZONE),
        ("202405011200", "digits" + WITHOUT_ZONE),
        (20240501120000, "digits" + WITHOUT_ZONE),
    ],
)
def test_instants_are_read_in_the_forms_that_occur(value: Any, form: str) -> None:
    read = DateReader().read(value)
    assert (read.start, read.end, read.form) == (NOON, NOON, form)


@pytest.mark.parametrize(
    "value",
    [
        "2024-05-01",
        "20240501",
        20240501,
        "2024/05/01",
        "2024-5-1",
        "2024-W18-3",
        "May 1st, 2024",
        date(2024, 5, 1),
    ],
)
def test_a_plain_date_is_a_day_in_utc(value: Any) -> None:
    read = DateReader(ZoneInfo("Asia/Tokyo")).read(value)
    assert (read.start, read.end) == (
        datetime(2024, 5, 1, tzinfo=UTC),
        datetime(2024, 5, 1, 23, 59, 59, 999_999, UTC),
    )


def test_a_date_time_without_a_zone_is_read_in_that_of_the_reader() -> None:
    assert DateReader(ZoneInfo("Europe/Oslo")).read("Wed, 01 May 2024 12:00:00 -0000").start == NOON
    assert DateReader(ZoneInfo("Europe/Oslo")).read("2024-05-01 14:00").start == NOON


def test_whether_the_day_or_the_month_is_first_is_never_guessed() -> None:
    with pytest.raises(
        ValueError, match="'05/03/2026' may begin with the day or the month; set stream.day_first"
    ):
        DateReader().read("05/03/2026")
    with pytest.raises(ValueError, match="two digits; set stream.day_first"):
        DateReader().read("05/03/26")
    for text, year in (("31.12.68", 2068), ("31/12/69 14:30", 1969)):
        assert DateReader(day_first=True).read(text).start.year == year
    assert DateReader(day_first=True).read("05.03.2026 14:30").start == datetime(
        2026, 3, 5, 14, 30, tzinfo=UTC
    )
    assert DateReader(day_first=False).read("05/03/2026").start == datetime(2026, 5, 3, tzinfo=UTC)
    assert DateReader().read("25/03/2026").start == datetime(2026, 3, 25, tzinfo=UTC)
    with pytest.raises(ValueError, match="'03/25/2026' is not day/month/year"):
        DateReader(day_first=True).read("03/25/2026")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        *(
            (value, "is not a date-time; write")
            for value in ("", "soon", "x" * 1000, "2024-02-30", 2024, True, -5)
        ),
        *(
            (value, "is not a date-time; write")
            for value in (
                45000,
                float("inf"),
                10**30,
                (1,),
                "31.02.2024",
                "2024-13-45x",
                "20240231083000",
            )
        ),
        *(
            (value, "is not a date-time; write")
            for value in ("2024-05-01/2024-05-03", "2024-05-01 08,5", "202402300830")
        ),
        *(
            (value, "lacks a day, a month or a year")
            for value in ("May 2024", "10:30", "Friday", "May 1", "1 May 24")
        ),
        ("13/13/2026", "is not a date; correct it"),
        ("May 3, 2026 8:00 ET", "the time zone 'ET' is not known"),
        *(
            (value, "out of range")
            for value in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00")
        ),
        *(
            (value, ".")
            for value in (
                "2027-02-29",
                "-2031-01-01",
                "2031-01-01-",
                "2031-01-01–",
                "2100-02-29T12:00:00Z",
                "2031-06-30T23:59:60Z",
                "1" * 100_000,
            )
        ),
        *((value, ".") for value in ("2031-01-01T00:00:00+25:00", 10**400, -(10**400), 1e300)),
    ],
)
def test_what_is_no_date_or_lacks_a_part_is_refused(value: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as error:
        DateReader().read(value)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Etc/GMT+12", "America/New_York"])
def test_the_zone_of_the_computer_moves_no_date(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    values = [
        "2028-02-29",
        "2031-01-01T00:30:00+14:00",
        "2031-12-31T23:30:00-12:00",
        "9999-12-31",
        1_930_000_000,
    ]
    expected = [DateReader().read(value) for value in values]
    with monkeypatch.context() as patch:
        patch.setenv("TZ", zone)
        time.tzset()
        assert [DateReader().read(value) for value in values] == expected
    time.tzset()
