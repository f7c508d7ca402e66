"""A slice that cannot be adapted fails after MAX_ATTEMPTS, and the stream goes on."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cmt.cli.main import app
from cmt.errors import BankError
from cmt.rounds._attempts import MAX_ATTEMPTS, Attempts
from cmt.rounds.runner import RoundRunner
from tests.helpers.projects import FEBRUARY, JANUARY, open_workspace, run_steps, states


def fail_in_january(monkeypatch: pytest.MonkeyPatch, error: Exception) -> list[str]:
    """Let the compression of the first slice raise `error`; returns the slices of the calls, which
    grow.
    """
    calls, compress = list[str](), RoundRunner.compress

    def failing(runner: RoundRunner) -> Path:
        calls.append(runner.slice.slice_id)
        if runner.slice.slice_id == JANUARY:
            raise error
        return compress(runner)

    monkeypatch.setattr(RoundRunner, "compress", failing)
    return calls


def test_a_slice_that_takes_too_much_memory_fails_and_the_next_ones_are_adapted(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        calls = fail_in_january(patch, MemoryError("the title of the ferry"))
        result = CliRunner().invoke(
            app, ["--params", str(project / "params.yaml"), "update", "--all", "--json"]
        )
    assert result.exit_code == 1 and isinstance(result.exception, SystemExit)
    assert calls.count(JANUARY) == MAX_ATTEMPTS and FEBRUARY in calls
    assert [round_["state"] for round_ in json.loads(result.stdout)["rounds"]] == [
        "failed",
        "committed",
    ]
    assert f"round {JANUARY} failed and the bank was restored" in result.stderr
    workspace = open_workspace(project)
    january, _ = workspace.rounds()
    assert january.reason.startswith(
        "3 tries ended without a decision (MemoryError, MemoryError, MemoryError): take"
    )
    assert "ferry" not in january.reason
    assert workspace.pending() == []
    # named, it is tried again
    assert workspace.update(slice_id=JANUARY).state == "committed"
    assert set(states(workspace).values()) == {"committed"}


def test_a_slice_stays_pending_after_any_number_of_errors_of_the_machine(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_in_january(monkeypatch, OSError(28, "No space left on device"))
    for _ in range(MAX_ATTEMPTS + 1):
        with pytest.raises(OSError, match="No space"):
            open_workspace(project).update()
    assert open_workspace(project).pending() == [JANUARY, FEBRUARY]


def test_a_round_that_was_killed_every_time_fails(project: Path) -> None:
    for _ in range(MAX_ATTEMPTS):
        run_steps(open_workspace(project), JANUARY, last="upsert_memories")
    workspace = open_workspace(project)
    failed = workspace.update()
    assert failed.state == "failed"
    assert "(killed, killed, killed)" in failed.reason
    assert workspace.update().slice_id == FEBRUARY
    assert not any(part.problems for part in workspace.verify())


def test_neither_an_error_of_the_machine_nor_one_before_a_try_begins_counts(tmp_path: Path) -> None:
    tries = Attempts(tmp_path, [JANUARY])
    for interruption in (
        OSError(28, "No space left on device"),
        BankError("locked"),
        KeyboardInterrupt(),
    ):
        tries.begin()
        assert not tries.fail(interruption)
        assert tries.ends() == []
    tries.begin()
    assert tries.fail(MemoryError()) and tries.ends() == ["MemoryError"]
    for error in (MemoryError(), BankError("locked")):
        assert not tries.fail(error)
        assert tries.ends() == ["MemoryError"]
