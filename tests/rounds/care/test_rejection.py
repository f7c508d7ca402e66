"""Inferred changes of a project: their values, rejection, and what takes them back."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cmt.evaluation.changes.report import describe
from cmt.rounds import recovery
from cmt.rounds.care.rejection import set_states
from cmt.rounds.runner import RoundRunner
from tests.helpers.changes import find, record, write
from tests.helpers.projects import FEBRUARY, JANUARY, STEPS, open_workspace, run_steps


def shown(folder: Path) -> list[tuple[str, str]]:
    """Values and state of each change."""
    return [
        (report.values, report.change.state) for report in describe(open_workspace(folder).project)
    ]


@pytest.fixture
def changed_mayor(adapted_workspace: Path) -> Path:
    """The project after its two rounds, the second of which found that the mayor changed."""
    workspace = open_workspace(adapted_workspace)
    record(workspace, FEBRUARY, find(workspace))
    return adapted_workspace


def test_a_change_shows_the_values_of_its_documents(changed_mayor: Path) -> None:
    assert shown(changed_mayor) == [("Moss → Vell", "found")]
    [part] = [part for part in open_workspace(changed_mayor).verify() if part.part == "ledger"]
    assert (part.content, part.problems) == ("2 rounds, 1 change", ())
    # as JSON, with values and offsets
    workspace = open_workspace(changed_mayor)
    [values] = [report.to_json() for report in describe(workspace.project)]
    change = replace(find(workspace), round_id=FEBRUARY)
    assert (values["id"], values["round_id"], values["confidence"]) == (change.id, FEBRUARY, 0.93)
    assert values["old"]["value"] == "Moss"
    new, span = values["new"], change.new
    assert (new["doc_id"], new["chunk"], new["value"]) == ("mayor-2", 0, "Vell")
    assert (new["first"], new["last"]) == (span.first, span.last)
    assert json.dumps(values, default=str)


def test_a_rejected_change_stays_rejected_when_its_round_is_repeated(changed_mayor: Path) -> None:
    change = find(open_workspace(changed_mayor))
    set_states(open_workspace(changed_mayor).project, reject=[change.id])
    open_workspace(changed_mayor).rollback(FEBRUARY)
    assert shown(changed_mayor) == []
    open_workspace(changed_mayor).update()
    workspace = open_workspace(changed_mayor)
    assert find(workspace).id == change.id
    record(workspace, FEBRUARY, find(workspace))
    assert shown(changed_mayor) == [("Moss → Vell", "rejected")]
    set_states(open_workspace(changed_mayor).project, restore=[change.id])
    assert shown(changed_mayor) == [("Moss → Vell", "found")]


def test_an_interrupted_round_leaves_no_change(begun: Path) -> None:
    killed = open_workspace(begun)
    with recovery.updating(killed.project):
        run_steps(killed, FEBRUARY, last="find_changes")
        write(killed, FEBRUARY, find(killed))
        found = killed.project.history.changes()
        assert [change.round_id for change in found] == [FEBRUARY]
        assert killed.project.history.changes([found[0].old.doc_id]) == found
        assert killed.project.history.changes({found[0].new.doc_id, "other"}) == found
        assert killed.project.history.changes(["other"]) == []
    assert open_workspace(begun).project.history.changes() == []
    workspace = open_workspace(begun)
    with recovery.updating(workspace.project):
        recovery.recover(workspace.project)
    assert workspace.project.history.changes() == []


def test_a_round_counts_the_changes_that_it_commits(begun: Path) -> None:
    workspace = open_workspace(begun)
    with recovery.updating(workspace.project):
        run_steps(workspace, FEBRUARY, last=STEPS[-2])
        rejected = find(workspace, ("ferry", "six crowns"), ("hitch", "A hangman"))
        write(workspace, FEBRUARY, find(workspace), rejected)
        workspace.project.ledger.set_change_states({rejected.id: "rejected"})
        assert RoundRunner(workspace.project, FEBRUARY).decide().changes == 1
    assert [round_.changes for round_ in open_workspace(begun).rounds()] == [0, 1]


@pytest.mark.parametrize("purge", [False, True])
def test_forgetting_a_document_takes_its_changes_along(changed_mayor: Path, purge: bool) -> None:
    workspace = open_workspace(changed_mayor)
    record(workspace, JANUARY, find(workspace, ("ferry", "six crowns"), ("raft", "Greta")))
    report = open_workspace(changed_mayor).forget_all(["mayor-2"], purge=purge)
    assert (report.rows, report.changes) == (1, 1)
    assert shown(changed_mayor) == [("six crowns → Greta", "found")]
    files = [
        path for path in (changed_mayor / "data/bank/changes.lance").rglob("*") if path.is_file()
    ]
    assert any(b"mayor-2" in path.read_bytes() for path in files) is not purge
    assert not any(part.problems for part in open_workspace(changed_mayor).verify())


@pytest.mark.parametrize(
    ("correction", "values"),
    [
        # the same date: the text of the version is replaced, so the offsets are those of another
        # text
        (
            ("mayor-2", "2031-02-20T07:00:00Z", "Vellum is the mayor of Port Ellery.", "mayor-1"),
            "Moss → (unknown)",
        ),
        # a later date: the earlier version stays
        (("mayor-1", "2031-03-01T07:00:00Z", "Moss was a mayor once.", None), "Moss → Vell"),
    ],
)
def test_a_correction_leaves_the_values_of_other_versions(
    changed_mayor: Path, correction: tuple[str | None, ...], values: str
) -> None:
    row = dict(zip(("doc_id", "published_at", "text", "supersedes"), correction, strict=True))
    (changed_mayor / "news/documents.jsonl").write_text(json.dumps(row) + "\n")
    assert open_workspace(changed_mayor).ingest().accepted == 1
    open_workspace(changed_mayor).update()
    assert shown(changed_mayor) == [(values, "found")]
