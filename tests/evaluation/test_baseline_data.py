"""The data that the systems of a comparison share."""

from pathlib import Path

import pytest

import cmt
from cmt.errors import BankError, StreamError
from cmt.evaluation.baseline_data import ComparisonData


def test_without_a_bank_there_is_nothing_to_compare(tiny_workspace: Path) -> None:
    workspace = cmt.open(params=tiny_workspace / "params.yaml")
    with pytest.raises(BankError, match="cmt update"):
        ComparisonData.of(workspace.project, limit=50)
    assert not (tiny_workspace / "data").exists()


def test_without_questions_nothing_is_compared(
    half_adapted: cmt.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    none = half_adapted.project.store.all_questions().slice(0, 0)
    monkeypatch.setattr(type(half_adapted.project.store), "all_questions", lambda _: none)
    with pytest.raises(StreamError, match="no question about a banked document"):
        ComparisonData.of(half_adapted.project, limit=50)


def test_documents_are_those_of_the_bank_and_questions_are_about_them(
    half_adapted: cmt.Workspace, comparison_data: ComparisonData
) -> None:
    assert comparison_data.documents["doc_id"].to_pylist() == ["mayor-1", "ferry", "raft"]
    assert comparison_data.memories.num_rows >= 3
    assert set(comparison_data.asked["doc_id"].to_pylist()) == {"mayor-1", "ferry"}
    assert ComparisonData.of(half_adapted.project, limit=1).asked.num_rows == 1


def test_seconds_of_a_stage_are_unknown_if_no_round_recorded_them(
    comparison_data: ComparisonData,
) -> None:
    compress, bank = comparison_data.spent("compress"), comparison_data.spent("bank")
    assert compress is not None and bank is not None
    assert comparison_data.spent("compress", "bank") == compress + bank
    assert comparison_data.spent("bank", "unheard of") is None
