"""A recompression fills the champion's bank while the previous bank answers, then moves the
pointer.
"""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from cmt.bank.bank import open_banks
from cmt.errors import RoundError
from cmt.modeling.champion import champion_folder, read_champion, write_champion
from cmt.rounds import recovery
from cmt.rounds._attempts import MAX_ATTEMPTS
from cmt.rounds.promotion import roll_back_promotion
from cmt.rounds.recompression import Recompression, recompress
from cmt.rounds.runner import RoundRunner
from cmt.workspace import Workspace
from tests.helpers.cli import run
from tests.helpers.projects import FEBRUARY, JANUARY, ingest_more, lacking_memory, open_workspace

QUESTION = "What does the ferry to Saltby cost?"
MARCH = "2031-03/0001"


@pytest.fixture
def project(champion_project: Path, tmp_path: Path) -> Path:
    """The project after its two rounds, and another compressor as its champion."""
    return Path(shutil.copytree(champion_project, tmp_path / "project"))


@pytest.fixture(scope="module")
def filled_project(champion_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(shutil.copytree(champion_project, tmp_path_factory.mktemp("filled") / "project"))
    assert fill(folder).moved
    return folder


@pytest.fixture
def filled(filled_project: Path, tmp_path: Path) -> Path:
    """The same after the recompression."""
    return Path(shutil.copytree(filled_project, tmp_path / "project"))


def compressors(workspace: Workspace) -> tuple[str, str, str]:
    """First digits of the champion, of the compressor in use, and of the one whose bank answers."""
    named = read_champion(workspace.project.state)
    assert named
    return (
        named.champion.bank,
        workspace.project.compressor_digest[:12],
        workspace.project.active.pointer,
    )


def fill(folder: Path) -> Recompression:
    return recompress(open_workspace(folder).project, sleep=lambda _: None)


def test_the_previous_compressor_answers_until_the_bank_of_the_champion_is_complete(
    project: Path,
) -> None:
    workspace = open_workspace(project)
    new, in_use, answering = compressors(workspace)
    assert in_use == answering != new
    before = workspace.ask(QUESTION)
    result = fill(project)
    assert (result.slices, result.moved) == (2, True)
    assert compressors(open_workspace(project)) == (new, new, new)
    # a process that was open during the recompression continues with the champion
    assert workspace.ask(QUESTION).question == before.question
    assert workspace.project.compressor_digest[:12] == new
    assert open_workspace(project).pending() == []
    again = fill(project)
    assert (again.slices, again.moved) == (0, False)
    assert [report.part for report in open_workspace(project).verify() if report.problems] == []


def test_what_a_round_set_aside_stays_out_of_the_new_bank(project: Path) -> None:
    workspace = open_workspace(project)
    [february] = [round_ for round_ in workspace.rounds() if round_.round_id == FEBRUARY]
    workspace.project.ledger.write(replace(february, set_aside=("hitch",)))
    # an earlier compressor, whose round a clock that ran ahead has dated
    workspace.project.ledger.write(
        replace(february, compressor="f" * 64, finished_at="2099-01-01T00:00:00+00:00")
    )
    fill(project)
    filled = open_workspace(project)
    assert filled.project.bank.present({"hitch", "mayor-2"}) == {"mayor-2"}
    assert [round_.set_aside for round_ in filled.rounds()] == [(), ("hitch",)]


def test_both_compressors_adapt_to_slices_that_arrive_during_a_recompression(project: Path) -> None:
    workspace = open_workspace(project)
    old = workspace.project.compressor_digest
    calls = 0

    def news(_: float) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            ingest_more(project, month=3, doc_ids=["march"])
            round_ = open_workspace(project).update()
            assert (round_.slice_id, round_.compressor) == (MARCH, old)

    result = recompress(workspace.project, sleep=news)
    assert (result.slices, result.moved) == (3, True)
    assert len(open_workspace(project).rounds()) == 3


def test_slices_that_were_refused_or_never_adapted_wait_for_a_round_after_the_recompression(
    project: Path,
) -> None:
    ingest_more(project, month=3, doc_ids=["march"])
    refused = open_workspace(
        project, gate__min_f1=100, evaluation__questions=10, evaluation__earlier_questions=10
    )
    assert refused.update().state == "refused"
    ingest_more(project, month=4, doc_ids=["april"])
    result = fill(project)
    assert (result.slices, result.moved) == (2, True)
    workspace = open_workspace(project)
    assert workspace.pending() == [MARCH, "2031-04/0001"]
    assert workspace.project.bank.present({"march", "april"}) == set()
    assert (workspace.update().slice_id, workspace.project.bank.present({"march"})) == (
        MARCH,
        {"march"},
    )


def test_a_slice_that_is_rolled_back_during_its_compression_stays_out(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compress = RoundRunner.compress

    def rolled_back_meanwhile(runner: RoundRunner) -> Path:
        if runner.slice.slice_id == FEBRUARY:
            open_workspace(project).rollback(FEBRUARY)
        return compress(runner)

    with (
        monkeypatch.context() as patch,
        pytest.raises(RoundError, match=f"{FEBRUARY} left the bank that answers"),
    ):
        patch.setattr(RoundRunner, "compress", rolled_back_meanwhile)
        fill(project)
    assert fill(project).moved
    assert open_workspace(project).pending() == [FEBRUARY]


def test_a_kill_is_reported_and_the_next_start_continues_without_forgotten_documents(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("cmt.rounds.recompression.SliceRunner.decide", kill)
        fill(project)
    workspace = open_workspace(project)
    new, in_use, answering = compressors(workspace)
    assert in_use == answering != new
    with recovery.updating(workspace.project):
        assert "2031-01/0001 was interrupted" in str(recovery.recover(workspace.project))
    workspace.forget("ferry")
    assert fill(project).moved
    banks = open_banks(open_workspace(project).project.bank_location)
    assert [bank.present({"ferry"}) for bank in banks] == [set(), set()]


def test_a_rollback_applies_to_every_bank(filled: Path) -> None:
    open_workspace(filled).rollback(FEBRUARY)
    rounds = open_workspace(filled).project.history.all_rounds()
    assert {(round_.slice_id, round_.state) for round_ in rounds} == {
        (JANUARY, "committed"),
        (FEBRUARY, "rolled_back"),
    }
    assert len(rounds) == 4
    banks = [
        bank.rows(["memory_id", "slice_id"])
        for bank in open_banks(open_workspace(filled).project.bank_location)
    ]
    assert [set(rows["slice_id"].to_pylist()) for rows in banks] == [{JANUARY}, {JANUARY}]


def test_worse_answers_than_in_the_comparison_keep_the_bank_before_it(project: Path) -> None:
    workspace = open_workspace(project)
    named = read_champion(workspace.project.state)
    assert named
    expected = replace(named.champion, scored_slice=FEBRUARY, f1=100.0)
    write_champion(workspace.project.state, replace(named, champion=expected))
    with pytest.raises(
        RoundError, match="in the comparison it was 100.0: the bank before it goes on answering"
    ):
        fill(project)
    new, in_use, answering = compressors(open_workspace(project))
    assert in_use == answering != new
    # neither does a later update move the pointer
    run(project, "update")
    assert compressors(open_workspace(project)) == (new, in_use, answering)


def test_the_way_back_adapts_to_what_came_since(filled: Path) -> None:
    named = read_champion(open_workspace(filled).project.state)
    assert named
    old = named.previous.bank
    ingest_more(filled, month=3, doc_ids=["march"])
    assert open_workspace(filled).update().slice_id == MARCH
    printed = run(filled, "registry", "rollback").stdout
    assert f"compressor {old} is the champion again and answers; slices adapted: 1" in printed
    workspace = open_workspace(filled)
    assert compressors(workspace) == (old, old, old)
    assert workspace.pending() == []
    # and forth again
    roll_back_promotion(workspace.project)
    assert fill(filled).slices == 0


def test_without_a_promotion_there_is_nothing_to_recompress(adapted_workspace: Path) -> None:
    result = run(adapted_workspace, "recompress", status=1)
    assert "no compressor was promoted: run `cmt registry promote` first" in result.stderr
    assert (
        "no compressor was promoted"
        in run(adapted_workspace, "registry", "rollback", status=1).stderr
    )


def test_a_compressor_that_is_named_on_the_command_line_wins(filled: Path) -> None:
    declared = open_workspace(filled, compressor__path=str(filled / "new"))
    assert declared.params.compressor.path == filled / "new"


@pytest.mark.parametrize("damage", ["garbage", "missing"])
def test_a_damaged_champion_is_named_and_the_commands_go_on(
    project: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    workspace = open_workspace(project)
    named = read_champion(workspace.project.state)
    assert named
    if damage == "garbage":
        (workspace.project.state / "champion.json").write_text("{")
    else:
        folder = champion_folder(workspace.project.state, named.champion.digest)
        folder.rename(folder.with_name("elsewhere"))
    assert open_workspace(project).ask(QUESTION)
    reports = {report.part: report for report in open_workspace(project).verify()}
    assert reports["champion"].problems
    assert (
        "which names the champion, is damaged" if damage == "garbage" else "the champion is missing"
    ) in caplog.text


def test_a_slice_that_the_last_try_compresses_is_in_the_new_bank(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compress, failures = RoundRunner.compress, [MemoryError()] * (MAX_ATTEMPTS - 1)

    def failing(runner: RoundRunner) -> Path:
        if failures:
            raise failures.pop()
        return compress(runner)

    monkeypatch.setattr(RoundRunner, "compress", failing)
    assert fill(project).slices == 2
    assert [round_.state for round_ in open_workspace(project).rounds()] == [
        "committed",
        "committed",
    ]


def test_a_slice_that_fails_keeps_the_bank_before_it_until_it_is_compressed(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(RoundRunner, "compress", lacking_memory(JANUARY))
        for _ in range(2):
            with pytest.raises(
                RoundError,
                match=r"^round 2031-01/0001 failed .*repeat `cmt recompress` with more mem",
            ):
                fill(project)
    new, in_use, answering = compressors(open_workspace(project))
    assert in_use == answering != new
    assert (fill(project).moved, open_workspace(project).project.bank.count_rows()) == (True, 6)
