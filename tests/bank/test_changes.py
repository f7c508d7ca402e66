"""Spans and changes: ids and offsets without text."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from cmt.bank.changes import Change, ValueSpan, without_rivals

DATE = datetime(2031, 1, 2, 6, 0, 0, 250, tzinfo=UTC)
FERRY = {
    "memory_id": "#a@b#3",
    "doc_id": "#a@b",
    "published_at": DATE,
    "text": "🚢 Saltby\nA ticket costs 8 crowns.",
}
FARES = {
    "memory_id": "fares#0@2031-02-01T00:00:00Z",
    "doc_id": "fares",
    "published_at": DATE,
    "text": "Now 9 crowns.",
}
OLD, NEW = ValueSpan.of(FERRY, 24, 32), ValueSpan.of(FARES, 4, 12)


def test_a_span_reads_its_characters_from_the_text_that_it_was_found_in() -> None:
    assert (OLD.doc_id, OLD.published_at, OLD.chunk, NEW.chunk) == ("#a@b", DATE, 3, 0)
    assert (OLD.read(FERRY), NEW.read(FARES)) == ("8 crowns", "9 crowns")
    assert (
        OLD.read(FERRY | {"memory_id": "#a@b#3@2031-01-02T06:00:00Z"}) == "8 crowns"
    )  # now an earlier version
    for other in (
        FARES,
        FERRY | {"text": "Sunk."},
        FERRY | {"text": None},
        FERRY | {"memory_id": "#a@b#33"},
    ):
        assert OLD.read(other) is None


@pytest.mark.parametrize(("first", "last"), [(-1, 2), (2, 2), (3, 1), (0, 99)])
def test_a_span_outside_the_text_is_refused(first: int, last: int) -> None:
    with pytest.raises(ValueError, match=f"memory '#a@b#3' has no characters {first} to {last}"):
        ValueSpan.of(FERRY, first, last)


def test_the_id_depends_on_the_spans_alone() -> None:
    change = Change(OLD, NEW, holds_from=DATE, confidence=0.9)
    again = replace(
        change, confidence=0.8, round_id="r", compressor="c", found_at="now", state="rejected"
    )
    assert change.id == again.id == Change.from_record(again.to_record()).id
    assert len(change.id) == 12
    assert change.doc_ids == ("#a@b", "fares")
    others = [
        replace(change, old=NEW, new=OLD),
        *(replace(change, new=replace(NEW, last=last)) for last in (9, 10)),
    ]
    assert len({change.id, *(other.id for other in others)}) == 4


def test_id_and_record_keep_their_form_and_a_record_is_checked() -> None:
    change = Change(
        OLD, NEW, holds_from=DATE.replace(microsecond=0), confidence=0.9, round_id="2031-01/0001"
    )
    assert change.id == "a1c55d542769"
    record = change.to_record()
    assert record == (
        '{"old": {"doc_id": "#a@b", "published_at": "2031-01-02T06:00:00.000250Z", '
        '"chunk": 3, "first": 24, "last": 32, "digest": "df668ae5ffde7ce9"}, '
        '"new": {"doc_id": "fares", "published_at": "2031-01-02T06:00:00.000250Z", '
        '"chunk": 0, "first": 4, "last": 12, "digest": "d27c9ac7cc956550"}, '
        '"holds_from": "2031-01-02T06:00:00Z", "confidence": 0.9, '
        '"round_id": "2031-01/0001", "compressor": "", '
        '"found_at": "", "state": "found", "checksum": "1e8e68f4fed5adde6b39d25ce40b494c"}'
    )
    assert Change.from_record(record) == change
    for altered in (record.replace("0.9", "0.8"), record.replace("24", "23"), "[]", "x", "{}"):
        with pytest.raises(ValueError):
            Change.from_record(altered)


def test_the_surest_change_of_a_document_counts_and_those_that_a_change_joins_with_it() -> None:
    def change(old: str, new: str, confidence: float) -> Change:
        return Change(
            replace(OLD, doc_id=old),
            replace(NEW, doc_id=new),
            holds_from=DATE,
            confidence=confidence,
        )

    march = change("jan", "mar", 0.9)
    april = change("jan", "apr", 0.7)
    other_story = change("jan", "x", 0.8)
    assert without_rivals([april, march, other_story]) == [march]
    assert without_rivals([april, march, other_story, joins := change("mar", "apr", 0.75)]) == [
        april,
        march,
        joins,
    ]
    assert without_rivals([april, march, change("apr", "mar", 0.75)])[:2] == [april, march]
    # a rejected change rivals none, and joins none
    rejected = replace(march, state="rejected")
    assert without_rivals([april, rejected, other_story]) == [rejected, other_story]
    assert without_rivals([april, march, replace(joins, state="rejected")]) == [
        march,
        replace(joins, state="rejected"),
    ]
    # a document may change several earlier ones, and one of them in two places
    several = [
        change("jan", "mar", 0.9),
        change("feb", "mar", 0.8),
        replace(march, old=replace(OLD, doc_id="jan", first=25)),
    ]
    assert without_rivals(several) == several
