"""The answer as callers see it."""

import json
from dataclasses import FrozenInstanceError, asdict
from datetime import UTC, datetime

import pytest

from cmt.answering.answer import Answer, Source, Span

SOURCE = Source(
    "d1", "A ferry", datetime(2031, 1, 2, tzinfo=UTC), 0.5, 0.25, "It costs six crowns.", (Span(9, 19, 0.2),)
)


def test_an_answer_cannot_be_changed() -> None:
    answer = Answer("What does it cost?", "six crowns", "likely", 0.9, (SOURCE,), uncalibrated=0.9)
    with pytest.raises(FrozenInstanceError):
        answer.text = "seven crowns"  # type: ignore[misc]


def test_equal_answers_compare_equal_with_their_sources() -> None:
    first, second = (Answer("Who?", "Moss", "likely", 0.9, (SOURCE,), uncalibrated=0.9) for _ in range(2))
    assert first == second
    assert first != Answer("Who?", "Moss", "likely", 0.9, (), uncalibrated=0.9)


def test_an_answer_is_plain_data() -> None:
    plain = asdict(Answer("Who?", "Moss", "likely", 0.9, (SOURCE,), uncalibrated=0.9))
    assert json.loads(json.dumps(plain, default=str))["sources"][0]["spans"] == [
        {"first": 9, "last": 19, "probability": 0.2}
    ]
    assert plain["closed_book"] is plain["sources"][0]["quote"] is plain["sources"][0]["supersedes"] is None
