"""Rounds and their canaries: refusals, canaries that leave the sample, reused answers, and
kills.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cmt.bank.ledger import Ledger
from cmt.bank.rounds import Round
from cmt.evaluation.gate.storage import read_canaries
from cmt.rounds import recovery, runner
from cmt.rounds.care.lineage import lineage
from cmt.rounds.runner import RoundRunner
from cmt.workspace import Workspace
from tests.helpers.encoders import FixedEncoder
from tests.helpers.projects import change_params, open_workspace, run_steps
from tests.helpers.word_reader import WordReader, read_words

MAYOR = "Who is the mayor of Port Ellery?"
MARCH, APRIL = "2031-03/0001", "2031-04/0001"
POISON = {"doc_id": "handbill", "text": "Grubb is the mayor of Port Ellery."}
COUNTS = {"asked": 1, "wrong": 0, "harmed": 0, "changed": 0}
DESK = {"Desk": ["file:news"]}
HONEST = {"doc_id": "lamp", "text": "Lamps are lit in Saltby at nine."}


@pytest.fixture(scope="module")
def answered(tiny_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with two committed rounds, whose later slice says that Vell is the mayor.

    Their reader answered who is the mayor, and nothing else, so that this is the one canary.
    """
    folder = Path(shutil.copytree(tiny_project, tmp_path_factory.mktemp("answered") / "project"))
    change_params(folder, evaluation={"round_baselines": False})
    workspace = open_workspace(folder)
    workspace.ingest()
    for slice_id in workspace.pending():
        update(folder, slice_id)
    return folder


@pytest.fixture
def project(answered: Path, tmp_path: Path) -> Path:
    """A copy of that project."""
    return Path(shutil.copytree(answered, tmp_path / "project"))


def ingest(
    folder: Path, *documents: dict[str, Any], month: int = 3, publisher: str = "Mallory"
) -> None:
    rows = [{"published_at": f"2031-{month:02}-10T07:00:00Z", **document} for document in documents]
    (folder / "more.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    workspace = open_workspace(folder, stream__authority=DESK)
    workspace.ingest(source=folder / "more.jsonl", publisher=publisher)


def update(folder: Path, slice_id: str, **overrides: Any) -> tuple[Round, Workspace, WordReader]:
    workspace = open_workspace(folder, **{"stream__authority": DESK} | overrides)
    workspace.project.model.cross_encoder = FixedEncoder(holds=3.0, changed=3.0)
    reader = read_words(workspace)
    return workspace.update(slice_id=slice_id), workspace, reader


def quarantined(folder: Path, slice_id: str) -> list[dict[str, Any]]:
    path = folder / f"data/quarantine/round-{slice_id.replace('/', '-')}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


# Harm


def test_a_false_document_is_set_aside_for_good_and_the_rest_of_its_slice_is_taken(
    project: Path,
) -> None:
    # 1. the round
    ingest(project, POISON, HONEST)
    round_, workspace, _ = update(project, MARCH)
    assert (round_.state, round_.judgement, round_.set_aside) == (
        "committed",
        "passed",
        ("handbill",),
    )
    assert round_.canaries == {"asked": 1, "wrong": 0, "harmed": 1, "changed": 0}
    assert round_.notes == [
        "1 document set aside (handbill), see round-2031-03-0001.jsonl in the quarantine"
    ]
    assert workspace.project.bank.present({"handbill", "lamp"}) == {"lamp"}
    assert round_.seconds["canaries"] > 0
    # 2. the reason, with the way out
    [row] = quarantined(project, MARCH)
    assert (row["file"], json.loads(row["raw"])["doc_id"]) == (MARCH, "handbill")
    assert MAYOR not in row["reason"] and "Vell" not in row["reason"]
    assert '{"Mallory": ["file:news"]} to stream.authority' in row["reason"]
    assert '"supersedes": "mayor-2"' in row["reason"]
    # 3. the other commands
    assert update(project, MARCH)[0] == replace(round_, already=True)
    assert all(
        not report.problems
        for report in open_workspace(project).verify()
        if report.part != "language model"
    )
    facts = lineage(workspace.project, MARCH)[0].facts
    assert facts["set aside"] == "handbill"
    assert facts["canary 1"] == f'"{MAYOR}" was "Vell", is "Grubb" because of handbill'
    assert workspace.pending() == []
    # 4. a later round, and the same one after a rollback, do not bring it back
    ingest(project, HONEST | {"doc_id": "oil", "text": "Oil is dear."}, month=4)
    round_, workspace, _ = update(project, APRIL)
    assert (
        round_.canaries["harmed"],
        workspace.project.bank.present({"handbill", "lamp", "oil"}),
    ) == (
        0,
        {"lamp", "oil"},
    )
    workspace.rollback(MARCH)
    assert update(project, MARCH)[0].set_aside == ("handbill",)
    # 5. forgetting and purging reach it
    workspace = open_workspace(project)
    assert workspace.forget("handbill") == 0
    assert len(quarantined(project, MARCH)) == 1
    workspace.forget_all(["handbill"], purge=True)
    assert (quarantined(project, MARCH), read_canaries_of(project, MARCH)) == ([], [])
    assert workspace.pending() == [APRIL]


def test_a_slice_of_which_every_document_is_set_aside_is_committed_empty_and_earlier_versions_stay(
    project: Path,
) -> None:
    ingest(project, HONEST | {"doc_id": "handbill"})
    before = update(project, MARCH)[0].bank_digest
    ingest(project, POISON, month=4)
    round_, workspace, _ = update(project, APRIL)
    assert (round_.state, round_.set_aside, workspace.project.bank.digest()) == (
        "committed",
        ("handbill",),
        before,
    )
    assert workspace.project.bank.documents({"handbill"})["text"].to_pylist() == [
        f"Mallory\n{HONEST['text']}"
    ]


def test_a_round_that_cannot_be_saved_is_refused_as_a_whole(project: Path) -> None:
    ingest(project, POISON, HONEST)
    before = open_workspace(project).project.active.stored().digest()
    round_, workspace, _ = update(
        project, MARCH, evaluation__earlier_questions=4, gate__min_f1=100.0
    )
    assert (round_.state, round_.judgement, round_.set_aside) == ("refused", "refused", ())
    assert (workspace.project.bank.digest(), quarantined(project, MARCH)) == (before, [])
    assert update(project, MARCH)[0].set_aside == ("handbill",)


def test_an_accepted_harm_is_committed_and_does_not_count_against_later_rounds(
    project: Path,
) -> None:
    ingest(project, POISON)
    round_, *_ = update(project, MARCH, gate__max_harmed=1)
    assert (round_.state, round_.set_aside, round_.canaries["harmed"]) == ("committed", (), 1)
    ingest(project, HONEST, month=4)
    round_, *_ = update(project, APRIL)
    assert (round_.judgement, round_.canaries["wrong"], round_.canaries["harmed"]) == (
        "passed",
        1,
        0,
    )


@pytest.mark.parametrize("step", ["leave out", "evaluate", "quarantine"])
def test_a_kill_leaves_the_bank_as_before_or_after_the_round(
    project: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    ingest(project, POISON, HONEST)
    workspace = open_workspace(project)
    before = workspace.project.active.stored().digest()
    read_words(workspace)
    if step == "evaluate":
        run_steps(workspace, MARCH, last=step)
    else:
        real = Ledger.write

        def kill(ledger: Ledger, *rounds: Round) -> None:
            if any(round_.state == "committed" for round_ in rounds):
                raise KeyboardInterrupt
            real(ledger, *rounds)

        def kill_restore(*_arguments: Any) -> None:
            raise KeyboardInterrupt

        if step == "leave out":
            monkeypatch.setattr(runner, "restore", kill_restore)
        else:
            monkeypatch.setattr(Ledger, "write", kill)
        with pytest.raises(KeyboardInterrupt):
            run_steps(workspace, MARCH, last="decide")
        monkeypatch.undo()
    recovering = open_workspace(project)
    with recovery.updating(recovering.project):
        recovery.recover(recovering.project)
    assert recovering.project.bank.digest() == before
    round_, workspace, _ = update(project, MARCH)
    assert round_.canaries == COUNTS | {"harmed": 1}
    assert (round_.set_aside, workspace.project.bank.present({"handbill", "lamp"})) == (
        ("handbill",),
        {"lamp"},
    )
    assert len(quarantined(project, MARCH)) == 1


def test_a_step_that_is_repeated_gives_the_same_result(project: Path) -> None:
    ingest(project, POISON, HONEST)
    workspace = open_workspace(project)
    read_words(workspace)
    run_steps(workspace, MARCH, last="ask_canaries")
    repeated = RoundRunner(workspace.project, MARCH)
    repeated.ask_canaries()
    repeated.upsert_memories()
    repeated.evaluate()
    round_ = repeated.decide()
    assert (round_.set_aside, workspace.project.bank.present({"handbill", "lamp"})) == (
        ("handbill",),
        {"lamp"},
    )


# Updates


def test_a_declared_update_removes_a_canary_also_through_a_refused_one(project: Path) -> None:
    ingest(
        project,
        {"doc_id": "mayor-3", "supersedes": "mayor-2", "text": "Orme is the mayor of Port Ellery."},
        publisher="Desk",
    )
    assert update(project, MARCH, gate__min_f1=100.0)[0].state == "refused"
    fourth = {
        "doc_id": "mayor-4",
        "supersedes": "mayor-3",
        "text": "Hale is the mayor of Port Ellery.",
    }
    ingest(project, fourth, month=4, publisher="Desk")
    round_, *_ = update(project, APRIL)
    assert (round_.state, round_.judgement, round_.canaries["asked"]) == (
        "committed",
        "not judged",
        0,
    )


def test_an_undeclared_change_by_an_authorised_source_is_the_new_reference(project: Path) -> None:
    ingest(project, POISON, publisher="Desk")
    round_, workspace, _ = update(project, MARCH)
    assert (round_.state, round_.set_aside) == ("committed", ())
    assert "1 canary follows an update" in round_.notes
    assert round_.canaries == {"asked": 1, "wrong": 0, "harmed": 0, "changed": 1}
    assert workspace.project.bank.present({"handbill"}) == {"handbill"}
    # from now on it protects the new answer
    ingest(
        project, {"doc_id": "leaflet", "text": "Orme is the mayor, mayor of Port Ellery."}, month=4
    )
    round_, *_ = update(project, APRIL)
    assert (round_.set_aside, read_canaries_of(project, APRIL)[0]) == (
        ("leaflet",),
        (MAYOR, "handbill", "Grubb"),
    )


def test_a_peer_may_change_the_fact(project: Path) -> None:
    ingest(project, POISON)
    round_, *_ = update(project, MARCH, stream__peers=[["Mallory", "file:news"]])
    assert (round_.set_aside, round_.canaries["changed"]) == ((), 1)


# Canaries


def test_a_canary_is_asked_again_after_other_parameters_until_its_document_is_forgotten(
    project: Path,
) -> None:
    asked = []
    for month, slice_id, top_k in ((3, MARCH, 8), (4, APRIL, 8), (5, "2031-05/0001", 7)):
        ingest(
            project,
            HONEST | {"doc_id": f"lamp-{month}", "text": f"Lamps are lit in month {month}."},
            month=month,
        )
        reader = update(project, slice_id, evaluation__earlier_questions=0, selection__top_k=top_k)[
            2
        ]
        asked.append(reader.asked.count(MAYOR))
        assert read_canaries_of(project, slice_id) == [(MAYOR, "mayor-2", "Vell")]
    assert asked == [1, 0, 1]  # no slice has a document that is selected for it
    open_workspace(project).forget("mayor-2")
    ingest(project, HONEST | {"doc_id": "oil", "text": "Oil is dear."}, month=6)
    update(project, "2031-06/0001")
    assert "mayor-2" not in [doc_id for _, doc_id, _ in read_canaries_of(project, "2031-06/0001")]


@pytest.mark.parametrize("damage", ["rollback", "file"])
def test_a_canary_that_turns_wrong_is_asked_again_without_the_slice(
    project: Path, damage: str
) -> None:
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
    # asked with the slice, without it, without unauthorised sources, without the culprit, last
    assert (round_.set_aside, reader.asked.count(MAYOR)) == (("handbill",), 5)


def test_a_kill_leaves_no_trace_in_the_canaries(project: Path) -> None:
    ingest(project, HONEST)
    workspace = open_workspace(project)
    read_words(workspace)
    run_steps(workspace, MARCH, last="choose_canaries")
    interrupted, *_ = update(project, MARCH)
    assert (interrupted.judgement, interrupted.canaries) == ("passed", COUNTS)
    assert read_canaries_of(project, MARCH) == [(MAYOR, "mayor-2", "Vell")]


def read_canaries_of(folder: Path, slice_id: str) -> list[tuple[str, str, str]]:
    canaries = read_canaries(
        folder / "data/state/rounds" / slice_id.replace("/", "-") / "canaries.parquet"
    )
    return [
        (canary.question, canary.doc_id, canary.now.answer if canary.now else "")
        for canary in canaries or ()
    ]
