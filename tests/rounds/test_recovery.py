"""Recovery after an interruption, rollback, forgetting, and the lock and lease that every change of
a bank holds.
"""

import logging
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient

import cmt
from cmt.bank._lease import Lease
from cmt.bank.bank import open_banks
from cmt.rounds import recovery
from cmt.rounds.runner import RoundRunner
from cmt.workspace import Workspace
from tests.helpers.cli import run
from tests.helpers.permissions import as_nobody, make_read_only, readable_folder
from tests.helpers.projects import (
    FEBRUARY,
    JANUARY,
    STEPS,
    ingest_more,
    open_workspace,
    run_steps,
    states,
)

# Interruptions


def test_an_interrupted_round_is_undone_and_repeated_also_for_a_reader(
    begun: Path, undisturbed: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    run_steps(open_workspace(begun), FEBRUARY, last="upsert_memories")
    workspace = open_workspace(begun)
    assert states(workspace)[FEBRUARY] == "started"
    assert workspace.project.active.bank().version < workspace.project.bank.version
    with caplog.at_level(logging.WARNING):
        round_ = workspace.update()
    assert workspace.project.active.bank().version == workspace.project.bank.version
    assert (round_.round_id, round_.state, round_.bank_digest) == (
        FEBRUARY,
        "committed",
        undisturbed[1],
    )
    version = workspace.rounds()[0].version_after
    assert caplog.messages == [
        f"round {FEBRUARY} was interrupted: bank restored to version {version}"
    ]
    assert not list(
        (begun / "data/state/rounds").rglob("try-*")
    )  # a committed round forgets its tries


def test_answers_leave_a_round_out_until_it_is_decided(begun: Path) -> None:
    reader, writer = open_workspace(begun), open_workspace(begun)
    january = set(reader.project.active.bank().rows(["memory_id", "doc_id"])["doc_id"].to_pylist())
    [first] = reader.rounds()
    runner = RoundRunner(writer.project, FEBRUARY)
    with recovery.updating(writer.project):
        for step in STEPS[:-1]:
            getattr(runner, step)()
            for workspace in (reader, open_workspace(begun)):
                bank = workspace.project.active.bank()
                assert (
                    set(bank.rows(["memory_id", "doc_id"])["doc_id"].to_pylist()),
                    bank.version,
                ) == (
                    january,
                    first.version_after,
                )
                assert workspace.project.answerer.bank is bank
        assert writer.project.active.bank().count_rows() > len(january)
        round_ = runner.decide()
    for workspace in (reader, writer, open_workspace(begun)):
        assert workspace.project.active.bank().version == round_.version_after
        assert workspace.project.active.bank().count_rows() == round_.rows


def test_a_rollback_after_an_interrupted_round_is_final(
    begun: Path, undisturbed: list[str]
) -> None:
    run_steps(open_workspace(begun), FEBRUARY, last="upsert_memories")
    workspace = open_workspace(begun)
    workspace.rollback(JANUARY)
    assert (workspace.project.bank.count_rows(), workspace.pending()) == (0, [JANUARY, FEBRUARY])
    assert workspace.update().bank_digest == undisturbed[0]


def test_an_interrupted_rollback_is_completed(
    adapted_workspace: Path, undisturbed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = open_workspace(adapted_workspace)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("cmt.rounds.recovery.restore", interrupted)
        workspace.rollback(JANUARY)
    assert states(workspace) == {JANUARY: "rolling_back", FEBRUARY: "rolled_back"}
    workspace.update()
    assert (states(workspace)[JANUARY], workspace.pending()) == ("committed", [FEBRUARY])
    assert workspace.project.bank.digest() == undisturbed[0]


def test_optimize_restores_what_an_interrupted_round_or_rollback_needs_before_it_drops_versions(
    begun: Path, undisturbed: list[str]
) -> None:
    run_steps(open_workspace(begun), FEBRUARY, last="upsert_memories")
    run(begun, "bank", "optimize", "--keep-days", "0")
    workspace = open_workspace(begun)
    assert (states(workspace)[FEBRUARY], workspace.project.bank.digest()) == (
        "interrupted",
        undisturbed[0],
    )
    workspace.project.ledger.write(
        replace(
            workspace.rounds()[0],
            state="rolling_back",
            version_before=workspace.project.bank.version,
        )
    )
    run(begun, "bank", "optimize", "--keep-days", "0")
    assert states(open_workspace(begun))[JANUARY] == "rolled_back"


# Rollback


def test_a_rollback_includes_all_later_rounds_and_an_update_restores_the_digests(
    adapted_workspace: Path, undisturbed: list[str]
) -> None:
    workspace = open_workspace(adapted_workspace)
    rolled_back = workspace.rollback(FEBRUARY)
    assert (rolled_back.state, workspace.project.bank.digest()) == ("rolled_back", undisturbed[0])
    assert workspace.pending() == [FEBRUARY]
    assert workspace.update().bank_digest == undisturbed[1]
    workspace.rollback(JANUARY)
    assert states(workspace) == {JANUARY: "rolled_back", FEBRUARY: "rolled_back"}
    assert workspace.project.bank.count_rows() == 0
    assert workspace.update().bank_digest == undisturbed[0]


def test_later_rounds_are_those_that_were_committed_later(adapted_workspace: Path) -> None:
    workspace = open_workspace(adapted_workspace)
    workspace.rollback(FEBRUARY)
    ingest_more(adapted_workspace, month=1, doc_ids=["late"])
    late, february = workspace.update(), workspace.update()
    assert [(round_.round_id, round_.number) for round_ in (late, february)] == [
        ("2031-01/0002", 2),
        (FEBRUARY, 3),
    ]
    workspace.rollback("2031-01/0002")
    assert states(workspace) == {
        JANUARY: "committed",
        "2031-01/0002": "rolled_back",
        FEBRUARY: "rolled_back",
    }
    assert workspace.project.bank.count_rows() == 3


def test_a_slice_that_was_ingested_again_is_adapted_after_the_later_ones(
    adapted_workspace: Path,
) -> None:
    for file in (adapted_workspace / "data/stream/2031-01").glob("0001.*"):
        file.unlink()
    news = adapted_workspace / "news/documents.jsonl"
    news.write_text(news.read_text().replace("six crowns", "nine crowns"))
    open_workspace(adapted_workspace).ingest()
    assert open_workspace(adapted_workspace).update().round_id == JANUARY
    workspace = open_workspace(adapted_workspace)
    assert [(round_.round_id, round_.number) for round_ in workspace.rounds()] == [
        (FEBRUARY, 2),
        (JANUARY, 3),
    ]
    assert not any(part.problems for part in workspace.verify())
    workspace.rollback(FEBRUARY)
    assert states(workspace) == {JANUARY: "rolled_back", FEBRUARY: "rolled_back"}
    assert [workspace.update().state for _ in workspace.pending()] == ["committed", "committed"]
    [ferry] = workspace.project.bank.documents({"ferry"})["text"].to_pylist()
    assert "nine crowns" in ferry


@pytest.mark.parametrize("lost", ["table", "version"])
def test_a_bank_that_is_not_in_use_does_not_hinder_a_rollback(
    changed: Path, lost: str, caplog: pytest.LogCaptureFixture
) -> None:
    other = open_workspace(changed, compressor__path=str(changed / "new"))
    [round_] = other.rounds()
    if lost == "table":
        shutil.rmtree(changed / f"data/bank/memories_{other.project.compressor_digest[:12]}.lance")
    else:
        other.project.ledger.write(replace(round_, version_before=99))
    assert open_workspace(changed).rollback(JANUARY).state == "rolled_back"
    assert states(other) == {JANUARY: "rolled_back" if lost == "table" else "committed"}
    assert ("keeps round 2031-01/0001 (" in caplog.text) is (lost == "version")


def test_mlflow_learns_of_rounds_and_rollbacks_and_both_succeed_without_it(
    project: Path,
    mlflow_database: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(mlflow_database, project / "mlflow.db")
    unreachable = open_workspace(
        project, tracking__enabled=True, tracking__uri="http://127.0.0.1:9"
    )
    # 1. A round that MLflow missed is recorded with the next one.
    missed = unreachable.update()
    assert (missed.state, missed.mlflow_run) == ("committed", "")
    assert any(f"round {JANUARY} is not in MLflow yet" in message for message in caplog.messages)
    workspace = open_workspace(project, tracking__enabled=True)
    workspace.update()
    runs = [round_.mlflow_run for round_ in workspace.rounds()]
    assert all(runs) and len(set(runs)) == 2
    # 2. A rollback marks the runs.
    workspace.rollback(JANUARY)
    client = MlflowClient(tracking_uri=workspace.project.tracker.session.uri)
    assert {client.get_run(run).data.tags["cmt.state"] for run in runs} == {"rolled_back"}
    assert {client.get_run(run).info.status for run in runs} == {"KILLED"}
    # 3. Without MLflow a rollback succeeds with a warning.
    workspace.update()
    assert unreachable.rollback(JANUARY).state == "rolled_back"
    assert any("MLflow still has the rounds as committed" in message for message in caplog.messages)


# Forgetting


def test_no_rollback_update_or_new_bank_brings_a_forgotten_document_back(
    adapted_workspace: Path,
) -> None:
    workspace = open_workspace(adapted_workspace)
    assert workspace.forget("ferry") == 1
    without = workspace.project.bank.digest()
    workspace.rollback(FEBRUARY)
    assert not workspace.project.bank.present({"ferry"})
    assert workspace.update().bank_digest == without
    workspace.rollback(JANUARY)
    assert workspace.update().rows == 2
    assert workspace.project.bank.audit().problems == []
    other = open_workspace(
        adapted_workspace, bank__uri=str(adapted_workspace / "other"), bank__codes="int4"
    )
    assert (other.update().rows, other.project.bank.present({"ferry", "raft"})) == (2, {"raft"})


def test_a_forgotten_document_is_in_no_bank_and_after_optimize_in_no_file(changed: Path) -> None:
    old = open_workspace(changed)
    new = open_workspace(changed, compressor__path=str(changed / "new"))
    assert open_workspace(changed).forget("ferry") == 2
    assert not (old.project.bank.present({"ferry"}) or new.project.bank.present({"ferry"}))
    run(changed, "bank", "optimize", "--keep-days", "0")
    for data in (changed / "data/bank").rglob("*.lance"):
        assert data.is_dir() or b"costs six crowns" not in data.read_bytes(), data


# The lock


def test_two_updates_at_once_run_one_after_the_other(
    project: Path, undisturbed: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    workspace = open_workspace(project)
    with ThreadPoolExecutor(2) as threads:
        with recovery.updating(workspace.project):
            updates = [
                threads.submit(open_workspace(project).update, slice_id=JANUARY) for _ in range(2)
            ]
            while caplog.text.count("waiting for it") < 2:
                assert not any(update.done() for update in updates)
                time.sleep(0.01)
        rounds = [update.result() for update in updates]
    assert sorted(round_.already for round_ in rounds) == [False, True]
    assert (
        {round_.bank_digest for round_ in rounds}
        == {workspace.project.bank.digest()}
        == {undisturbed[0]}
    )


def test_waiting_for_the_lock_ends_with_its_path(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cmt.rounds.recovery.LOCK_SECONDS", 0.2)
    with (
        recovery.updating(open_workspace(project).project),
        pytest.raises(cmt.RoundError, match=r"still holds .*update\.lock"),
    ):
        open_workspace(project).update()


# Read-only folders


@pytest.fixture
def readable_project(begun_project: Path) -> Iterator[Path]:
    """A project with one round in a folder that other users may read."""
    with readable_folder() as folder:
        yield Path(shutil.copytree(begun_project, folder, dirs_exist_ok=True))


@pytest.mark.parametrize("folders", [["bank"], ["bank", "state"]])
def test_a_read_only_bank_answers_and_refuses_changes(
    readable_project: Path, folders: list[str]
) -> None:
    for path in [readable_project, *readable_project.rglob("*")]:
        path.chmod(0o777 if path.is_dir() else 0o666)
    for name in folders:
        make_read_only(readable_project / "data" / name)
    workspace = open_workspace(readable_project)
    _ = (
        workspace.project.model,
        workspace.project.compressor_digest,
    )  # read now, because only their owner may read the files
    with as_nobody():
        assert [round_.state for round_ in workspace.rounds()] == ["committed"]
        assert workspace.ask("Who is the mayor of Port Ellery?").sources
        for write in (
            workspace.update,
            lambda: workspace.rollback(JANUARY),
            lambda: workspace.forget("ferry"),
        ):
            with pytest.raises(
                cmt.CmtError,
                match=r"/(bank|state)\b.*cannot be written: .*check .*space and rights",
            ):
                write()
    assert states(open_workspace(readable_project)) == {JANUARY: "committed"}
    assert open_workspace(readable_project).project.bank.present({"ferry"})


# The lease


def take_over(workspace: Workspace) -> Lease:
    """Take the bank's lease over, as another machine does after waiting long enough."""
    lease = Lease(workspace.params.bank.uri)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cmt.bank._lease.SECONDS", 0.0)
        lease.acquire(timeout=0)
    return lease


@pytest.mark.parametrize("last", ["compress", "evaluate"])
def test_a_round_whose_lease_was_lost_writes_nothing_more(
    project: Path, undisturbed: list[str], last: str
) -> None:
    # 1. A round loses its lease after the step `last`; its next step would write.
    suspended = open_workspace(project)
    with (
        pytest.raises(cmt.RoundError, match=r"took over bank .*: it stops writing"),
        recovery.updating(suspended.project),
    ):
        run_steps(suspended, JANUARY, last=last)
        lease = take_over(suspended)
        version = suspended.project.bank.version
        runner = RoundRunner(suspended.project, JANUARY)
        runner.upsert_memories() if STEPS.index(last) < STEPS.index(
            "upsert_memories"
        ) else runner.decide()
    assert (states(open_workspace(project)), suspended.project.bank.version) == (
        {JANUARY: "started"},
        version,
    )
    # 2. The new holder repairs the bank and runs the round.
    lease.release()
    assert open_workspace(project).update().bank_digest == undisturbed[0]


def test_a_lost_lease_refuses_every_other_change(begun: Path) -> None:
    workspace = open_workspace(begun)
    changes: list[Callable[[], object]] = [
        lambda: workspace.project.bank.remove({"ferry"}),
        lambda: workspace.project.bank.restore(1),
        workspace.project.bank.optimize,
        workspace.project.bank.make_current,
        lambda: workspace.project.ledger.forget("ferry"),
        lambda: [bank.remove({"ferry"}) for bank in open_banks(workspace.project.bank_location)],
        lambda: workspace.project.active.stored().remove({"ferry"}),
    ]
    with recovery.updating(workspace.project):
        take_over(workspace)
        for change in changes:
            with pytest.raises(cmt.RoundError, match="took over"):
                change()
    assert workspace.project.bank.present({"ferry"})
    assert workspace.project.history.forgotten() == []
