"""Recovery after an interruption, rollback, forgetting, and the lock that all changes of a bank hold."""

import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner

import cmt
from cmt.bank.bank import open_banks
from cmt.bank.lease import Lease
from cmt.cli.main import app
from cmt.rounds.runner import RoundRunner
from cmt.workspace import Workspace
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

ROOT = Path(__file__).parents[2]


# Interruptions


@pytest.mark.parametrize("last", ["compress", "upsert_memories"])
def test_an_interrupted_round_is_undone_and_repeated(
    project: Path, undisturbed: list[str], last: str, caplog: pytest.LogCaptureFixture
) -> None:
    open_workspace(project).update()
    run_steps(open_workspace(project), FEBRUARY, last=last)
    assert states(open_workspace(project))[FEBRUARY] == "started"
    with caplog.at_level(logging.WARNING):
        round_ = open_workspace(project).update()
    assert (round_.round_id, round_.state, round_.bank_digest) == (FEBRUARY, "committed", undisturbed[1])
    version = open_workspace(project).rounds()[0].version_after
    assert caplog.messages == [f"round {FEBRUARY} was interrupted: bank restored to version {version}"]


def test_a_round_that_was_killed_after_its_commit_is_not_repeated(project: Path, undisturbed: list[str]) -> None:
    run_steps(open_workspace(project), JANUARY, last="decide")
    workspace = open_workspace(project)
    assert workspace.recover() is None
    assert (workspace.pending(), workspace.bank.digest()) == ([FEBRUARY], undisturbed[0])


def test_a_rollback_after_an_interrupted_round_is_final(project: Path, undisturbed: list[str]) -> None:
    open_workspace(project).update()
    run_steps(open_workspace(project), FEBRUARY, last="upsert_memories")
    workspace = open_workspace(project)
    workspace.rollback(JANUARY)
    assert workspace.bank.count_rows() == 0
    assert [workspace.update().bank_digest, workspace.update().bank_digest] == undisturbed


@pytest.mark.parametrize("then", [Workspace.update, lambda workspace: workspace.rollback(JANUARY)])
def test_an_interrupted_rollback_is_completed(
    project: Path, undisturbed: list[str], then: Callable[[Workspace], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = open_workspace(project)
    workspace.update(), workspace.update()

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("cmt.rounds.recovery.restore", interrupted)
        workspace.rollback(JANUARY)
    assert states(workspace) == {JANUARY: "rolling_back", FEBRUARY: "rolled_back"}
    then(workspace)
    while workspace.pending():
        workspace.update()
    assert (states(workspace), workspace.bank.digest()) == (
        {JANUARY: "committed", FEBRUARY: "committed"},
        undisturbed[1],
    )


@pytest.mark.parametrize("state", ["started", "rolling_back"])
def test_optimize_keeps_the_versions_that_an_interrupted_round_needs(project: Path, state: Any) -> None:
    workspace = open_workspace(project)
    round_ = workspace.update()
    workspace.ledger.write(replace(round_, state=state))
    command = ["--params", str(project / "params.yaml"), "bank", "optimize", "--keep-days", "0"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 1
    assert f"{JANUARY} of compressor {round_.compressor[:12]} was interrupted" in result.stderr


# Rollback


def test_update_after_a_rollback_gives_the_same_digest(project: Path, undisturbed: list[str]) -> None:
    workspace = open_workspace(project)
    assert [workspace.update().bank_digest, workspace.update().bank_digest] == undisturbed
    rolled_back = workspace.rollback(FEBRUARY)
    assert (rolled_back.state, workspace.bank.digest()) == ("rolled_back", undisturbed[0])
    assert workspace.pending() == [FEBRUARY]
    assert workspace.update().bank_digest == undisturbed[1]


def test_a_rollback_includes_all_later_rounds(project: Path, undisturbed: list[str]) -> None:
    workspace = open_workspace(project)
    workspace.update(), workspace.update()
    workspace.rollback(JANUARY)
    assert states(workspace) == {JANUARY: "rolled_back", FEBRUARY: "rolled_back"}
    assert workspace.bank.count_rows() == 0
    assert [workspace.update().bank_digest, workspace.update().bank_digest] == undisturbed


def test_later_rounds_are_those_that_were_committed_later(project: Path) -> None:
    workspace = open_workspace(project)
    workspace.update(), workspace.update()
    workspace.rollback(FEBRUARY)
    ingest_more(project, month=1, doc_ids=["late"])
    late, february = workspace.update(), workspace.update()
    assert [(round_.round_id, round_.number) for round_ in (late, february)] == [("2031-01/0002", 2), (FEBRUARY, 3)]
    workspace.rollback("2031-01/0002")
    assert states(workspace) == {JANUARY: "committed", "2031-01/0002": "rolled_back", FEBRUARY: "rolled_back"}
    assert workspace.bank.count_rows() == 3


def test_a_round_whose_version_was_dropped_cannot_be_rolled_back(project: Path) -> None:
    workspace = open_workspace(project)
    workspace.update(), workspace.update()
    workspace.bank.optimize(keep=timedelta(milliseconds=1))
    before = workspace.bank.digest()
    with pytest.raises(cmt.BankError, match="dropped by `cmt bank optimize"):
        open_workspace(project).rollback(FEBRUARY)
    assert states(workspace) == {JANUARY: "committed", FEBRUARY: "committed"}
    ingest_more(project, month=3, doc_ids=["quiet"])
    assert open_workspace(project).update().state == "committed"
    open_workspace(project).forget("quiet")
    assert workspace.bank.digest() == before


@pytest.mark.parametrize("name", [FEBRUARY, "x'; --"])
def test_only_a_committed_round_can_be_rolled_back(project: Path, name: str) -> None:
    workspace = open_workspace(project)
    workspace.update()
    with pytest.raises(cmt.RoundError, match=f"no committed round.*there are: {JANUARY}"):
        workspace.rollback(name)


def test_a_rollback_is_recorded_in_mlflow_and_succeeds_without_it(
    project: Path, mlflow_database: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(mlflow_database, project / "mlflow.db")
    workspace = open_workspace(project, tracking__enabled=True)
    runs = [workspace.update().mlflow_run for _ in workspace.pending()]
    workspace.rollback(JANUARY)
    client = MlflowClient(tracking_uri=workspace.tracker.session.uri)
    assert {client.get_run(run).data.tags["cmt.state"] for run in runs} == {"rolled_back"}
    assert {client.get_run(run).info.status for run in runs} == {"KILLED"}
    again = workspace.update()
    assert again.mlflow_run not in runs
    unreachable = open_workspace(project, tracking__enabled=True, tracking__uri="http://127.0.0.1:9")
    assert unreachable.rollback(JANUARY).state == "rolled_back"
    assert any("MLflow still has the rounds as committed" in message for message in caplog.messages)


# Forgetting


def test_a_forgotten_document_does_not_come_back_with_rollback_or_update(project: Path) -> None:
    workspace = open_workspace(project)
    workspace.update(), workspace.update()
    assert workspace.forget("ferry") == 1
    without = workspace.bank.digest()
    workspace.rollback(FEBRUARY)
    assert not workspace.bank.present({"ferry"})
    assert workspace.update().bank_digest == without
    workspace.rollback(JANUARY)
    assert [workspace.update().rows, workspace.update().rows] == [2, 5]
    assert workspace.bank.audit().problems == []


def test_a_document_of_a_pending_round_can_be_forgotten(project: Path) -> None:
    workspace = open_workspace(project)
    workspace.update()
    assert workspace.forget("hitch") == 0
    workspace.rollback(JANUARY)
    assert workspace.forget("ferry") == 0
    workspace.update(), workspace.update()
    assert not any(workspace.bank.present({doc_id}) for doc_id in ("hitch", "ferry"))


def test_a_new_bank_of_the_stream_lacks_forgotten_documents(project: Path) -> None:
    workspace = open_workspace(project)
    workspace.update()
    workspace.forget("ferry")
    other = open_workspace(project, bank__uri=str(project / "other"), bank__codes="int4")
    other.update(), other.update()
    assert not other.bank.present({"ferry"})
    assert other.bank.present({"raft"})


def test_a_forgotten_document_is_in_no_bank_and_after_optimize_in_no_file(project: Path) -> None:
    old = open_workspace(project)
    old.update(), old.update()
    new = open_workspace(project, compressor__path=str(save_other_compressor(old, project / "new")))
    new.update(), new.update()
    assert open_workspace(project).forget("ferry") == 2
    assert not (old.bank.present({"ferry"}) or new.bank.present({"ferry"}))
    command = ["--params", str(project / "params.yaml"), "bank", "optimize", "--keep-days", "0"]
    assert CliRunner().invoke(app, command).exit_code == 0
    for data in (project / "data/bank").rglob("*.lance"):
        assert data.is_dir() or b"costs six crowns" not in data.read_bytes(), data


# The lock


def start_update(project: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "cmt", "--params", str(project / "params.yaml"), "update", "--json"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_updates_at_once_run_one_after_the_other(
    project: Path, undisturbed: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    workspace = open_workspace(project)
    with ThreadPoolExecutor(1) as thread:
        with workspace.updating():
            there = start_update(project)
            assert there.stderr
            assert any("waiting for it" in line for line in there.stderr)
            here = thread.submit(open_workspace(project).update, slice_id=JANUARY)
            while "waiting for it" not in caplog.text:
                assert not here.done()
                time.sleep(0.01)
        output, _ = there.communicate()
        assert there.returncode == 0
        rounds = [json.loads(output)["rounds"][0], asdict(here.result())]
    assert [round_["round_id"] for round_ in rounds] == [JANUARY, JANUARY]
    assert sorted(round_["already"] for round_ in rounds) == [False, True]
    assert workspace.update().bank_digest == undisturbed[1]


def test_waiting_for_the_lock_ends_with_its_path(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cmt.rounds.recovery.LOCK_SECONDS", 0.2)
    with open_workspace(project).updating(), pytest.raises(cmt.RoundError, match=r"still holds .*update\.lock"):
        open_workspace(project).update()


# Read-only folders


@contextmanager
def as_nobody() -> Iterator[None]:
    """Run the block as the user nobody if the tests run as root, who may write everywhere."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.fixture
def readable_project(project: Path) -> Iterator[Path]:
    """A project with one round in a folder that other users may read, unlike pytest's."""
    folder = Path(tempfile.mkdtemp())
    try:
        shutil.copytree(project, folder, dirs_exist_ok=True)
        open_workspace(folder).update()
        yield folder
    finally:
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755)
        shutil.rmtree(folder)


def make_read_only(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)


@pytest.mark.parametrize("folders", [["bank"], ["bank", "state"]])
def test_a_read_only_bank_answers_and_refuses_changes(readable_project: Path, folders: list[str]) -> None:
    for path in [readable_project, *readable_project.rglob("*")]:
        path.chmod(0o777 if path.is_dir() else 0o666)
    for name in folders:
        make_read_only(readable_project / "data" / name)
    workspace = open_workspace(readable_project)
    _ = workspace.model, workspace.compressor_digest  # read now, because only their owner may read the files
    with as_nobody():
        assert [round_.state for round_ in workspace.rounds()] == ["committed"]
        assert workspace.ask("Who is the mayor of Port Ellery?").sources
        for write in (workspace.update, lambda: workspace.rollback(JANUARY), lambda: workspace.forget("ferry")):
            with pytest.raises(cmt.CmtError, match=r"/(bank|state)\b.*cannot be written: .*check .*space and rights"):
                write()
    assert states(open_workspace(readable_project)) == {JANUARY: "committed"}
    assert open_workspace(readable_project).bank.present({"ferry"})


# The lease


def take_over(workspace: Workspace) -> Lease:
    """Take the bank's lease as another machine does that waited for long enough."""
    lease = Lease(workspace.params.bank.uri)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cmt.bank.lease.SECONDS", 0.0)
        lease.acquire(timeout=0)
    return lease


@pytest.mark.parametrize("last", ["compress", "evaluate"])
def test_a_round_whose_lease_was_lost_writes_nothing_more(project: Path, undisturbed: list[str], last: str) -> None:
    # 1. A round loses its lease after the step `last`; its next step would write.
    suspended = open_workspace(project)
    with pytest.raises(cmt.RoundError, match=r"took over bank .*: it stops writing"), suspended.updating():
        run_steps(suspended, JANUARY, last=last)
        lease = take_over(suspended)
        version = suspended.bank.version
        runner = RoundRunner(suspended, JANUARY)
        runner.upsert_memories() if STEPS.index(last) < STEPS.index("upsert_memories") else runner.decide()
    assert (states(open_workspace(project)), suspended.bank.version) == ({JANUARY: "started"}, version)
    # 2. Whoever took over repairs the bank and runs the rounds.
    lease.release()
    workspace = open_workspace(project)
    assert [workspace.update().bank_digest, workspace.update().bank_digest] == undisturbed


def test_a_lost_lease_refuses_every_other_change(project: Path) -> None:
    workspace = open_workspace(project)
    workspace.update()
    changes: list[Callable[[], object]] = [
        lambda: workspace.bank.remove({"ferry"}),
        lambda: workspace.bank.restore(1),
        workspace.bank.optimize,
        workspace.bank.make_current,
        lambda: workspace.ledger.forget("ferry"),
        lambda: [bank.remove({"ferry"}) for bank in open_banks(workspace.bank_location)],
        lambda: workspace.open_bank().remove({"ferry"}),
    ]
    with workspace.updating():
        take_over(workspace)
        for change in changes:
            with pytest.raises(cmt.RoundError, match="took over"):
                change()
    assert workspace.bank.present({"ferry"})
    assert workspace.forgotten() == []
