"""How many canaries and questions fit in the time for measuring."""

from dataclasses import replace
from typing import Any

from cmt.bank.rounds import Round
from cmt.rounds.budget import canaries_within, questions_within

JANUARY = Round("2031-01/0001", 1, "2031-01/0001", "s", "c", "b", "p", "committed", 1)


def test_a_round_asks_as_many_questions_as_its_seconds_allow() -> None:
    def questions(*earlier: Round) -> tuple[int, int]:
        return questions_within(40, earlier, own=60, earlier=20, spent=10)

    # no speed is known: 30 of its own, since a first slice has no earlier questions
    assert questions() == questions(replace(JANUARY, questions=0)) == (30, 20)
    # 30 s at 1.5 questions a second
    assert questions(replace(JANUARY, questions=30, seconds={"evaluate": 20.0})) == (34, 11)
    assert questions(replace(JANUARY, questions=30, seconds={"evaluate": 60.0})) == (22, 8)
    assert questions(replace(JANUARY, questions=30, seconds={"evaluate": 1.0})) == (60, 20)


def test_a_round_chooses_as_many_canaries_as_its_seconds_allow() -> None:
    def canaries(allowed: float, **earlier: Any) -> int:
        return canaries_within(allowed, [replace(JANUARY, **earlier)], limit=20)

    # 20 s at 0.75 questions a second
    assert canaries(40, questions=15, seconds={"evaluate": 20.0}) == 15
    asked = {
        "questions": 15,
        "canaries": {"asked": 18},
        "seconds": {"evaluate": 20.0, "canaries": 24.0},
    }
    assert [canaries(seconds, **asked) for seconds in (36, 20, 400)] == [13, 12, 20]
    assert canaries(40, questions=0, seconds={}) == 12
