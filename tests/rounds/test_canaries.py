"""Rounds and their canaries: refusals, canaries that leave the sample, reused answers, and kills."""

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


@pytest.fixture(scope="module")
def answered(pending_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with two committed rounds, whose later slice says that Vell is the mayor.

    Their reader answered who is the mayor, and nothing else, so that this is the one canary.
    """
    folder = Path(shutil.copytree(pending_project, tmp_path_factory.mktemp("answered") / "project"))
    for slice_id in open_workspace(folder).pending():
        update(folder, slice_id)
    return folder


@pytest.fixture
def project(answered: Path, tmp_path: Path) -> Path:
    """A copy of that project."""
    return Path(shutil.copytree(answered, tmp_path / "project"))


def ingest(folder: Path, document: dict[str, Any], *, month: int = 3) -> None:
    row = {"published_at": f"2031-{month:02}-10T07:00:00Z", **document}
    (folder / "more.jsonl").write_text(json.dumps(row) + "\n")
    workspace = open_workspace(folder, stream__authority={"file:more.jsonl": ["file:news"]})
    workspace.ingest(source=folder / "more.jsonl")


def update(folder: Path, slice_id: str, **overrides: Any) -> tuple[Round, Workspace, WordReader]:
    workspace = open_workspace(folder, **overrides)
    reader = read_words(workspace)
    return workspace.update(slice_id=slice_id), workspace, reader


def test_a_false_document_on_an_earlier_fact_is_refused_and_named_and_the_advice_helps(project: Path) -> None:
    ingest(project, POISON)
    before = open_workspace(project).open_bank().digest()
    round_, workspace, _ = update(project, MARCH)
    assert (round_.state, round_.judgement) == ("refused", "refused")
    assert round_.canaries == {"asked": 1, "wrong": 1, "harmed": 1}
    assert f'"{MAYOR}" was "Vell", is "Grubb" because of handbill' in round_.reason
    assert "`cmt forget handbill`" in round_.reason
    assert workspace.bank.digest() == before
    assert round_.seconds["canaries"] > 0
    open_workspace(project).forget("handbill")
    round_, workspace, _ = update(project, MARCH)
    assert (round_.state, round_.judgement, workspace.bank.present({"handbill"})) == ("committed", "passed", set())


def test_an_accepted_harm_is_committed_and_does_not_count_against_later_rounds(project: Path) -> None:
    ingest(project, POISON)
    assert update(project, MARCH, gate__max_harmed=1)[0].state == "committed"
    ingest(project, HONEST, month=4)
    round_, *_ = update(project, APRIL)
    assert (round_.judgement, round_.canaries["wrong"], round_.canaries["harmed"]) == ("passed", 1, 0)


@pytest.mark.parametrize("lineage", [{"doc_id": "mayor-3", "supersedes": "mayor-2"}, {"doc_id": "mayor-2"}])
def test_an_update_of_its_document_removes_a_canary(project: Path, lineage: dict[str, str]) -> None:
    ingest(project, POISON | lineage)
    round_, *_ = update(project, MARCH)
    assert (round_.state, round_.judgement, round_.canaries["asked"]) == ("committed", "not judged", 0)


def test_an_update_of_a_refused_update_removes_a_canary(project: Path) -> None:
    ingest(project, {"doc_id": "mayor-3", "supersedes": "mayor-2", "text": "Orme is the mayor of Port Ellery."})
    assert update(project, MARCH, gate__min_f1=100.0)[0].state == "refused"
    ingest(
        project, {"doc_id": "mayor-4", "supersedes": "mayor-3", "text": "Hale is the mayor of Port Ellery."}, month=4
    )
    round_, *_ = update(project, APRIL)
    assert (round_.state, round_.judgement, round_.canaries["asked"]) == ("committed", "not judged", 0)


def test_forgetting_a_document_removes_its_canary(project: Path) -> None:
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
def test_a_canary_that_turns_wrong_is_asked_again_without_the_slice(project: Path, damage: str) -> None:
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


@pytest.mark.parametrize("last", ["choose_canaries", "ask_canaries"])
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
