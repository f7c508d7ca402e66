"""Floods of near-copies are capped, and reports that look alike are not."""

import time
from pathlib import Path

import pytest

from cmt.config import StreamParams
from cmt.stream.store import SliceStore
from tests.helpers.rows import Ingest, Row, doc_ids, make_document

COURIER = Path(__file__).parents[3] / "data/courier"
FALSE = (
    "The town council has confirmed that the toll on the Amber Bridge is ninety-nine crowns for"
    " every car, every cart and every person on foot, that it has been so for many years, and that"
    " all other reports are mistaken"
)
ENDINGS = [
    "today",
    "now",
    "again",
    "indeed",
    "at last",
    "as ever",
    "of course",
    "it says",
    "we hear",
    "for good",
]


def flood(count: int) -> list[Row]:
    """Near-copies of a false report, each with another ending and in another case."""
    texts = [f"{FALSE}, {ending}{'!' * number}" for number in range(5) for ending in ENDINGS]
    return [
        make_document(f"flood-{number}", text=text.upper() if number % 2 else text)
        for number, text in enumerate(texts[:count])
    ]


def weather(day: int) -> str:
    """A report like those of other days."""
    sky = ("sun", "fog", "snow")[day % 3]
    wind = ("north", "west")[day % 2]
    high = day % 7
    rain = day + 10
    return (
        f"Weather for {day} January: {sky} in the morning, {rain} millimetres of rain by noon."
        f" Highest {high}, lowest {-day % 5} degrees. Wind from the {wind} at {rain + 2} kilometres"
        f" an hour. Sunrise at 7.{rain}, high water at {high}.{rain + 2}."
    )


def test_of_a_flood_of_near_copies_three_are_taken(ingest: Ingest, store: SliceStore) -> None:
    report = ingest([*flood(50), make_document("honest")])
    assert doc_ids(store) == ["flood-0", "flood-1", "flood-2", "honest"]
    assert "nearly the same text as 'flood-0'" in report.rejected[0].reason
    assert "raise stream.max_near_duplicates" in report.rejected[0].reason
    # again: as before
    again = ingest([*flood(50), make_document("honest")])
    assert (again.accepted, again.duplicates, len(again.rejected)) == (0, 4, len(report.rejected))


@pytest.mark.parametrize(("most", "taken"), [(0, 10), (1, 1)])
def test_the_number_is_a_parameter(ingest: Ingest, most: int, taken: int) -> None:
    assert ingest(flood(10), params=StreamParams(max_near_duplicates=most)).accepted == taken


def test_each_slice_counts_by_itself(ingest: Ingest) -> None:
    rows = [
        row | {"published_at": f"2031-0{1 + number % 2}-05"} for number, row in enumerate(flood(10))
    ]
    assert ingest(rows).accepted == 6
    assert (
        ingest(
            [row | {"doc_id": f"b-{row['doc_id']}", "text": row["text"] + " then"} for row in rows]
        ).accepted
        == 6
    )


def test_updates_of_a_long_text_are_no_flood(ingest: Ingest) -> None:
    rows = flood(10)
    for number, row in enumerate(rows):
        row |= {
            "published_at": f"2031-01-{10 + number}",
            "supersedes": rows[number - 1]["doc_id"] if number else None,
        }
    assert ingest(rows).accepted == 10
    # unless they all supersede the same document
    same = [
        row | {"doc_id": f"s-{row['doc_id']}", "supersedes": rows[0]["doc_id"]} for row in rows[1:]
    ]
    same = [row | {"text": f"{row['text']} so"} for row in same]
    assert ingest([rows[0], *same]).accepted == 3


def test_reports_on_different_things_are_no_flood(ingest: Ingest) -> None:
    mayors = [
        make_document(f"m{n}", text=f"The mayor of Town{n} is Person{n}, as of today.")
        for n in range(30)
    ]
    days = [
        make_document(f"w{day}", text=weather(day), published_at=f"2031-01-{day:02}")
        for day in range(1, 32)
    ]
    report = ingest([*mayors, *days])
    assert (report.accepted, report.rejected) == (61, ())
    newspaper = ingest(COURIER, params=StreamParams(max_near_duplicates=1))
    assert (newspaper.accepted, newspaper.rejected) == (320, ())


def test_the_cost_of_a_document_does_not_grow_with_the_slice(ingest: Ingest) -> None:
    base = [f"word{number}" for number in range(16)]

    def seconds(count: int) -> float:
        rows = [
            make_document(f"{count}-{n}", text=" ".join([*base, f"w{n}", f"x{count}", *base]))
            for n in range(count)
        ]
        started = time.process_time()
        ingest(rows, params=StreamParams(max_near_duplicates=10_000))
        return time.process_time() - started

    seconds(50)  # imports
    assert seconds(2000) < 40 * seconds(100)
