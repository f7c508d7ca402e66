"""Dates and instants. Every instant inside `cmt` has a time zone, and that is UTC."""

from datetime import UTC, date, datetime, time

EXAMPLE = "2031-02-15T06:00:00Z"
EXAMPLE_DATE = "2031-02-15"
# what `parse_start` and `parse_end` accept
INSTANT_OR_DATE = f"{EXAMPLE}, or a plain date such as {EXAMPLE_DATE}"


def parse_instant(text: str, *, accepted: str = EXAMPLE) -> datetime:
    """Convert an ISO 8601 date-time with a time zone to UTC. Raises ValueError, which says to write
    `accepted`.
    """
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text[:40]!r} is not a date-time; write {accepted}") from None
    return to_utc(instant, accepted=accepted)


def parse_start(text: str) -> datetime:
    """Parse a plain date as the start of that day in UTC, or a date-time as `parse_instant`. Raises
    ValueError.
    """
    return _parse(text, time.min)


def parse_end(text: str) -> datetime:
    """As `parse_start`, but a plain date is the last microsecond of that day."""
    return _parse(text, time.max)


def to_utc(instant: datetime, *, accepted: str = EXAMPLE) -> datetime:
    """Convert `instant` to UTC. Raises ValueError without a time zone, which is never guessed, or
    out of range.
    """
    if instant.tzinfo is None:
        raise ValueError(f"{instant.isoformat()} has no time zone; write {accepted}")
    try:
        return instant.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{instant.isoformat()} is out of range") from None


def iso(instant: datetime) -> str:
    """Format `instant` (UTC) as 2031-02-15T06:00:00Z."""
    return instant.isoformat().replace("+00:00", "Z")


def _parse(text: str, time_of_day: time) -> datetime:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return parse_instant(text, accepted=INSTANT_OR_DATE)
    return datetime.combine(day, time_of_day, UTC)
