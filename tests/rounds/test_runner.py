"""A round is run once, completely or not at all: its steps, the gate, staged memories, compressors, MLflow."""

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

import cmt
from cmt.answering.confidence import NO_CALIBRATION
from cmt.evaluation.calibration import calibrated_by
from cmt.evaluation.round_records import read_records
from cmt.rounds.runner import RoundRunner
from tests.helpers.projects import (
    FEBRUARY,
    JANUARY,
    STEPS,
    ingest_more,
    open_workspace,
    run_steps,
    save_other_compressor,
    states,
)

# One round after the other


def test_rounds_adapt_to_the_slices_in_time_order(project: Path) -> None:
    workspace = open_workspace(project)
    rounds = [workspace.update(), workspace.update()]
    assert [(round_.round_id, round_.number, round_.state, round_.documents, round_.rows) for round_ in rounds] == [
        (JANUARY, 1, "committed", 3, 3),
        (FEBRUARY, 2, "committed", 3, 6),
    ]
    assert workspace.rounds() == rounds
    assert {"compress", "canaries", "bank", "evaluate"} == rounds[0].seconds.keys()
    assert rounds[0].judgement == "not judged"  # there is no earlier question
    assert rounds[0].scores.keys() == {"cmt", "closed", "rag"}
    assert {"em", "f1", "f1_low", "recall"} <= rounds[0].memory_scores.keys()
    assert rounds[1].bank_digest == workspace.bank.digest()
    with pytest.raises(cmt.RoundError, match="no slice is pending"):
        workspace.update()


def test_a_round_calibrates_the_confidence_by_the_answers_of_earlier_rounds(project: Path) -> None:
    workspace = open_workspace(project, selection__abstain_below=0)
    january = workspace.update()
    assert (january.calibration, workspace.answerer.calibration) == ({}, NO_CALIBRATION)
    records = read_records(workspace, january)
    assert records is not None
    calibration, answers = calibrated_by([records])
    assert answers == january.questions
    february = workspace.update()
    assert february.calibration == {"slope": calibration.slope, "shift": calibration.shift, "answers": answers}
    # the questions of February were answered with it, and so is what is asked then, in this process and in another
    asked = read_records(workspace, february)
    assert asked is not None
    applied = [pytest.approx(calibration.apply(value)) for value in asked["uncalibrated"].to_pylist()]
    assert asked["confidence"].to_pylist() == applied
    assert workspace.answerer.calibration == open_workspace(project).answerer.calibration == calibration


def test_another_process_follows_the_calibration_of_a_new_round(project: Path) -> None:
    adapting = open_workspace(project, selection__abstain_below=0)
    adapting.update()
    serving = open_workspace(project)
    assert serving.current_answerer().calibration == NO_CALIBRATION
    adapting.update()
    assert serving.current_answerer().calibration == adapting.answerer.calibration != NO_CALIBRATION


def test_a_committed_round_is_not_repeated(project: Path) -> None:
    workspace = open_workspace(project)
    first = workspace.update()
    again = open_workspace(project).update(slice_id=JANUARY)
    assert (again.already, again) == (True, replace(first, already=True))
    assert (workspace.bank.version, workspace.bank.digest()) == (first.version_after, first.bank_digest)
    assert not workspace.rounds()[0].already


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_round_records_the_dtype_of_the_lm(project: Path, dtype: str) -> None:
    assert open_workspace(project, lm__dtype=dtype).update().dtype == dtype


def test_a_round_does_not_change_the_lm(project: Path) -> None:
    workspace = open_workspace(project)
    before = workspace.lm.weights_digest()
    workspace.update()
    assert workspace.lm.weights_digest() == before


def test_a_slice_without_questions_is_committed_without_scores(project: Path) -> None:
    workspace = open_workspace(project, gate__min_f1=100, evaluation__earlier_questions=0)
    ingest_more(project, month=3, doc_ids=["quiet"])
    round_ = workspace.update(slice_id="2031-03/0001")
    assert (round_.state, round_.judgement, round_.rows, round_.scores) == ("committed", "not judged", 1, {})


def test_an_unknown_slice_is_refused_with_the_known_ones(project: Path) -> None:
    with pytest.raises(cmt.StreamError, match=f"2031-09.*{JANUARY}, {FEBRUARY}"):
        open_workspace(project).update(slice_id="2031-09/0001")


def test_slices_in_any_order_leave_every_version_of_a_document_for_its_time(project: Path) -> None:
    later = {
        "doc_id": "ferry",
        "published_at": "2031-03-01T07:00:00Z",
        "text": "The ferry to Saltby costs five crowns.",
    }
    (project / "later.jsonl").write_text(json.dumps(later) + "\n")
    workspace = open_workspace(project, stream__authority={"file:later.jsonl": ["file:news"]})
    workspace.ingest(source=project / "later.jsonl")
    workspace.update(slice_id="2031-03/0001")
    workspace.update(), workspace.update()
    for as_of, corrected in ((None, True), (datetime(2031, 2, 28, tzinfo=UTC), False)):
        rows = workspace.bank.full_text(text="ferry", k=5, as_of=as_of)
        assert [(row["doc_id"], "five crowns" in row["text"]) for row in rows.to_pylist()] == [("ferry", corrected)]
    assert workspace.bank.audit().problems == []


# The gate


def test_a_refused_round_restores_the_bank_and_stays_pending(project: Path) -> None:
    before = open_workspace(project).update()
    strict = open_workspace(project, gate__min_f1=100)
    refused = strict.update()
    assert (refused.state, refused.reason) == (
        "refused",
        f"F1 {refused.memory_scores['f1']:.1f} is below gate.min_f1 100",
    )
    assert (refused.bank_digest, refused.rows) == (before.bank_digest, before.rows)
    assert strict.bank.digest() == before.bank_digest
    assert strict.pending() == [FEBRUARY]


# Staged memories


def test_staged_memories_of_an_interrupted_round_are_used_again(project: Path) -> None:
    run_steps(open_workspace(project), JANUARY, last="compress")
    [staged] = (project / "data/state/rounds").rglob("memories-*")
    modified = staged.stat().st_mtime_ns
    runner = RoundRunner(open_workspace(project), JANUARY)
    runner.begin()
    assert (runner.compress(), staged.stat().st_mtime_ns) == (staged, modified)
    for step in STEPS[2:]:
        getattr(runner, step)()
    assert not staged.exists()


def test_staged_memories_of_other_rounds_are_deleted(project: Path) -> None:
    runner = RoundRunner(open_workspace(project), JANUARY)
    runner.begin()
    staged = runner.compress()
    content = staged.read_bytes()
    for step in STEPS[2:]:
        getattr(runner, step)()
    staged.write_bytes(content)
    open_workspace(project).update()
    assert not list((project / "data/state/rounds").rglob("memories-*"))


def test_a_document_forgotten_during_a_round_is_not_banked(project: Path) -> None:
    workspace = open_workspace(project)
    workspace.update()
    run_steps(workspace, FEBRUARY, last="upsert_memories")
    for doc_id in ("hitch", "mayor-1"):
        workspace.forget(doc_id)
    assert open_workspace(project).update().rows == 4
    assert not any(workspace.bank.present({doc_id}) for doc_id in ("hitch", "mayor-1"))


def test_a_slice_whose_documents_are_all_forgotten_makes_an_empty_round(project: Path) -> None:
    workspace = open_workspace(project)
    workspace.update()
    for doc_id in ("mayor-1", "ferry", "raft"):
        workspace.forget(doc_id)
    workspace.rollback(JANUARY)
    assert (workspace.update().rows, workspace.update().rows) == (0, 3)


# Compressors


def test_a_new_compressor_takes_over_when_it_has_adapted_to_the_whole_stream(project: Path) -> None:
    old = open_workspace(project)
    old.update(), old.update()
    new = open_workspace(project, compressor__path=str(save_other_compressor(old, project / "new")))
    assert new.pending() == [JANUARY, FEBRUARY]
    new.update()
    assert open_workspace(project).open_bank().name == old.bank.name
    new.update()
    assert open_workspace(project).open_bank().name == new.bank.name != old.bank.name
    assert states(old) == states(new) == {JANUARY: "committed", FEBRUARY: "committed"}
    assert (old.bank.count_rows(), new.bank.count_rows()) == (6, 6)


# MLflow


def test_a_round_that_mlflow_missed_is_recorded_with_the_next_one(
    project: Path, mlflow_database: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(mlflow_database, project / "mlflow.db")
    missed = open_workspace(project, tracking__enabled=True, tracking__uri="http://127.0.0.1:9").update()
    assert (missed.state, missed.mlflow_run) == ("committed", "")
    assert any(f"round {JANUARY} is not in MLflow yet" in message for message in caplog.messages)
    workspace = open_workspace(project, tracking__enabled=True)
    workspace.update()
    runs = {round_.round_id: round_.mlflow_run for round_ in workspace.rounds()}
    assert all(runs.values())
    assert len(set(runs.values())) == 2
