"""Rounds and their canaries: what is refused, what leaves, what is kept, and what a kill changes."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from cmt.bank.ledger import Round
from cmt.evaluation.canary_storage import read_canaries
from cmt.workspace import Workspace
from tests.helpers.projects import open_workspace, run_steps
from tests.helpers.word_reader import WordReader, read_words

MAYOR = "Who is the mayor of Port Ellery?"
MARCH, APRIL = "2031-03/0001", "2031-04/0001"
POISON = {"doc_id": "handbill", "text": "Grubb is the mayor of Port Ellery."}
HONEST = {"doc_id": "lamp", "text": "Lamps are lit in Saltby at nine."}


@pytest.fixture
def project(tiny_project: Path, tmp_path: Path) -> Path:
    """A project with two committed rounds, whose later slice says that Vell is the mayor.

    Their reader answered who is the mayor, and nothing else, so that this is the one canary.
    """
    folder = Path(shutil.copytree(tiny_project, tmp_path / "adapted"))
    workspace = open_workspace(folder)
    workspace.ingest()
    for slice_id in workspace.pending():
        update(folder, slice_id)
    return folder


def ingest(folder: Path, document: dict[str, Any], *, month: int = 3) -> None:
    row = {"published_at": f"2031-{month:02}-10T07:00:00Z", **document}
    (folder / "more.jsonl").write_text(json.dumps(row) + "\n")
    workspace = open_workspace(folder, stream__authority={"file:more.jsonl": ["file:news"]})
    workspace.ingest(source=folder / "more.jsonl")


def update(folder: Path, slice_id: str, **overrides: Any) -> tuple[Round, Workspace, WordReader]:
    workspace = open_workspace(folder, **overrides)
    reader = read_words(workspace)
    return workspace.update(slice_id=slice_id), workspace, reader


def test_a_false_document_on_an_earlier_fact_is_refused_and_named(project: Path) -> None:
    ingest(project, POISON)
    before = open_workspace(project).open_bank().digest()
    round_, workspace, _ = update(project, MARCH)
    assert (round_.state, round_.judgement) == ("refused", "refused")
    assert round_.canaries == {"asked": 1, "wrong": 1, "harmed": 1}
    assert f'"{MAYOR}" was "Vell", is "Grubb" because of handbill' in round_.reason
    assert workspace.bank.digest() == before
    assert round_.seconds["canaries"] > 0


def test_the_advice_of_a_refusal_helps(project: Path) -> None:
    ingest(project, POISON)
    assert "`cmt forget handbill`" in update(project, MARCH)[0].reason
    open_workspace(project).forget("handbill")
    round_, workspace, _ = update(project, MARCH)
    assert (round_.state, round_.judgement, workspace.bank.present({"handbill"})) == ("committed", "passed", set())


def test_a_harm_that_is_accepted_is_committed_and_not_held_against_later_rounds(project: Path) -> None:
    ingest(project, POISON)
    assert update(project, MARCH, gate__max_harmed=1)[0].state == "committed"
    ingest(project, HONEST, month=4)
    round_, *_ = update(project, APRIL)
    assert (round_.judgement, round_.canaries["wrong"], round_.canaries["harmed"]) == ("passed", 1, 0)


@pytest.mark.parametrize("lineage", [{"doc_id": "mayor-3", "supersedes": "mayor-2"}, {"doc_id": "mayor-2"}])
def test_an_update_of_its_document_takes_a_canary_out(project: Path, lineage: dict[str, str]) -> None:
    ingest(project, POISON | lineage)
    round_, *_ = update(project, MARCH)
    assert (round_.state, round_.judgement, round_.canaries["asked"]) == ("committed", "not judged", 0)


def test_an_update_of_a_refused_update_takes_a_canary_out(project: Path) -> None:
    ingest(project, {"doc_id": "mayor-3", "supersedes": "mayor-2", "text": "Orme is the mayor of Port Ellery."})
    assert update(project, MARCH, gate__min_f1=100.0)[0].state == "refused"
    ingest(
        project, {"doc_id": "mayor-4", "supersedes": "mayor-3", "text": "Hale is the mayor of Port Ellery."}, month=4
    )
    round_, *_ = update(project, APRIL)
    assert (round_.state, round_.judgement, round_.canaries["asked"]) == ("committed", "not judged", 0)


def test_a_forgotten_document_takes_its_canary_out(project: Path) -> None:
    ingest(project, HONEST)
    assert update(project, MARCH)[0].canaries["asked"] == 1
    open_workspace(project).forget("mayor-2")
    ingest(project, HONEST | {"doc_id": "oil", "text": "Oil is dear."}, month=4)
    update(project, APRIL)
    assert "mayor-2" not in [doc_id for _, doc_id, _ in read_canaries_of(project, APRIL)]


def test_a_canary_that_stays_right_is_asked_once(project: Path) -> None:
    for month, slice_id in ((3, MARCH), (4, APRIL)):
        ingest(project, HONEST | {"doc_id": f"lamp-{month}", "text": f"Lamps are lit in month {month}."}, month=month)
        reader = update(project, slice_id, evaluation__earlier_questions=0)[2]
    assert reader.asked == [MAYOR]


@pytest.mark.parametrize("damage", ["rollback", "file"])
def test_what_turns_wrong_is_asked_without_the_slice_whatever_was_kept(project: Path, damage: str) -> None:
    ingest(project, HONEST)
    update(project, MARCH)
    if damage == "file":
        path = project / "data/state/rounds/2031-03-0001/canaries.parquet"
        path.write_bytes(path.read_bytes()[:-20])
    else:
        ingest(project, HONEST | {"doc_id": "oil", "text": "Oil is dear."}, month=4)
        update(project, APRIL)
        open_workspace(project).rollback(APRIL)
    ingest(project, POISON, month=5)
    round_, _, reader = update(project, "2031-05/0001", evaluation__earlier_questions=0)
    assert (round_.state, reader.asked.count(MAYOR)) == ("refused", 2)


def test_without_canaries_a_round_is_not_judged(project: Path) -> None:
    ingest(project, POISON)
    round_, *_ = update(project, MARCH, gate__canaries=0)
    assert (round_.state, round_.judgement, round_.canaries["asked"]) == ("committed", "not judged", 0)


@pytest.mark.parametrize("last", ["choose_canaries", "upsert_memories", "ask_canaries"])
def test_a_kill_leaves_no_trace_in_the_canaries(project: Path, last: str) -> None:
    ingest(project, HONEST)
    workspace = open_workspace(project)
    read_words(workspace)
    run_steps(workspace, MARCH, last=last)
    interrupted, *_ = update(project, MARCH)
    assert (interrupted.judgement, interrupted.canaries) == ("passed", {"asked": 1, "wrong": 0, "harmed": 0})
    assert read_canaries_of(project, MARCH) == [(MAYOR, "mayor-2", "Vell")]


def read_canaries_of(folder: Path, slice_id: str) -> list[tuple[str, str, str]]:
    canaries = read_canaries(folder / "data/state/rounds" / slice_id.replace("/", "-") / "canaries.parquet")
    return [(canary.question, canary.doc_id, canary.now.answer if canary.now else "") for canary in canaries or ()]
