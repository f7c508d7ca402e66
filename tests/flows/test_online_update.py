"""The flow against a Prefect server: rounds as flow runs, their artifacts, and what happens when
something fails.
"""

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.artifacts import Artifact
from prefect.client.orchestration import get_client
from prefect.exceptions import ParameterTypeError, TerminationSignal
from prefect.states import Failed

from cmt.bank.ledger import Ledger
from cmt.errors import BankError, RoundError, ServiceError, StreamError
from cmt.rounds._attempts import MAX_ATTEMPTS
from cmt.rounds.runner import RoundRunner
from cmt.workspace import Workspace
from flows import tasks
from flows.online_update import LoggedProgress, begin, one_round, online_update
from tests.helpers.projects import FEBRUARY, JANUARY, change_params, lacking_memory
from tests.helpers.rows import write_lines


def artifact(key: str) -> str:
    found = Artifact.get(key)
    assert found is not None
    return str(found.data)


def test_a_flow_run_is_a_committed_round_with_artifacts(
    project: Path, workspace: Workspace, tmp_path: Path
) -> None:
    # 1. a slice
    change_params(project.parent, evaluation={"round_baselines": True, "questions": 2})
    assert online_update(slice=JANUARY, params=str(project)) == ["committed"]
    (round_,) = workspace.rounds()
    assert (round_.slice_id, round_.state, round_.rows) == (JANUARY, "committed", 3)
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(UUID(round_.prefect_run))
    assert (run.name, run.parameters["slice"]) == (f"update-{JANUARY}", JANUARY)
    report = artifact("round-2031-01-0001")
    assert f"## Round 1 · {JANUARY} · committed" in report
    assert "| bank rows | 3 |" in report
    assert "| closed-book |" in report
    assert "| gate | not judged |" in report
    assert f"| {JANUARY} | not judged | 3 | 3 |" in artifact("rounds")
    # 2. every pending one, and each once
    assert online_update(params=str(project)) == ["committed"]
    assert [r.slice_id for r in workspace.rounds()] == [JANUARY, FEBRUARY]
    assert online_update(params=str(project)) == []
    assert online_update(slice=FEBRUARY, params=str(project)) == ["already"]
    assert (
        online_update(slice="", source="", params=str(project)) == []
    )  # as an emptied form sends them
    with pytest.raises(ParameterTypeError, match="measure_seconds"):
        online_update(measure_seconds=float("nan"), params=str(project))
    # 3. a source is ingested first
    late = {
        "doc_id": "late",
        "published_at": "2031-02-09T07:00:00Z",
        "title": "Late",
        "text": "A late tram.",
    }
    source = write_lines(tmp_path / "late.jsonl", [late])
    assert online_update(source=str(source), params=str(project)) == ["committed"]
    assert workspace.rounds()[-1].slice_id == "2031-02/0002"


def test_a_round_logs_how_many_questions_it_has_asked(caplog: pytest.LogCaptureFixture) -> None:
    progress = LoggedProgress(JANUARY)
    with caplog.at_level("INFO", "cmt.flows"):
        progress.stage("compress", 3)
        progress.advance(3)
        progress.stage("evaluate", 60)
        for count in (0, 32, 28):
            progress.advance(count)
    assert [record.message for record in caplog.records] == [
        f"{JANUARY}: evaluate, 32 of 60 questions",
        f"{JANUARY}: evaluate, 60 of 60 questions",
    ]


def test_refused_rows_are_an_artifact_and_too_many_fail_the_run(
    project: Path, workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    good = {"doc_id": "late", "published_at": "2031-02-09T07:00:00Z", "text": "A late tram."}
    rows = [
        good,
        good | {"text": ""},
        good | {"published_at": "soon"},
        good | {"published_at": "later"},
    ]
    write_lines(project.parent / "late.jsonl", rows)
    with pytest.raises(
        StreamError,
        match=r"late.jsonl: 75% of its rows are rejected, more than stream.max_rejected",
    ):
        online_update(source="late.jsonl", params=str(project))  # relative to the project
    assert workspace.pending()[-1] == "2031-02/0002"  # the good row is there
    report = artifact("rejected-late-jsonl")
    assert "| published_at: … " in report and "| 2 | late.jsonl:3 |" in report
    assert "soon" not in report
    assert any(
        "3 rows rejected" in record.message
        for record in caplog.records
        if record.levelname == "WARNING"
    )


def test_a_refused_and_a_failed_round_fail_the_run_and_leave_the_bank(
    project: Path, workspace: Workspace
) -> None:
    change_params(project.parent, evaluation={"earlier_questions": 2})
    online_update(slice=JANUARY, params=str(project))
    before = workspace.project.active.stored().digest()
    # 1. refused
    change_params(project.parent, gate={"min_f1": 100.0}, evaluation={"questions": 2})
    tasks.workspace.cache_clear()  # a flow run is a process of its own
    with pytest.raises(RoundError, match=r"2031-02/0001 was refused .* below gate\.min_f1"):
        online_update(slice=FEBRUARY, params=str(project))
    assert workspace.project.active.stored().digest() == before
    assert "refused" in artifact("round-2031-02-0001")
    # 2. failed after the bank was written: the questions of an earlier slice are not read before
    #    the evaluation
    questions = workspace.project.store.slice(JANUARY).path.with_name("0001.questions.parquet")
    questions.write_bytes(questions.read_bytes()[:100])
    with pytest.raises(StreamError, match="damaged"):
        online_update(slice=FEBRUARY, params=str(project))
    assert workspace.project.active.stored().digest() == before
    assert {r.slice_id: r.state for r in workspace.rounds()} == {
        JANUARY: "committed",
        FEBRUARY: "interrupted",
    }


def test_a_slice_that_cannot_be_adapted_fails_the_run_after_the_others(
    project: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RoundRunner, "compress", lacking_memory(JANUARY))
    with pytest.raises(
        RoundError, match=r"^round 2031-01/0001 failed and the bank was restored: 3 tries [^;]*$"
    ):
        online_update(params=str(project))
    assert {r.slice_id: r.state for r in workspace.rounds()} == {
        JANUARY: "failed",
        FEBRUARY: "committed",
    }
    assert "MemoryError" in artifact("round-2031-01-0001")


def test_a_refused_round_fails_the_run_after_the_others_and_the_decision(
    project: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def judged(*_: Any, **__: Any) -> tuple[str, str]:
        reason = reasons.pop(0)
        return ("refused" if reason else "not judged"), reason

    reasons, decided = ["too low", "lower", "too low", ""], list[str]()
    monkeypatch.setattr("cmt.rounds.runner.judge", judged)
    monkeypatch.setattr("flows.online_update.decide_on_challenger", decided.append)
    with pytest.raises(
        RoundError,
        match=r"^round 2031-01/0001 was refused .*: too low; round 2031-02/0001 .*: lower$",
    ):
        online_update(params=str(project))
    with pytest.raises(
        RoundError, match=r"^round 2031-01/0001 was refused and the bank restored: too low$"
    ):
        online_update(params=str(project))
    assert {r.slice_id: r.state for r in workspace.rounds()} == {
        JANUARY: "refused",
        FEBRUARY: "committed",
    }
    assert decided == [str(project)] * 2


def test_a_cancelled_run_is_no_try(
    project: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cancelled(_: RoundRunner) -> Path:
        raise TerminationSignal(signal=15)

    with monkeypatch.context() as patch:
        patch.setattr(RoundRunner, "compress", cancelled)
        for _ in range(MAX_ATTEMPTS):
            with pytest.raises(TerminationSignal):
                one_round(str(project), JANUARY)
    assert workspace.rounds()[0].state == "interrupted"
    assert one_round(str(project), JANUARY) == "committed"


@pytest.mark.parametrize(
    ("error", "retried"),
    [
        (OSError("disk"), True),
        (BankError("commit conflict"), True),
        (ServiceError("no MLflow"), True),
        (StreamError("damaged"), False),
        (RoundError("refused"), False),
        (ValueError("a bug"), False),
    ],
)
def test_only_transient_errors_are_retried(error: Exception, retried: bool) -> None:
    state: Any = Failed(data=error)
    assert tasks.is_transient(None, None, state) is retried


def test_the_retries_of_a_task_are_one_try(
    project: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    task: Any = begin

    def full(*_: Any) -> None:
        raise BankError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "write", full)
        for _ in range(MAX_ATTEMPTS + 1):
            with pytest.raises(BankError, match="no space"):
                task.fn(str(project), JANUARY)
    assert task.fn(str(project), JANUARY).state == "started"
    assert workspace.pending() == [JANUARY, FEBRUARY]
