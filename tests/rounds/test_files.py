"""The files by which the steps of a round pass their results on."""

from pathlib import Path

import pytest

from cmt.errors import RoundError
from cmt.evaluation.gate.canary import Canary
from cmt.rounds._files import RoundFiles


def test_another_process_reads_what_a_step_wrote(tmp_path: Path) -> None:
    files, other = RoundFiles(tmp_path), RoundFiles(tmp_path)
    assert (other.seconds, other.set_aside) == ({}, [])
    files.note(compress=1.5)
    files.note(bank=0.5)
    files.set_aside = ["lie"]
    files.canaries = [Canary("q", "ferry", "What is the fare?", ("6 crowns",))]
    files.write_scores(2, {"cmt": {"f1": 50.0}})
    assert (other.seconds, other.set_aside) == ({"compress": 1.5, "bank": 0.5}, ["lie"])
    assert [canary.question_id for canary in other.canaries] == ["q"]
    assert other.scores == {"questions": 2, "scores": {"cmt": {"f1": 50.0}}}


def test_an_attempt_begins_without_the_files_of_the_one_before(tmp_path: Path) -> None:
    files = RoundFiles(tmp_path)
    files.note(compress=1.5)
    files.set_aside = ["lie"]
    files.canaries = []
    (tmp_path / "memories-a.parquet").touch()
    files.clear()
    assert [path.name for path in tmp_path.iterdir()] == ["memories-a.parquet"]
    files.remove_staged()
    assert list(tmp_path.iterdir()) == []


def test_canaries_that_were_lost_during_the_round_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(RoundError, match="canaries"):
        _ = RoundFiles(tmp_path).canaries
