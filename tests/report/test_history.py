"""The rounds of the report."""

from dataclasses import replace

import pytest

import cmt
from cmt.evaluation.round_records import read_records
from cmt.report._history import compare, entries, systems_in
from tests.helpers.reports import record, record_table


def test_scores_on_new_and_on_earlier_questions_are_told_apart(adapted: cmt.Workspace) -> None:
    (first, second), left_out = entries(adapted.project)
    assert left_out == 0
    assert (first.questions, second.questions, first.superseding, second.superseding) == (
        2,
        3,
        0,
        1,
    )
    assert (first.asked, second.asked) == (2, 5)
    assert first.earlier == {}
    assert second.own.keys() == second.earlier.keys() == {"cmt", "closed", "rag"}
    assert second.gain == second.own["cmt"] - second.own["closed"]


def test_a_round_whose_slice_is_gone_has_no_counts(adapted: cmt.Workspace) -> None:
    last = adapted.project.ledger.rounds()[-1]
    adapted.project.ledger.write(
        replace(last, round_id="2030-01/0001", slice_id="2030-01/0001", number=0)
    )
    gone = entries(adapted.project)[0][0]
    assert (gone.round.round_id, gone.questions, gone.superseding, gone.asked) == (
        "2030-01/0001",
        None,
        None,
        0,
    )
    assert (gone.gain, gone.anchor) == (None, "round-2030-01-0001")


def test_records_that_are_missing_or_damaged_are_none(
    adapted: cmt.Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    round_ = adapted.project.ledger.rounds()[-1]
    stored = read_records(adapted.project, round_)
    assert stored is not None and systems_in(stored) == ["cmt", "closed", "rag"]
    assert read_records(adapted.project, replace(round_, state="started")) is None
    path = adapted.project.state / "rounds/2031-02-0001/answers.parquet"
    path.write_bytes(b"PAR1 rubbish")
    assert read_records(adapted.project, round_) is None
    assert "cannot be read" in caplog.text
    path.unlink()
    assert read_records(adapted.project, round_) is None


def test_systems_are_compared_question_by_question() -> None:
    rows = [record(f"q{i}", cmt_f1=float(i < 6), rag="red", rag_f1=0.0) for i in range(8)]
    assert systems_in(record_table(*rows)) == ["cmt", "rag"]  # nobody answered closed-book
    scores = {"cmt": {"f1": 75.0}, "rag": {"f1": 0.0}}
    memory, rag = compare(record_table(*rows), scores=scores, seed=0)
    assert (memory.name, memory.scores, memory.behind) == ("cmt", {"f1": 75.0}, None)
    assert (rag.name, rag.scores) == ("rag", {"f1": 0.0})
    assert rag.behind is not None
    assert rag.behind[0] == 75.0
    assert 30 < rag.behind[1] < 75 < rag.behind[2] <= 100
    equal = [row | {"rag_f1": row["cmt_f1"]} for row in rows]
    assert compare(record_table(*equal), scores=scores, seed=0)[1].behind == (0.0, 0.0, 0.0)
