"""The pointer to the table that answers moves after the commit, and `cmt update` restores it from
the ledger.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import lancedb
import pytest

import cmt
from cmt.workspace import Workspace
from tests.helpers.banks import problems
from tests.helpers.cli import read, run
from tests.helpers.projects import FEBRUARY, JANUARY, ingest_more, open_workspace, run_steps, states

QUESTION = "What does the ferry to Saltby cost?"


def answering(folder: Path) -> str:
    """First 12 digits of the compressor whose table the pointer names."""
    return open_workspace(folder).project.active.pointer


def kill(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def with_new(folder: Path) -> Workspace:
    """The workspace with the second compressor in use."""
    return open_workspace(folder, compressor__path=str(folder / "new"))


def run_new(folder: Path, *arguments: str, status: int = 0) -> str:
    """Run `cmt` with the second compressor in use; returns what it prints."""
    result = run(folder, "--set", f"compressor.path={folder / 'new'}", *arguments, status=status)
    return result.stdout + result.stderr


def kill_before_promotion(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the last round of the second compressor; it is killed after its commit."""
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("cmt.rounds.runner.activate_if_complete", kill)
        run_steps(with_new(folder), FEBRUARY, last="decide")


def test_a_kill_after_the_commit_leaves_the_old_table_until_the_next_update(
    changed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = open_workspace(changed), with_new(changed)
    kill_before_promotion(changed, monkeypatch)
    assert states(new)[FEBRUARY] == "committed"
    assert answering(changed) == old.project.compressor_digest[:12]
    assert open_workspace(changed).ask(QUESTION).sources
    assert "run `cmt update --all` with it" in run_new(changed, "ask", QUESTION, status=1)
    assert f"compressor {new.project.compressor_digest[:12]} answers now" in run_new(
        changed, "update", "--all"
    )
    assert answering(changed) == new.project.compressor_digest[:12]
    assert "ferry" in run_new(changed, "ask", QUESTION)
    assert (new.project.bank.count_rows(), problems(new.project.bank)) == (6, [])


def test_a_new_compressor_takes_over_when_it_has_adapted_to_the_whole_stream(changed: Path) -> None:
    old, new = open_workspace(changed), with_new(changed)
    assert new.pending() == [FEBRUARY]
    assert not new.activate_if_complete()
    assert answering(changed) == old.project.compressor_digest[:12]
    with pytest.raises(cmt.BankError, match="run `cmt update --all` with it"):
        new.evaluate()
    new.update()
    assert (
        answering(changed)
        == new.project.compressor_digest[:12]
        != old.project.compressor_digest[:12]
    )
    assert states(old) == states(new) == {JANUARY: "committed", FEBRUARY: "committed"}
    assert (old.project.bank.count_rows(), new.project.bank.count_rows()) == (6, 6)
    # an update with the old one finds no pending slice, but moves the pointer back
    with pytest.raises(
        cmt.RoundError, match="no slice is pending in .*: `cmt ingest` new documents first"
    ):
        open_workspace(changed).update()
    assert answering(changed) == old.project.compressor_digest[:12]


def test_a_failed_slice_keeps_the_old_table_until_it_is_adapted(
    changed: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    old, new = open_workspace(changed), with_new(changed)

    def fail(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr("cmt.rounds.runner.RoundRunner.compress", fail)
        assert new.update().state == "failed"
    run_new(changed, "update", "--all")
    assert (
        f"the bank before it goes on answering: repeat `cmt update --slice {FEBRUARY}`"
        in caplog.text
    )
    assert answering(changed) == old.project.compressor_digest[:12]
    assert new.update(slice_id=FEBRUARY).state == "committed"
    assert answering(changed) == new.project.compressor_digest[:12]


# A lost pointer


def remove(pointer: Path) -> None:
    shutil.rmtree(pointer)


def damage(pointer: Path) -> None:
    for manifest in (pointer / "_versions").iterdir():
        manifest.write_bytes(b"cut")


def dangle(pointer: Path) -> None:
    table = lancedb.connect(str(pointer.parent)).open_table("current")
    table.update(values={"table": "memories_gone"})


@pytest.mark.parametrize("lose", [remove, damage, dangle])
def test_a_lost_pointer_is_set_again_as_advised(
    adapted_workspace: Path, lose: Callable[[Path], None]
) -> None:
    before = read(adapted_workspace, "ask", QUESTION)
    lose(adapted_workspace / "data/bank/current.lance")
    stderr = run(adapted_workspace, "ask", QUESTION, status=1).stderr
    if "run `cmt verify`" in stderr:
        stderr = run(adapted_workspace, "verify", status=1).stdout
    assert "run `cmt update --all`" in stderr
    run(adapted_workspace, "update", "--all")
    assert read(adapted_workspace, "ask", QUESTION) == before
    assert read(adapted_workspace, "verify")["problems"] == 0


def test_a_lost_pointer_is_set_to_the_fullest_table_not_to_the_one_in_use(changed: Path) -> None:
    old, new = open_workspace(changed), with_new(changed)
    remove(changed / "data/bank/current.lance")
    ingest_more(changed, month=3, doc_ids=["quiet"])
    assert with_new(changed).update().state == "committed"
    assert answering(changed) == old.project.compressor_digest[:12]
    assert len(new.pending()) == 1


def test_rounds_are_listed_and_documents_forgotten_without_a_pointer(
    adapted_workspace: Path,
) -> None:
    remove(adapted_workspace / "data/bank/current.lance")
    assert len(open_workspace(adapted_workspace).rounds()) == 2
    assert open_workspace(adapted_workspace).forget("ferry") == 1
