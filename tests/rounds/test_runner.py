"""A round runs once, completely or not at all: its steps, the gate, staged memories, forgotten
documents.
"""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cmt.answering.confidence import NO_CALIBRATION
from cmt.evaluation.calibration import calibrated_by
from cmt.evaluation.evaluate import Evaluation, evaluate
from cmt.evaluation.gate.canary import Canary
from cmt.evaluation.round_records import read_records
from cmt.lm.model import weights_digest
from cmt.rounds.budget import FEWEST_CANARIES
from cmt.rounds.runner import RoundRunner
from tests.helpers.projects import (
    FEBRUARY,
    JANUARY,
    STEPS,
    ingest_more,
    open_workspace,
    run_steps,
    save_other_compressor,
)

# One round after the other


def test_rounds_adapt_to_the_slices_in_time_order(adapted_project: Path) -> None:
    workspace = open_workspace(adapted_project)
    rounds = workspace.rounds()
    assert [
        (round_.round_id, round_.number, round_.state, round_.documents, round_.rows)
        for round_ in rounds
    ] == [
        (JANUARY, 1, "committed", 3, 3),
        (FEBRUARY, 2, "committed", 3, 6),
    ]
    assert {"compress", "canaries", "bank", "changes", "evaluate"} == rounds[0].seconds.keys()
    assert rounds[0].judgement == "not judged"  # there is no earlier question
    assert rounds[0].scores.keys() == {"cmt", "closed", "rag"}
    assert {"em", "f1", "f1_low", "recall"} <= rounds[0].memory_scores.keys()
    assert rounds[1].bank_digest == workspace.project.bank.digest()


def test_a_round_keeps_answers_of_the_round_before_and_calibrates_the_confidence_by_earlier_ones(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[int] = []

    def evaluated(*arguments: Any, earlier: pa.Table, **options: Any) -> Evaluation:
        given.append(earlier.num_rows)
        return evaluate(*arguments, earlier=earlier, **options)

    monkeypatch.setattr("cmt.rounds.runner.evaluate", evaluated)
    workspace = open_workspace(project, selection__abstain_below=0, evaluation__questions=2)
    january = workspace.update()
    serving = open_workspace(project)
    assert january.calibration == {}
    assert (
        workspace.project.answerer.calibration
        == serving.project.active.answerer().calibration
        == NO_CALIBRATION
    )
    records = read_records(workspace.project, january)
    assert records is not None
    calibration, answers = calibrated_by([records])
    assert answers == january.questions
    february = workspace.update()
    assert given == [0, january.questions]
    assert february.calibration == {
        "slope": calibration.slope,
        "shift": calibration.shift,
        "answers": answers,
    }
    # the round answers the questions of February with it, and so do this process and one that was
    # open before
    asked = read_records(workspace.project, february)
    assert asked is not None
    applied = [
        pytest.approx(calibration.apply(value)) for value in asked["uncalibrated"].to_pylist()
    ]
    assert asked["confidence"].to_pylist() == applied
    assert (
        workspace.project.answerer.calibration
        == serving.project.active.answerer().calibration
        == calibration
    )


def test_the_answers_of_a_round_are_not_those_of_another_compressor(
    adapted_workspace: Path,
) -> None:
    old = open_workspace(adapted_workspace)
    other = save_other_compressor(old, adapted_workspace / "new")
    new = open_workspace(adapted_workspace, compressor__path=str(other), evaluation__questions=2)
    round_ = new.update(slice_id=JANUARY)
    records = [read_records(workspace.project, workspace.rounds()[0]) for workspace in (old, new)]
    assert (records[0], records[1].num_rows) == (None, round_.questions)
    assert read_records(old.project, old.rounds()[1]).num_rows


def test_the_seconds_of_a_round_limit_its_canaries_and_its_sample(
    begun: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = {"evaluation__questions": 2, "evaluation__earlier_questions": 2, "gate__canaries": 20}
    workspace, limits = open_workspace(begun, **params), list[int]()

    def choose(*_: object, limit: int, **_options: object) -> list[Canary]:
        limits.append(limit)
        return []

    def asked(**options: Any) -> int:
        """Runs the round up to the evaluation; returns the number of questions that it asked."""
        runner = RoundRunner(workspace.project, FEBRUARY, **options)
        for step in STEPS[: STEPS.index("evaluate") + 1]:
            getattr(runner, step)()
        return int(runner.files.scores["questions"])

    monkeypatch.setattr("cmt.rounds.runner.choose", choose)
    every = asked()
    monkeypatch.setattr("cmt.rounds.runner.questions_within", lambda *_, **_options: (1, 1))
    assert 0 < asked(measure_seconds=1.0) < every
    assert limits == [20, FEWEST_CANARIES]


def test_a_committed_round_is_not_repeated(begun: Path) -> None:
    workspace = open_workspace(begun)
    [first] = workspace.rounds()
    again = open_workspace(begun).update(slice_id=JANUARY)
    assert (again.already, again) == (True, replace(first, already=True))
    assert (workspace.project.bank.version, workspace.project.bank.digest()) == (
        first.version_after,
        first.bank_digest,
    )
    assert not workspace.rounds()[0].already


def test_a_round_records_the_dtype_of_the_lm_and_does_not_change_it(project: Path) -> None:
    workspace = open_workspace(project, lm__dtype="bfloat16")
    before = weights_digest(workspace.project.lm.model)
    assert workspace.update().dtype == "bfloat16"
    assert weights_digest(workspace.project.lm.model) == before


def test_a_slice_without_questions_is_committed_without_scores(project: Path) -> None:
    workspace = open_workspace(project, gate__min_f1=100, evaluation__questions=2)
    ingest_more(project, month=3, doc_ids=["quiet"])
    round_ = workspace.update(slice_id="2031-03/0001")
    assert (round_.state, round_.judgement, round_.rows, round_.scores) == (
        "committed",
        "not judged",
        1,
        {},
    )


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
    workspace.update(slice_id=JANUARY)
    for as_of, corrected in ((None, True), (datetime(2031, 2, 28, tzinfo=UTC), False)):
        rows = workspace.project.bank.full_text(text="ferry", k=5, as_of=as_of)
        assert [(row["doc_id"], "five crowns" in row["text"]) for row in rows.to_pylist()] == [
            ("ferry", corrected)
        ]
    assert workspace.project.bank.audit().problems == []


# The gate


def test_a_refused_round_restores_the_bank_and_stays_pending(begun: Path) -> None:
    [before] = open_workspace(begun).rounds()
    strict = open_workspace(begun, gate__min_f1=100, evaluation__questions=2)
    refused = strict.update()
    reason = f"F1 {refused.memory_scores['f1']:.1f} is below gate.min_f1 100"
    assert (refused.state, refused.reason) == ("refused", reason)
    assert (refused.bank_digest, refused.rows) == (before.bank_digest, before.rows)
    assert strict.project.bank.digest() == before.bank_digest
    assert strict.pending() == [FEBRUARY]


def test_a_refused_slice_waits_behind_the_others(begun: Path) -> None:
    open_workspace(begun, gate__min_f1=100, evaluation__questions=2).update()
    ingest_more(begun, month=3, doc_ids=["pier"])
    workspace = open_workspace(begun)
    assert workspace.pending() == ["2031-03/0001", FEBRUARY]
    assert [workspace.update().slice_id for _ in range(2)] == ["2031-03/0001", FEBRUARY]


# Staged memories


def test_an_interrupted_round_uses_its_staged_memories_and_the_next_round_deletes_them(
    project: Path,
) -> None:
    run_steps(open_workspace(project), JANUARY, last="compress")
    [staged] = (project / "data/state/rounds").rglob("memories-*")
    modified, content = staged.stat().st_mtime_ns, staged.read_bytes()
    runner = RoundRunner(open_workspace(project).project, JANUARY)
    runner.begin()
    assert (runner.compress(), staged.stat().st_mtime_ns) == (staged, modified)
    for step in STEPS[2:]:
        getattr(runner, step)()
    assert not staged.exists()
    staged.write_bytes(content)  # as a kill leaves them
    open_workspace(project).update()
    assert not list((project / "data/state/rounds").rglob("memories-*"))


# Forgotten documents


def test_a_slice_whose_documents_are_all_forgotten_makes_an_empty_round(begun: Path) -> None:
    workspace = open_workspace(begun)
    workspace.forget_all(["mayor-1", "ferry", "raft"])
    workspace.rollback(JANUARY)
    round_ = workspace.update()
    assert (round_.slice_id, round_.state, round_.rows) == (JANUARY, "committed", 0)
