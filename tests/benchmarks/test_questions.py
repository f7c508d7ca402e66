"""What counts as a right answer to a question of a form."""

from dataclasses import replace

from cmt.answering.answer import Answer
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
