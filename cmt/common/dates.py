"""Instants: every one inside `cmt` has a zone, and it is UTC."""

from datetime import UTC, datetime

EXAMPLE = "2031-02-15T06:00:00Z"


def parse_instant(text: str) -> datetime:
    """An ISO 8601 date-time with a zone, as UTC; ValueError says how to write it."""
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text[:40]!r} is not a date-time; write {EXAMPLE}") from None
    return to_utc(instant)


def to_utc(instant: datetime) -> datetime:
    """`instant` in UTC; ValueError when it has no zone, since guessing one would move it between periods."""
    if instant.tzinfo is None:
        raise ValueError(f"{instant.isoformat()} has no time zone; write {EXAMPLE}")
    try:
        return instant.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{instant.isoformat()} is out of range") from None


def iso(instant: datetime) -> str:
    """`instant` (UTC) the way it is to be written: 2031-02-15T06:00:00Z."""
    return instant.isoformat().replace("+00:00", "Z")
