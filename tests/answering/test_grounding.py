"""Numbers that no text has, addresses that were cut, and the pieces of a streamed answer."""

from datetime import UTC, datetime

import pytest

from cmt.answering._grounding import HeldText, grounded, numbers
from cmt.answering.answer import Answer, Source, Span

MAP = "https://a.example/map?day=7"
TEXT = f"Weather\nKell Pass: 74 km/h, -2 degrees, on 7 October. See {MAP} for 1,500 more."


def draft(question: str, quote: str) -> Answer:
    """An answer without its text, whose source quotes `quote`."""
    first = TEXT.index(quote)
    at = datetime(2031, 10, 8, tzinfo=UTC)
    quoted = Span(first, first + len(quote), 0.9)
    source = Source("a", None, at, similarity=0.5, weight=0.9, text=TEXT, quote=quoted)
    return Answer(question, "", "likely", 0.8, (source,), uncalibrated=0.7)


@pytest.mark.parametrize(
    ("question", "quote", "written", "text", "verdict"),
    [
        ("How cold was it?", "-2 degrees", "-2 degrees", "-2 degrees", "likely"),
        ("How cold was it?", "-2 degrees", "2000-2001", "-2 degrees", "unsure"),
        ("How many more are there?", "1,500 more", "1500", "1500", "likely"),
        ("What is there in 2030?", "Kell Pass", "the year 2030", "the year 2030", "likely"),
        ("When was it?", "7 October", "2018", "7 October", "unsure"),
        ("When was it built?", "Kell Pass", "2018", "not in memory", "not_in_memory"),
        ("Where is the map?", MAP, "https://a", MAP, "likely"),
    ],
)
def test_a_number_that_no_text_has_is_not_the_answer(
    question: str, quote: str, written: str, text: str, verdict: str
) -> None:
    answer = grounded(draft(question, quote), written, [TEXT])
    assert (answer.text, answer.verdict) == (text, verdict)


def test_numbers_are_compared_as_digits() -> None:
    assert numbers(["Twenty-five of 1,500 at 7:12, and two"]) >= {"25", "1500", "7:12", "2"}


def test_a_streamed_answer_is_held_from_its_first_digit() -> None:
    pieces: list[str] = []
    held = HeldText(pieces.append)
    for piece in ("about", " 20", "18"):
        held(piece)
    assert (pieces, held.passed) == (["about"], "about")
    given = draft("How cold was it?", "-2 degrees")
    assert grounded(given, "about 2018", [TEXT], passed=held.passed).text == "about 2018"
    held.end("about 2018")
    assert pieces == ["about", " 2018"]
