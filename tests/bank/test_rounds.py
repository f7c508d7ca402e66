"""Rounds: their stored form, the two forms of scores, and the contradictions between a bank and its
ledger.
"""

import json
from dataclasses import replace

import pytest

from cmt.bank.rounds import (
    SCORE_NAMES,
    Round,
    check_uninterrupted,
    contradiction,
    flat_scores,
)
from cmt.common.digests import json_checksum
from cmt.errors import RoundError
from tests.helpers.rounds import ROUND


def stored(**changes: object) -> str:
    """The record of ROUND with other stored values and the checksum that belongs to them."""
    values = json.loads(ROUND.to_record()) | changes
    del values["checksum"]
    return json.dumps(values | {"checksum": json_checksum(values)})


def test_a_record_is_the_inverse_of_its_round_and_keeps_the_stored_names() -> None:
    scores: dict[str, dict[str, float | None]] = {
        "cmt": {"f1": 60.0, "recall": 0.9},
        "rag": {"f1_low": 29.0, "recall": None},
    }
    flat = {"f1": 60.0, "recall": 0.9, "rag_f1_low": 29.0, "rag_recall": None}
    round_ = replace(ROUND, scores=scores, set_aside=("a2",), seconds={"bank": 1.5})
    values = json.loads(round_.to_record())
    assert values["scores"] == flat == flat_scores(scores)
    assert values["bank_params"] == ROUND.row_format
    assert "row_format" not in values
    assert Round.from_record(round_.to_record()) == round_


def test_scores_of_every_system_are_read_back_under_its_name() -> None:
    systems: dict[str, dict[str, float | None]] = {
        name: dict.fromkeys(SCORE_NAMES, 1.0) for name in ("cmt", "rag_trained", "rag", "closed")
    }
    read = Round.from_record(stored(scores=flat_scores(systems)))
    assert list(read.scores.items()) == list(systems.items())
    unknown_name = Round.from_record(stored(scores={"f1": 1.0, "accuracy": 2.0}))
    assert unknown_name.scores == {"cmt": {"f1": 1.0, "accuracy": 2.0}}


def test_an_altered_record_is_refused() -> None:
    altered = ROUND.to_record().replace(ROUND.slice_digest, "0" * 64)
    with pytest.raises(ValueError, match=f"round {ROUND.round_id} does not match its checksum"):
        Round.from_record(altered)
    for record in ("{", "[]", "{}", stored(colour="blue")):
        with pytest.raises(ValueError, match="a row cannot be read"):
            Round.from_record(record)


@pytest.mark.parametrize("state", ["started", "rolling_back"])
def test_an_interrupted_round_stops_an_operation_that_drops_versions(state: str) -> None:
    check_uninterrupted([replace(ROUND, state="committed")], "purging")
    with pytest.raises(RoundError, match=rf"{ROUND.round_id} .* before purging"):
        check_uninterrupted([replace(ROUND, state=state)], "purging")  # type: ignore[arg-type]


# Contradictions between a bank and its ledger


LEFT = replace(ROUND, state="committed", version_after=7, rows=6)


@pytest.mark.parametrize(
    ("version", "rows", "idle", "problem"),
    [
        (7, 6, True, None),
        (9, 5, False, None),
        (9, 5, True, "has 5 rows, but round 2031-01/0001 left 6"),
        (7, 5, False, "has 5 rows, but round 2031-01/0001 left 6"),
        (4, 6, False, "is at version 4, but round 2031-01/0001 left version 7"),
    ],
)
def test_a_bank_must_have_what_the_last_round_left(
    version: int, rows: int, idle: bool, problem: str | None
) -> None:
    earlier = replace(ROUND, state="committed", version_after=3, rows=3)
    assert contradiction([earlier, LEFT], version=version, rows=rows, idle=idle) == problem
    assert contradiction([replace(LEFT, state="rolled_back")], version=1, rows=0, idle=True) is None
