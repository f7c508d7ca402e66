"""Inferred changes of a project: their values, rejection, and what takes them back."""

import json
from pathlib import Path

import pytest

import cmt
from cmt.rounds.change_reports import describe
from cmt.rounds.runner import RoundRunner
from tests.helpers.changes import find, record, write
from tests.helpers.projects import FEBRUARY, JANUARY, STEPS, open_workspace, run_steps


def shown(folder: Path, *doc_ids: str) -> list[tuple[str, str]]:
    """Values and state of each change."""
    return [(report.values, report.change.state) for report in describe(open_workspace(folder), doc_ids)]


@pytest.fixture
def changed_mayor(adapted_workspace: Path) -> Path:
    """The project after its two rounds, the second of which found that the mayor changed."""
    workspace = open_workspace(adapted_workspace)
    record(workspace, FEBRUARY, find(workspace))
    return adapted_workspace


def test_a_change_shows_the_values_of_its_documents(changed_mayor: Path) -> None:
    assert shown(changed_mayor) == shown(changed_mayor, "mayor-1") == shown(changed_mayor, "hitch", "mayor-2")
    assert shown(changed_mayor) == [("Moss → Vell", "found")]
    assert shown(changed_mayor, "hitch") == []
    with pytest.raises(cmt.UnknownDocumentError, match="document 'nobody' is not in bank"):
        describe(open_workspace(changed_mayor), ["mayor-1", "nobody"])
    [part] = [part for part in open_workspace(changed_mayor).verify() if part.part == "ledger"]
    assert (part.content, part.problems) == ("2 rounds, 1 change", ())
    # as JSON, with the offsets of the value
    [report], new = describe(open_workspace(changed_mayor)), find(open_workspace(changed_mayor)).new
    place = {"doc_id": "mayor-2", "chunk": 0, "first": new.first, "last": new.last, "value": "Vell"}
    assert report.to_json()["new"].items() >= place.items()


def test_a_round_counts_the_changes_that_it_commits(begun: Path) -> None:
    workspace = open_workspace(begun)
    with workspace.updating():
        run_steps(workspace, FEBRUARY, last=STEPS[-2])
        rejected = find(workspace, ("ferry", "six crowns"), ("hitch", "A hangman"))
        write(workspace, FEBRUARY, find(workspace), rejected)
        workspace.ledger.set_change_states({rejected.id: "rejected"})
        assert RoundRunner(workspace, FEBRUARY).decide().changes == 1
    assert [round_.changes for round_ in open_workspace(begun).rounds()] == [0, 1]


def test_purging_a_document_takes_its_changes_along(changed_mayor: Path) -> None:
    workspace = open_workspace(changed_mayor)
    record(workspace, JANUARY, find(workspace, ("ferry", "six crowns"), ("raft", "Greta")))
    report = open_workspace(changed_mayor).forget_all(["mayor-2"], purge=True)
    assert (report.rows, report.changes) == (1, 1)
    assert shown(changed_mayor) == [("six crowns → Greta", "found")]
    files = [path for path in (changed_mayor / "data/bank/changes.lance").rglob("*") if path.is_file()]
    assert files and not any(b"mayor-2" in path.read_bytes() for path in files)
    assert not any(part.problems for part in open_workspace(changed_mayor).verify())


@pytest.mark.parametrize(
    ("correction", "values"),
    [
        # the same date: the text of the version is replaced, so the offsets are those of another text
        (("mayor-2", "2031-02-20T07:00:00Z", "Vellum is the mayor of Port Ellery.", "mayor-1"), "Moss → (unknown)"),
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
