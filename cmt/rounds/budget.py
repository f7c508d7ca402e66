"""How many questions a round asks if its measuring is limited in time.

The speed is that of earlier rounds. Half of the time is for the canaries, the rest for the
questions of the evaluation.
"""

from collections.abc import Sequence

from cmt.bank.rounds import Round

FEWEST_QUESTIONS = 30
"""Questions of a round whose measuring is limited in time; with fewer, the interval of F1 is wider
than 30 points.
"""
FEWEST_CANARIES = 12
"""Canaries of a round whose measuring is limited in time: three of the fixed sample, nine near the
new documents.
"""
MEASURE_STAGES = ("canaries", "changes")
"""Stages before the evaluation that count as measuring."""


def canaries_within(seconds: float, rounds: Sequence[Round], *, limit: int) -> int:
    """How many canaries fit in half of `seconds`: at least FEWEST_CANARIES, at most `limit`."""
    speed = _speed(rounds, "canaries") or _speed(rounds, "evaluate") or 0.0
    return min(limit, max(FEWEST_CANARIES, int(speed * seconds / 2)))


def questions_within(
    seconds: float, rounds: Sequence[Round], *, own: int, earlier: int, spent: float
) -> tuple[int, int]:
    """How many questions of the slice and how many earlier ones a round can answer in the part of
    `seconds` that is not `spent`.

    `own` and `earlier` are the numbers without a limit. They keep their proportion, and together
    at least FEWEST_QUESTIONS are left.
    """
    speed = _speed(rounds, "evaluate")
    if speed is None:  # a first slice has no earlier questions
        return min(own, FEWEST_QUESTIONS), earlier
    count = max(FEWEST_QUESTIONS, int((seconds - spent) * speed))
    share = min(1.0, count / (own + earlier)) if own + earlier else 1.0
    return round(share * own), round(share * earlier)


def _speed(rounds: Sequence[Round], stage: str) -> float | None:
    """Questions a second in the `stage` "canaries" or "evaluate" of the latest of `rounds` that
    asked some.
    """
    for round_ in reversed(rounds):
        count = round_.questions if stage == "evaluate" else round_.canaries.get("asked")
        if count and (taken := round_.seconds.get(stage)):
            return count / taken
    return None
