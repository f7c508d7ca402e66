"""A round is done once, wholly or not at all: repeated, refused, rolled back, interrupted, or two at once."""

import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import lancedb
import pytest
import torch
from mlflow import MlflowClient
from typer.testing import CliRunner

import cmt
from cmt.cli.main import app
from cmt.lm.model import FrozenLM
from cmt.modeling.checkpoint import CompressorConfig
from cmt.modeling.model import MemoryModel
from cmt.rounds.runner import RoundRunner
from cmt.workspace import Workspace
from tests.helpers.tiny import tiny_model, tiny_tokenizer

ROOT = Path(__file__).parents[2]
JANUARY, FEBRUARY = "2031-01/0001", "2031-02/0001"
STEPS = ("begin", "compress", "bank", "evaluate", "decide")


def opened(folder: Path, **overrides: Any) -> Workspace:
    """As a new process finds it. Overrides are written `gate__min_f1=50`."""
    dotted = {key.replace("__", "."): value for key, value in overrides.items()}
    return cmt.open(params=folder / "params.yaml", overrides=dotted)


@pytest.fixture
def project(tiny_workspace: Path) -> Path:
    """Two slices wait."""
    opened(tiny_workspace).ingest()
    return tiny_workspace


@pytest.fixture(scope="session")
def undisturbed(tiny_project: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The bank's digest after each round when nothing goes wrong."""
    workspace = opened(Path(shutil.copytree(tiny_project, tmp_path_factory.mktemp("undisturbed") / "project")))
    workspace.ingest()
    return [workspace.update().bank_digest for _ in workspace.pending()]


def states(workspace: Workspace) -> dict[str, str]:
    return {round_.round_id: round_.state for round_ in workspace.rounds()}


def stop_after(workspace: Workspace, last: str, slice_id: str) -> None:
    """What a kill after the step `last` leaves."""
    run = RoundRunner(workspace, slice_id)
    for step in STEPS[: STEPS.index(last) + 1]:
        getattr(run, step)()


def add(project: Path, *, month: int, doc_ids: list[str]) -> None:
    """Later news, without questions."""
    date = f"2031-{month:02}-10T07:00:00Z"
    rows = [{"doc_id": name, "published_at": date, "text": f"News of {name}."} for name in doc_ids]
    file = project / "more.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    opened(project).ingest(source=file)


# Once


def test_rounds_bank_the_slices_in_time_order(project: Path) -> None:
    workspace = opened(project)
    rounds = [workspace.update(), workspace.update()]
    assert [(r.round_id, r.number, r.state, r.documents, r.rows) for r in rounds] == [
        (JANUARY, 1, "committed", 3, 3),
        (FEBRUARY, 2, "committed", 3, 6),
    ]
    assert workspace.rounds() == rounds
    assert {"compress", "bank", "evaluate"} == rounds[0].seconds.keys()
    assert {"em", "f1", "f1_low", "recall", "closed_f1", "rag_f1"} <= rounds[0].scores.keys()
    assert rounds[1].bank_digest == workspace.bank.digest()
    with pytest.raises(cmt.RoundError, match="no slice waits"):
        workspace.update()


def test_repeating_a_round_changes_no_row_and_says_so(project: Path) -> None:
    workspace = opened(project)
    first = workspace.update()
    again = opened(project).update(slice_id=JANUARY)
    assert (again.already, again) == (True, replace(first, already=True))
    assert (workspace.bank.version, workspace.bank.digest()) == (first.version_after, first.bank_digest)
    assert not workspace.rounds()[0].already


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_round_says_in_which_type_it_was_computed(project: Path, dtype: str) -> None:
    assert opened(project, lm__dtype=dtype).update().dtype == dtype


def test_the_lm_is_the_same_after_a_round(project: Path) -> None:
    workspace = opened(project)
    before = workspace.lm.weights_digest()
    workspace.update()
    assert workspace.lm.weights_digest() == before


def test_a_slice_without_questions_is_committed_without_scores(project: Path) -> None:
    workspace = opened(project, gate__min_f1=100, evaluation__earlier_questions=0)
    add(project, month=3, doc_ids=["quiet"])
    round_ = workspace.update(slice_id="2031-03/0001")
    assert (round_.state, round_.rows, round_.scores) == ("committed", 1, {})


def test_an_unknown_slice_is_named_with_those_that_exist(project: Path) -> None:
    with pytest.raises(cmt.StreamError, match=f"2031-09.*{JANUARY}, {FEBRUARY}"):
        opened(project).update(slice_id="2031-09/0001")


# Refused and rolled back


def test_a_refused_round_leaves_the_bank_as_it_was_and_waits(project: Path) -> None:
    before = opened(project).update()
    strict = opened(project, gate__min_f1=100)
    refused = strict.update()
    assert (refused.state, refused.reason) == ("refused", f"F1 {refused.scores['f1']:.1f} is below gate.min_f1 100")
    assert (refused.bank_digest, refused.rows) == (before.bank_digest, before.rows)
    assert strict.bank.digest() == before.bank_digest
    assert strict.pending() == [FEBRUARY]


def test_a_round_that_answers_worse_than_the_one_before_is_refused(project: Path) -> None:
    workspace = opened(project, gate__max_f1_drop=5)
    first = workspace.update()
    workspace.ledger.write(replace(first, scores={"f1": 90.0}))
    worse = workspace.update()
    assert worse.reason == f"F1 fell from 90.0 to {worse.scores['f1']:.1f}, more than gate.max_f1_drop 5"


def test_rollback_and_update_end_with_the_same_digest(project: Path, undisturbed: list[str]) -> None:
    workspace = opened(project)
    assert [workspace.update().bank_digest, workspace.update().bank_digest] == undisturbed
    rolled_back = workspace.rollback(FEBRUARY)
    assert (rolled_back.state, workspace.bank.digest()) == ("rolled_back", undisturbed[0])
    assert workspace.pending() == [FEBRUARY]
    assert workspace.update().bank_digest == undisturbed[1]


def test_rolling_an_early_round_back_takes_the_later_ones_along(project: Path, undisturbed: list[str]) -> None:
    workspace = opened(project)
    workspace.update(), workspace.update()
    workspace.rollback(JANUARY)
    assert states(workspace) == {JANUARY: "rolled_back", FEBRUARY: "rolled_back"}
    assert workspace.bank.count_rows() == 0
    assert [workspace.update().bank_digest, workspace.update().bank_digest] == undisturbed


def test_what_was_banked_later_is_rolled_back_whatever_its_date(project: Path) -> None:
    workspace = opened(project)
    workspace.update(), workspace.update()
    workspace.rollback(FEBRUARY)
    add(project, month=1, doc_ids=["late"])
    late, february = workspace.update(), workspace.update()
    assert [(r.round_id, r.number) for r in (late, february)] == [("2031-01/0002", 2), (FEBRUARY, 3)]
    workspace.rollback("2031-01/0002")
    assert states(workspace) == {JANUARY: "committed", "2031-01/0002": "rolled_back", FEBRUARY: "rolled_back"}
    assert workspace.bank.count_rows() == 3


def test_a_round_whose_version_was_dropped_stays_committed(project: Path) -> None:
    workspace = opened(project)
    workspace.update(), workspace.update()
    workspace.bank.optimize(keep=timedelta(milliseconds=1))
    before = workspace.bank.digest()
    with pytest.raises(cmt.BankError, match="dropped by `cmt bank optimize"):
        opened(project).rollback(FEBRUARY)
    assert states(workspace) == {JANUARY: "committed", FEBRUARY: "committed"}
    add(project, month=3, doc_ids=["quiet"])
    assert opened(project).update().state == "committed"
    opened(project).forget("quiet")
    assert workspace.bank.digest() == before


def test_slices_in_another_order_end_with_the_latest_version(project: Path) -> None:
    later = {
        "doc_id": "ferry",
        "published_at": "2031-03-01T07:00:00Z",
        "text": "The ferry to Saltby costs five crowns.",
    }
    (project / "later.jsonl").write_text(json.dumps(later) + "\n")
    workspace = opened(project)
    workspace.ingest(source=project / "later.jsonl")
    workspace.update(slice_id="2031-03/0001")
    workspace.update(), workspace.update()
    found = workspace.bank.full_text(text="ferry", k=5, as_of=None)
    assert [(row["doc_id"], "five crowns" in row["text"]) for row in found.to_pylist()] == [("ferry", True)]
    assert workspace.bank.verify() == []


@pytest.mark.parametrize("state", ["started", "rolling_back"])
def test_no_version_is_dropped_that_an_interruption_still_needs(project: Path, state: Any) -> None:
    workspace = opened(project)
    round_ = workspace.update()
    workspace.ledger.write(replace(round_, state=state))
    command = ["--params", str(project / "params.yaml"), "bank", "optimize", "--keep-days", "0"]
    done = CliRunner().invoke(app, command)
    assert (done.exit_code, f"{JANUARY} of compressor {round_.compressor[:12]} was interrupted" in done.stderr) == (
        1,
        True,
    )


@pytest.mark.parametrize("name", [FEBRUARY, "x'; --"])
def test_only_a_committed_round_can_be_rolled_back(project: Path, name: str) -> None:
    workspace = opened(project)
    workspace.update()
    with pytest.raises(cmt.RoundError, match=f"no committed round.*there are: {JANUARY}"):
        workspace.rollback(name)


# Forgotten


def test_a_forgotten_document_does_not_come_back(project: Path) -> None:
    workspace = opened(project)
    workspace.update(), workspace.update()
    assert workspace.forget("ferry") == 1
    without = workspace.bank.digest()
    workspace.rollback(FEBRUARY)
    assert not workspace.bank.has("ferry")
    assert workspace.update().bank_digest == without
    workspace.rollback(JANUARY)
    assert [workspace.update().rows, workspace.update().rows] == [2, 5]
    assert workspace.bank.verify() == []


def test_what_is_forgotten_during_a_round_stays_out_of_it(project: Path) -> None:
    workspace = opened(project)
    workspace.update()
    stop_after(workspace, "bank", FEBRUARY)
    for doc_id in ("hitch", "mayor-1"):
        workspace.forget(doc_id)
    assert opened(project).update().rows == 4
    assert not any(workspace.bank.has(doc_id) for doc_id in ("hitch", "mayor-1"))


def test_a_slice_of_which_everything_is_forgotten_makes_an_empty_round(project: Path) -> None:
    workspace = opened(project)
    workspace.update()
    for doc_id in ("mayor-1", "ferry", "raft"):
        workspace.forget(doc_id)
    workspace.rollback(JANUARY)
    assert (workspace.update().rows, workspace.update().rows) == (0, 3)


def test_a_document_whose_round_is_still_to_come_can_be_forgotten(project: Path) -> None:
    workspace = opened(project)
    workspace.update()
    assert workspace.forget("hitch") == 0
    workspace.rollback(JANUARY)
    assert workspace.forget("ferry") == 0
    workspace.update(), workspace.update()
    assert not any(workspace.bank.has(doc_id) for doc_id in ("hitch", "ferry"))


def test_a_new_bank_of_the_stream_does_not_have_what_was_forgotten(project: Path) -> None:
    workspace = opened(project)
    workspace.update()
    workspace.forget("ferry")
    anew = opened(project, bank__uri=str(project / "anew"), bank__codes="int4")
    anew.update(), anew.update()
    assert not anew.bank.has("ferry")
    assert anew.bank.has("raft")


def test_forgetting_what_nobody_knows_says_so(project: Path) -> None:
    workspace = opened(project)
    workspace.update()
    with pytest.raises(cmt.BankError, match="'hitchhiker' is neither in bank"):
        workspace.forget("hitchhiker")
    assert workspace.forgotten() == []


# Interrupted


@pytest.mark.parametrize("last", ["begin", "compress", "bank", "evaluate"])
def test_an_interrupted_round_is_undone_and_done_again(
    project: Path, undisturbed: list[str], last: str, caplog: pytest.LogCaptureFixture
) -> None:
    opened(project).update()
    stop_after(opened(project), last, FEBRUARY)
    assert states(opened(project))[FEBRUARY] == "started"
    with caplog.at_level(logging.WARNING):
        round_ = opened(project).update()
    assert (round_.round_id, round_.state, round_.bank_digest) == (FEBRUARY, "committed", undisturbed[1])
    assert caplog.messages == [
        f"round {FEBRUARY} was interrupted: bank restored to version {opened(project).rounds()[0].version_after}"
    ]


def test_a_round_that_ended_with_its_decision_is_not_repeated(project: Path, undisturbed: list[str]) -> None:
    stop_after(opened(project), "decide", JANUARY)
    workspace = opened(project)
    assert workspace.recover() is None
    assert (workspace.pending(), workspace.bank.digest()) == ([FEBRUARY], undisturbed[0])


def test_recovering_alone_puts_the_bank_back(project: Path, undisturbed: list[str]) -> None:
    opened(project).update()
    stop_after(opened(project), "evaluate", FEBRUARY)
    workspace = opened(project)
    assert workspace.recover()
    assert (workspace.bank.digest(), states(workspace)[FEBRUARY]) == (undisturbed[0], "interrupted")
    assert workspace.recover() is None


def test_memories_of_an_interrupted_compression_are_used_again(project: Path) -> None:
    stop_after(opened(project), "compress", JANUARY)
    [staged] = (project / "data/state/rounds").rglob("memories-*")
    written = staged.stat().st_mtime_ns
    run = RoundRunner(opened(project), JANUARY)
    run.begin()
    assert (run.compress(), staged.stat().st_mtime_ns) == (staged, written)
    for step in STEPS[2:]:
        getattr(run, step)()
    assert not staged.exists()


def test_memories_that_nobody_needs_any_more_are_removed(project: Path) -> None:
    run = RoundRunner(opened(project), JANUARY)
    run.begin()
    staged = run.compress()
    kept = staged.read_bytes()
    for step in STEPS[2:]:
        getattr(run, step)()
    staged.write_bytes(kept)
    opened(project).update()
    assert not list((project / "data/state/rounds").rglob("memories-*"))


def test_an_interrupted_round_does_not_undo_a_rollback(project: Path, undisturbed: list[str]) -> None:
    opened(project).update()
    stop_after(opened(project), "bank", FEBRUARY)
    workspace = opened(project)
    workspace.rollback(JANUARY)
    assert workspace.bank.count_rows() == 0
    assert [workspace.update().bank_digest, workspace.update().bank_digest] == undisturbed


class DiesInRestore(Workspace):
    """Killed in the midst of a rollback."""

    def restore(self, version: int) -> None:
        raise KeyboardInterrupt


@pytest.mark.parametrize("then", [Workspace.update, lambda workspace: workspace.rollback(JANUARY)])
def test_an_interrupted_rollback_is_finished(
    project: Path, undisturbed: list[str], then: Callable[[Workspace], object]
) -> None:
    workspace = opened(project)
    workspace.update(), workspace.update()
    with pytest.raises(KeyboardInterrupt):
        DiesInRestore(workspace.params, workspace.root).rollback(JANUARY)
    then(workspace)
    while workspace.pending():
        workspace.update()
    assert (states(workspace), workspace.bank.digest()) == (
        {JANUARY: "committed", FEBRUARY: "committed"},
        undisturbed[1],
    )


# Two at once


def started(project: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "cmt", "--params", str(project / "params.yaml"), "update", "--json"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_updates_at_once_take_turns(project: Path, undisturbed: list[str]) -> None:
    workspace = opened(project)
    with workspace.updating():
        both = [started(project), started(project)]
        for process in both:
            assert process.stderr
            assert any("waiting for it" in line for line in process.stderr)
    outputs = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(json.loads(text)["rounds"][0]["round_id"] for text in outputs) == [JANUARY, JANUARY]
    assert workspace.update().bank_digest == undisturbed[1]


def test_an_update_that_never_ends_is_named(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cmt.workspace.LOCK_SECONDS", 0.2)
    with opened(project).updating(), pytest.raises(cmt.RoundError, match=r"still holds .*update\.lock"):
        opened(project).update()


# Another compressor


def other_compressor(workspace: Workspace, folder: Path) -> Path:
    torch.manual_seed(7)
    model = MemoryModel(workspace.lm, CompressorConfig.of(workspace.params))
    with torch.no_grad():
        for tensor in model.trained_tensors().values():
            tensor.add_(0.1 * torch.randn_like(tensor))
    model.save(folder)
    return folder


def test_a_new_compressor_takes_over_when_it_has_banked_the_whole_stream(project: Path) -> None:
    old = opened(project)
    old.update(), old.update()
    new = opened(project, compressor__path=str(other_compressor(old, project / "new")))
    assert new.pending() == [JANUARY, FEBRUARY]
    new.update()
    assert opened(project).stored_bank.name == old.bank.name
    new.update()
    assert opened(project).stored_bank.name == new.bank.name != old.bank.name
    assert states(old) == states(new) == {JANUARY: "committed", FEBRUARY: "committed"}
    assert (old.bank.count_rows(), new.bank.count_rows()) == (6, 6)


def test_a_compressor_that_banked_nothing_or_not_all_does_not_answer(project: Path) -> None:
    old = opened(project)
    old.update(), old.update()
    path = str(other_compressor(old, project / "new"))
    tables = old.bank.connection.list_tables().tables
    with pytest.raises(cmt.BankError, match="run `cmt update --all` with it"):
        opened(project, compressor__path=path).ask("Who?")
    assert old.bank.connection.list_tables().tables == tables
    opened(project, compressor__path=path).update()
    with pytest.raises(cmt.BankError, match="run `cmt update --all` with it"):
        opened(project, compressor__path=path).evaluate()
    opened(project, compressor__path=path).update()
    assert opened(project, compressor__path=path).ask("Who?").sources


def test_old_versions_are_dropped_in_the_banks_of_all_compressors(project: Path) -> None:
    old = opened(project)
    old.update(), old.update()
    new = opened(project, compressor__path=str(other_compressor(old, project / "new")))
    new.update(), new.update()
    assert opened(project).forget("ferry") == 2
    command = ["--params", str(project / "params.yaml"), "bank", "optimize", "--keep-days", "0"]
    assert CliRunner().invoke(app, command).exit_code == 0
    for data in (project / "data/bank").rglob("*.lance"):
        assert data.is_dir() or b"costs six crowns" not in data.read_bytes(), data


def test_a_document_is_forgotten_in_the_banks_of_all_compressors(project: Path) -> None:
    old = opened(project)
    old.update(), old.update()
    new = opened(project, compressor__path=str(other_compressor(old, project / "new")))
    new.update()
    assert opened(project).forget("ferry") == 2
    assert not old.bank.has("ferry")
    assert not new.bank.has("ferry")


def test_a_compressor_of_another_lm_is_refused(project: Path, tmp_path: Path) -> None:
    other = tiny_model()
    other.model.norm.weight.data += 1
    other.save_pretrained(tmp_path / "other")
    tiny_tokenizer().save_pretrained(tmp_path / "other")
    workspace = opened(project, lm__source=f"path:{tmp_path / 'other'}", lm__path=str(tmp_path / "pulled"))
    workspace.pull()
    assert isinstance(workspace.lm, FrozenLM)
    with pytest.raises(cmt.ModelError, match=r"was trained for the LM .*cmt train"):
        workspace.update()
    assert not (project / "data/bank").exists()


# Tracked


def test_a_round_that_mlflow_missed_is_recorded_with_the_next(
    project: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    missed = opened(project, tracking__enabled=True, tracking__uri="http://127.0.0.1:9").update()
    assert (missed.state, missed.mlflow_run) == ("committed", "")
    assert any(f"round {JANUARY} is not in MLflow yet" in message for message in caplog.messages)
    workspace = opened(project, tracking__enabled=True)
    workspace.update()
    runs = {round_.round_id: round_.mlflow_run for round_ in workspace.rounds()}
    assert all(runs.values())
    assert len(set(runs.values())) == 2


def test_a_rollback_reaches_mlflow_and_does_without_it(
    project: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    workspace = opened(project, tracking__enabled=True)
    runs = [workspace.update().mlflow_run for _ in workspace.pending()]
    workspace.rollback(JANUARY)
    client = MlflowClient(tracking_uri=workspace.tracker.uri)
    assert {client.get_run(run).data.tags["cmt.state"] for run in runs} == {"rolled_back"}
    assert {client.get_run(run).info.status for run in runs} == {"KILLED"}
    again = workspace.update()
    assert again.mlflow_run not in runs
    unreachable = opened(project, tracking__enabled=True, tracking__uri="http://127.0.0.1:9")
    assert unreachable.rollback(JANUARY).state == "rolled_back"
    assert any("MLflow still has the rounds as committed" in message for message in caplog.messages)


# A bank that cannot be used


def test_a_bank_of_an_older_schema_is_refused_with_a_way_out(project: Path) -> None:
    workspace = opened(project)
    workspace.update()
    name = workspace.bank.name
    rows = workspace.bank.connection.open_table(name).to_arrow()
    older = rows.replace_schema_metadata({**rows.schema.metadata, b"schema_version": b"0"})
    lancedb.connect(workspace.params.bank.uri).create_table(name, older, mode="overwrite")
    uses: list[Callable[[Workspace], object]] = [
        Workspace.update,
        Workspace.rounds,
        lambda found: found.ask("Who?"),
        lambda found: found.forget("ferry"),
    ]
    for use in uses:
        with pytest.raises(cmt.BankError, match=r"written with schema 0.*set bank\.uri to a new folder"):
            use(opened(project))


@contextmanager
def nobody() -> Iterator[None]:
    """Without root's right to write everything."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.fixture
def locked(project: Path) -> Iterator[Path]:
    """The project with one round, where others may read (not below pytest's folder), its data read-only."""
    folder = Path(tempfile.mkdtemp())
    try:
        shutil.copytree(project, folder, dirs_exist_ok=True)
        opened(folder).update()
        yield folder
    finally:
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755)
        shutil.rmtree(folder)


def make_read_only(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)


@pytest.mark.parametrize("folders", [["bank"], ["bank", "state"]])
def test_a_read_only_bank_answers_and_takes_no_round(locked: Path, folders: list[str]) -> None:
    for path in [locked, *locked.rglob("*")]:
        path.chmod(0o777 if path.is_dir() else 0o666)
    for name in folders:
        make_read_only(locked / "data" / name)
    workspace = opened(locked)
    _ = workspace.model  # the LM lies where only its owner may read
    with nobody():
        assert [round_.state for round_ in workspace.rounds()] == ["committed"]
        assert workspace.ask("Who is the mayor of Port Ellery?").sources
        for write in (workspace.update, lambda: workspace.rollback(JANUARY), lambda: workspace.forget("ferry")):
            with pytest.raises(cmt.CmtError, match=r"/(bank|state)\b.*cannot be written: .*check .*space and rights"):
                write()
    assert states(opened(locked)) == {JANUARY: "committed"}
    assert opened(locked).bank.has("ferry")


def test_without_a_bank_there_are_no_rounds_and_looking_makes_none(project: Path) -> None:
    workspace = opened(project)
    assert (workspace.rounds(), workspace.pending()) == ([], [JANUARY, FEBRUARY])
    with pytest.raises(cmt.BankError, match="run `cmt update` first"):
        workspace.ask("Who?")
    assert not (project / "data/bank").exists()
