"""Forgetting documents: no way back, interruptions, and purges."""

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import cmt
from cmt.bank import _writing, maintenance
from cmt.bank._ledger_table import LedgerTable
from cmt.bank.changes import Change, ValueSpan
from cmt.bank.rounds import CANARIES, round_folder
from cmt.common.scratch import scratch_folder
from cmt.common.storage import write_json
from cmt.evaluation.gate.canary import Canary
from cmt.evaluation.gate.storage import read_canaries, write_canaries
from cmt.modeling.checkpoint import SLICES_ROW
from cmt.rounds import recovery
from cmt.rounds.care import forgetting
from cmt.stream.admission.ingest import Options, ingest
from tests.helpers.projects import FEBRUARY, JANUARY, open_workspace, run_steps
from tests.helpers.rows import make_document, write_lines

SPRING = datetime(2031, 2, 5, tzinfo=UTC)
PRICE = Change(
    ValueSpan("ferry", SPRING, 0, 10, 20, "ab"),
    ValueSpan("fares", SPRING, 1, 3, 14, "cd"),
    SPRING,
    0.9,
)
WHO = "Who is the mayor of Port Ellery?"


class Killed(BaseException):
    """A kill, which nothing catches."""


@contextmanager
def stopping(step: int, *, full: bool) -> Iterator[list[int]]:
    """Let the `step`-th change on the disk fail because it is full, or be the last one before a
    kill.
    """
    changes: list[int] = []

    def failing(change: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            number = len(changes) + 1
            changes.append(number)
            if full and number == step:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(arguments[0]))
            result = change(*arguments, **options)
            if number == step:
                raise Killed
            return result

        return run

    with pytest.MonkeyPatch.context() as patch:
        for owner, name in (
            (os, "replace"),
            (os, "unlink"),
            (_writing, "_commit"),
            (maintenance, "compact"),
            (LedgerTable, "upsert"),
        ):
            patch.setattr(owner, name, failing(getattr(owner, name)))
        yield changes


def problems(folder: Path) -> list[str]:
    """What `cmt verify` finds."""
    return [problem for part in open_workspace(folder).verify() for problem in part.problems]


def sources(folder: Path) -> set[str]:
    """The documents that the mayor's name is answered from."""
    workspace = open_workspace(folder, selection__max_logprob_gap=1000, selection__abstain_below=-1)
    return {source.doc_id for source in workspace.ask(WHO).sources}


def content(folder: Path) -> tuple[Any, ...]:
    """Everything that a forgetting changes."""
    workspace = open_workspace(folder)
    slices = [(slice_.digest, slice_.n_questions) for slice_ in workspace.project.store.slices()]
    return (
        workspace.project.active.stored().digest(),
        slices,
        workspace.project.history.forgotten(),
        workspace.pending(),
        problems(folder),
    )


# Interruptions


def test_a_purge_stopped_anywhere_is_finished_by_the_next_command(
    adapted_workspace: Path, tmp_path: Path
) -> None:
    # 1. Undisturbed.
    undisturbed = Path(shutil.copytree(adapted_workspace, tmp_path / "undisturbed"))
    with stopping(0, full=False) as changes:
        open_workspace(undisturbed).forget_all(["mayor-2"], purge=True)
    expected = content(undisturbed)
    assert (expected[2:], len(changes) >= 15) == ((["mayor-2"], [], []), True)
    # 2. Stopped at every seventh change, in turn by a kill after it and by a full disk, and at the
    #    last but two.
    survived: list[int] = []
    for step in sorted({*changes[:-1:7], len(changes) - 2}):
        folder = Path(shutil.copytree(adapted_workspace, tmp_path / "stopped"))
        with stopping(step, full=step % 2 == 0), suppress(Killed, cmt.CmtError):
            open_workspace(folder).forget_all(["mayor-2"], purge=True)
            survived.append(step)
        workspace = open_workspace(folder)
        if step in survived:  # the digest could not be recorded, which stops nothing
            assert content(folder) == expected, step
            shutil.rmtree(folder)
            continue
        assert workspace.project.history.forgetting_journal.exists(), step
        if (
            step == len(changes) - 2
        ):  # a slice is half written, and `cmt verify` reports only the journal
            assert problems(folder) == ["the purge of 1 document is not finished"]
        if workspace.project.active.stored().present({"mayor-2"}):  # announced and not deleted yet
            assert "mayor-2" not in sources(folder), step
        assert workspace.activate_if_complete() is False
        assert content(folder) == expected, step
        shutil.rmtree(folder)
    assert len(survived) <= 2 and all(step % 2 == 0 for step in survived)  # kills stop everything


def test_changes_of_an_announced_document_are_left_out(adapted_workspace: Path) -> None:
    workspace = open_workspace(adapted_workspace)
    [round_] = [round_ for round_ in workspace.rounds() if round_.slice_id == FEBRUARY]
    workspace.project.ledger.write_changes(round_.round_id, round_.compressor, [PRICE])
    assert workspace.project.history.changes()
    write_json(workspace.project.history.forgetting_journal, {"doc_ids": [PRICE.old.doc_id]})
    assert workspace.project.history.changes() == []


def test_an_undo_stopped_anywhere_is_finished_by_the_next_command(
    adapted_workspace: Path, tmp_path: Path
) -> None:
    open_workspace(adapted_workspace).forget("mayor-2")
    undisturbed = Path(shutil.copytree(adapted_workspace, tmp_path / "undisturbed"))
    with stopping(0, full=False) as changes:
        open_workspace(undisturbed).forget_all(["mayor-2"], undo=True)
    expected = content(undisturbed)
    assert expected[2:] == ([], [], [])
    # in the middle, and after each list: that of the ledger, and the names and the sketches of the
    # stream
    for step in (len(changes) // 2, *range(len(changes) - 3, len(changes))):
        folder = Path(shutil.copytree(adapted_workspace, tmp_path / "stopped"))
        with stopping(step, full=False), pytest.raises(Killed):
            open_workspace(folder).forget_all(["mayor-2"], undo=True)
        open_workspace(folder).activate_if_complete()
        assert content(folder) == expected, step
        shutil.rmtree(folder)


def test_a_damaged_journal_stops_no_other_command(
    adapted_workspace: Path, caplog: pytest.LogCaptureFixture
) -> None:
    workspace = open_workspace(adapted_workspace)
    workspace.project.history.forgetting_journal.write_text("5")
    assert workspace.rollback(FEBRUARY).state == "rolled_back"
    assert "still being forgotten" in caplog.text
    [problem] = problems(adapted_workspace)
    assert problem.startswith(f"{workspace.project.history.forgetting_journal} cannot be read")
    with pytest.raises(cmt.RoundError, match=r"forgetting\.json cannot be read .*remove it"):
        workspace.forget("ferry")


def test_rows_of_a_forgotten_document_are_reported_and_hidden(adapted_workspace: Path) -> None:
    workspace = open_workspace(adapted_workspace)
    workspace.project.store.forget(
        {"mayor-2": []}
    )  # what is left if the state folder is lost after a kill
    [problem] = problems(adapted_workspace)
    assert problem.endswith("run `cmt forget mayor-2`")
    assert "mayor-2" not in sources(adapted_workspace)
    assert open_workspace(adapted_workspace).forget("mayor-2") == 1
    assert problems(adapted_workspace) == []


# No way back


def test_nearly_the_same_text_is_not_banked_even_from_slices_of_another_project(
    adapted_workspace: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    workspace = open_workspace(adapted_workspace)
    copy = make_document(
        "copy", text="The ferry to Saltby costs six crowns!", published_at="2031-03-02T07:00:00Z"
    )
    file = write_lines(
        tmp_path / "copy.jsonl", [copy, make_document("new", published_at="2031-03-03T07:00:00Z")]
    )
    elsewhere = replace(workspace.project.store, path=tmp_path / "stream")
    ingest(elsewhere, file, options=Options(workspace.params.stream))
    workspace.forget_all(["ferry"], everywhere=True)
    shutil.copytree(tmp_path / "stream/2031-03", workspace.project.store.path / "2031-03")
    assert workspace.update().rows == 6
    assert workspace.project.bank.present({"new", "copy"}) == {"new"}
    assert (
        "document 'copy' is left out: 100% of its text is that of document 'ferry'" in caplog.text
    )


def test_words_of_the_publishers_name_alone_match_no_document(
    adapted_workspace: Path, tmp_path: Path
) -> None:
    texts = {
        "fare": "A ticket for the ferries costs 8 crowns.",
        "rain": "Rain fell on the harbour all day.",
    }
    date = "2031-03-03T07:00:00Z"
    rows = [
        make_document(name, title=None, text=text, published_at=date)
        for name, text in texts.items()
    ]
    workspace = open_workspace(adapted_workspace)
    workspace.ingest(source=write_lines(tmp_path / "news.jsonl", rows), publisher="Ferry News")
    workspace.update()
    found = {
        query: workspace.forgettable(matching=query)
        for query in ("ferry", "ferry harbour", "crowns 8")
    }
    assert {query: sorted(one.doc_id for one in them) for query, them in found.items()} == {
        "ferry": ["fare", "ferry"],
        "ferry harbour": [],
        "crowns 8": ["fare"],
    }


def test_questions_about_a_forgotten_document_are_not_asked(adapted_workspace: Path) -> None:
    asked = {"evaluation__questions": 4, "evaluation__earlier_questions": 4}
    workspace = open_workspace(adapted_workspace, evaluation__baselines=False, **asked)
    workspace.forget("ferry")
    assert set(workspace.evaluate().records["doc_id"].to_pylist()) == {
        "mayor-1",
        "mayor-2",
        "hitch",
    }
    workspace.rollback(FEBRUARY)
    assert workspace.update().questions == 3


def test_several_documents_are_forgotten_together_or_not_at_all(adapted_workspace: Path) -> None:
    workspace = open_workspace(adapted_workspace)
    with pytest.raises(cmt.BankError, match="'nobody' is neither in bank"):
        workspace.forget_all(["ferry", "nobody"])
    assert (workspace.project.history.forgotten(), workspace.project.bank.count_rows()) == ([], 6)
    version = workspace.project.bank.version
    report = workspace.forget_all(["ferry", "raft", "ferry"])
    assert (report.doc_ids, report.rows, report.purged, report.unreached) == (
        ("ferry", "raft"),
        2,
        {},
        (),
    )
    assert workspace.project.bank.version <= version + 2  # one commit, and the index


def test_a_document_can_be_forgotten_before_there_is_a_bank(project: Path) -> None:
    assert open_workspace(project).forget_all(["ferry"], purge=True).rows == 0
    workspace = open_workspace(project)
    assert (workspace.update().rows, workspace.project.store.all_documents().num_rows) == (2, 5)


def test_an_undone_forgetting_leaves_the_project_sound_and_the_text_can_come_again(
    adapted_workspace: Path,
) -> None:
    workspace = open_workspace(adapted_workspace)
    workspace.forget_all(["mayor-2", "ferry"])
    [ferry, mayor] = workspace.forgotten_documents()
    assert (ferry.doc_id, ferry.sources, str(ferry.dates[0].date())) == (
        "ferry",
        ("file:news",),
        "2031-01-09",
    )
    with pytest.raises(cmt.BankError, match="'raft' is not forgotten: `cmt forget --list`"):
        workspace.forget_all(["raft"], undo=True)
    report = workspace.forget_all(["mayor-2"], undo=True)
    assert (report.doc_ids, report.purged["documents"], workspace.project.history.forgotten()) == (
        ("mayor-2",),
        1,
        ["ferry"],
    )
    assert open_workspace(adapted_workspace).forget_all(["ferry"], undo=True).doc_ids == ("ferry",)
    workspace = open_workspace(adapted_workspace)
    assert (workspace.forgotten_documents(), workspace.pending(), problems(adapted_workspace)) == (
        [],
        [],
        [],
    )
    # the source has the texts
    assert workspace.ingest().accepted == 2
    while workspace.pending():
        assert workspace.update().state == "committed"
    assert workspace.project.bank.present({"mayor-2", "ferry"}) == {"mayor-2", "ferry"}
    assert (problems(adapted_workspace), "mayor-2" in sources(adapted_workspace)) == ([], True)


def test_after_an_undo_an_update_hides_no_earlier_document(
    adapted_workspace: Path, tmp_path: Path
) -> None:
    workspace = open_workspace(adapted_workspace)
    later = make_document(
        "mayor-3", supersedes="mayor-2", published_at="2031-03-02T07:00:00Z", source=None
    )
    folder = tmp_path / "news"
    folder.mkdir()
    write_lines(folder / "later.jsonl", [later])
    workspace.ingest(source=folder)
    workspace.update()
    bank = workspace.project.active.stored()
    assert "mayor-1" not in bank.full_text(text="mayor", k=9, as_of=None)["doc_id"].to_pylist()
    workspace.forget("mayor-2")
    assert "mayor-1" not in bank.full_text(text="mayor", k=9, as_of=None)["doc_id"].to_pylist()
    open_workspace(adapted_workspace).forget_all(["mayor-2"], undo=True)
    assert "mayor-1" in bank.full_text(text="mayor", k=9, as_of=None)["doc_id"].to_pylist()
    assert problems(adapted_workspace) == []


def test_a_lost_list_of_forgotten_documents_is_reported_and_forgetting_repairs_it(
    adapted_workspace: Path,
) -> None:
    workspace = open_workspace(adapted_workspace)
    workspace.forget("ferry")
    for name in ("forgotten.json", "forgotten-sketches.json"):
        (workspace.project.store.path / name).unlink()
    [problem] = problems(adapted_workspace)
    assert "1 forgotten documents are missing in" in problem and problem.endswith(
        "or run `cmt forget ferry`"
    )
    open_workspace(adapted_workspace).forget("ferry")
    assert problems(adapted_workspace) == []


# Purging


def test_a_purge_leaves_no_slice_waiting_and_no_rollback_past_it(adapted_workspace: Path) -> None:
    workspace = open_workspace(adapted_workspace)
    before = {slice_.slice_id: slice_.digest for slice_ in workspace.project.store.slices()}
    workspace.forget("ferry")
    purged = workspace.forget_all(["ferry"], purge=True).purged
    assert (purged["documents"], purged["slices written again"]) == (1, 1)
    after = {slice_.slice_id: slice_.digest for slice_ in workspace.project.store.slices()}
    assert [name for name in before if before[name] != after[name]] == [JANUARY]
    assert "ferry" not in workspace.project.store.all_documents()["doc_id"].to_pylist()
    assert workspace.forget_all(["ferry"], purge=True).purged == {"banks written again": 1}
    assert (workspace.pending(), problems(adapted_workspace)) == ([], [])
    with pytest.raises(
        cmt.BankError, match="older ones were dropped by .* or `cmt forget --purge`"
    ):
        workspace.rollback(FEBRUARY)
    assert {round_.state for round_ in workspace.rounds()} == {"committed"}
    assert workspace.ingest().rejected[0].reason == "document 'ferry' was forgotten"
    assert workspace.pending() == []


def test_a_question_of_a_purged_document_leaves_the_canaries_of_another_document(
    adapted_workspace: Path,
) -> None:
    workspace = open_workspace(adapted_workspace)
    path = round_folder(workspace.project.state, FEBRUARY) / CANARIES
    moved = Canary("q", "raft", "What does the ferry to Saltby cost?", ("nine crowns",))
    own = replace(moved, question="Who was first to the yellow raft?")
    write_canaries(path, [moved, own])
    workspace.forget_all(["ferry"], purge=True)
    assert read_canaries(path) == [own]


def test_trained_weights_and_files_of_running_commands_are_named_as_not_reached(
    adapted_workspace: Path,
) -> None:
    trained = adapted_workspace / "trained"
    trained.mkdir()
    (trained / "card.md").write_text(f"| {SLICES_ROW} | {JANUARY} |\n")
    (trained / "pairs.json").write_text("{}")
    workspace = open_workspace(
        adapted_workspace, train__output=str(trained), train__path=str(trained)
    )
    with scratch_folder(workspace.project.state) as running:
        unreached = workspace.forget_all(["ferry"], purge=True).unreached
        assert running.exists()
    assert (
        f"the weights in {trained}, which were trained on the slices: train them again" in unreached
    )
    assert f"training data that `cmt data pull` copied to {trained}" in unreached
    assert f"temporary files of a command that is running: {running}" in unreached
    assert not any(
        line.startswith("the weights")
        for line in workspace.forget_all(["hitch"], purge=True).unreached
    )


def test_a_purge_recovers_a_round_of_another_compressor_whose_bank_is_gone(
    adapted_workspace: Path,
) -> None:
    workspace = open_workspace(adapted_workspace)
    started = replace(workspace.rounds()[-1], state="started", compressor="c" * 64)
    workspace.project.ledger.write(started)
    assert workspace.forget_all(["ferry"], purge=True).rows == 1
    assert [
        round_.state
        for round_ in workspace.project.history.all_rounds()
        if round_.compressor == "c" * 64
    ] == ["interrupted"]


def test_forgetting_recovers_a_killed_round_and_until_then_its_documents_are_left_out(
    begun: Path,
) -> None:
    run_steps(open_workspace(begun), FEBRUARY, last="upsert_memories")
    reader, writer = open_workspace(begun), open_workspace(begun)
    with recovery.updating(writer.project):
        forgetting.forget(writer.project, ["ferry"])
    assert (
        reader.project.active.bank().version == reader.rounds()[0].version_after
    )  # which still has its row
    assert reader.project.active.bank().excluded_doc_ids == {"ferry"}
    assert open_workspace(begun).forget_all(["hitch"]).rows == 0
    assert (reader.rounds()[-1].state, reader.project.active.bank().present(["ferry"])) == (
        "interrupted",
        set(),
    )


def test_a_purge_recovers_an_interrupted_round_and_deletes_its_staged_memories(begun: Path) -> None:
    run_steps(open_workspace(begun), FEBRUARY, last="upsert_memories")
    workspace = open_workspace(begun)
    assert list(workspace.project.state.rglob("memories-*"))
    assert workspace.forget_all(["hitch"], purge=True).rows == 0
    assert (list(workspace.project.state.rglob("memories-*")), workspace.rounds()[-1].state) == (
        [],
        "interrupted",
    )
    assert workspace.update().rows == 5


def test_a_purge_is_not_finished_while_a_round_needs_an_earlier_version(
    adapted_workspace: Path, caplog: pytest.LogCaptureFixture
) -> None:
    workspace = open_workspace(adapted_workspace)
    workspace.rollback(FEBRUARY)
    with stopping(1, full=False), pytest.raises(Killed):
        workspace.forget_all(["ferry"], purge=True)
    run_steps(open_workspace(adapted_workspace), FEBRUARY, last="upsert_memories")
    assert workspace.update().state == "committed"
    assert "documents are still being forgotten" in caplog.text
    workspace.activate_if_complete()
    assert (problems(adapted_workspace), workspace.project.bank.present({"ferry"})) == ([], set())


def test_a_damaged_slice_is_not_purged(adapted_workspace: Path) -> None:
    workspace = open_workspace(adapted_workspace)
    manifest = workspace.project.store.slice(JANUARY).path
    manifest.write_text(
        manifest.read_text().replace(workspace.project.store.slice(JANUARY).digest, "0" * 64)
    )
    with pytest.raises(cmt.StreamError, match=f"slice {JANUARY} was altered"):
        workspace.forget_all(["ferry"], purge=True)
    assert (workspace.project.history.forgotten(), workspace.project.bank.present({"ferry"})) == (
        [],
        {"ferry"},
    )


def test_a_purge_removes_lines_whole_and_damaged_answers(adapted_workspace: Path) -> None:
    workspace = open_workspace(adapted_workspace)
    kept = json.dumps({"doc_id": "raft", "text": "one\u2028two"}, ensure_ascii=False)
    quarantine = adapted_workspace / "data/quarantine/rows.jsonl"
    quarantine.parent.mkdir(parents=True, exist_ok=True)
    quarantine.write_text(kept.replace("raft", "mayor-2") + "\n" + kept + "\n")
    answers = round_folder(workspace.project.state, JANUARY) / "answers.parquet"
    answers.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"doc_id": ["ferry"] * 9}), answers)
    answers.write_bytes(answers.read_bytes()[:4] + bytes(30) + answers.read_bytes()[34:])
    with pytest.raises(OSError, match="page header"):
        pq.read_table(answers)
    workspace.forget_all(["mayor-2"], purge=True)
    assert quarantine.read_text() == kept + "\n"
    assert not answers.exists()
