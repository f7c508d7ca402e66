"""What counts as a right answer to a question of a form."""

from dataclasses import replace
from datetime import UTC, datetime

from cmt.answering.answer import Answer, Quoted
from tests.helpers.scripts import load_script

SCRIPT = load_script("questions")
GIVEN = Answer("Who?", "9 crowns", "likely", 0.9, (), uncalibrated=0.9)


def test_an_answer_gives_one_of_the_values_or_rightly_none() -> None:
    assert SCRIPT.is_right(GIVEN, ["8 crowns", "nine", "9"])
    assert not SCRIPT.is_right(GIVEN, ["8 crowns"])
    assert not SCRIPT.is_right(GIVEN, [])
    nothing = replace(GIVEN, text="not in memory", verdict="not_in_memory")
    assert SCRIPT.is_right(nothing, [])
    assert not SCRIPT.is_right(nothing, ["9"])


def test_a_reason_is_right_if_one_of_the_quoted_sentences_has_it() -> None:
    text = "The ferry is late. Dr. Moss blamed\n the fog on  the river. … Fares rose."
    quoted = Quoted(text, "a1", datetime(2031, 3, 1, tzinfo=UTC))
    answer = replace(GIVEN, form="why", text=text, items=(quoted,))
    assert SCRIPT.quotes(answer, ["No.", "dr. moss blamed the fog on the river"])
    assert not SCRIPT.quotes(answer, ["The fog lifted at noon."])
    assert not SCRIPT.quotes(GIVEN, ["9 crowns"])
