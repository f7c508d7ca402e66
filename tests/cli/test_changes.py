"""`cmt changes`: list, reject and restore inferred changes; `cmt lineage` of a document."""

from pathlib import Path

import pytest

from tests.helpers.changes import find, record
from tests.helpers.cli import read, run
from tests.helpers.projects import FEBRUARY, open_workspace


@pytest.fixture
def changed_mayor(adapted: Path) -> Path:
    workspace = open_workspace(adapted)
    record(workspace, FEBRUARY, find(workspace))
    return adapted


def test_changes_are_listed_filtered_rejected_and_restored(changed_mayor: Path) -> None:
    # 1. both documents and values
    [change] = read(changed_mayor, "changes")["changes"]
    assert (change["old"]["doc_id"], change["old"]["value"]) == ("mayor-1", "Moss")
    assert (change["new"]["doc_id"], change["new"]["value"]) == ("mayor-2", "Vell")
    assert (change["holds_from"], change["state"], change["confidence"]) == (
        "2031-02-20T07:00:00Z",
        "found",
        0.93,
    )
    assert (change["round_id"], len(change["id"])) == (FEBRUARY, 12)
    [_, _, line] = run(changed_mayor, "changes").stdout.splitlines()
    assert line.split() == [
        change["id"],
        *["2031-02-20", "Moss", "→", "Vell", "mayor-1", "mayor-2", "found", "0.93"],
    ]
    # 2. of some documents
    assert len(read(changed_mayor, "changes", "mayor-2", "ferry")["changes"]) == 1
    assert read(changed_mayor, "changes", "ferry") == {"changes": []}
    assert run(changed_mayor, "changes", "ferry").stdout == "no change names ferry\n"
    # 3. mistakes are named and change nothing
    name = change["id"]
    for arguments, status, message in [
        (("--reject", "x"), 1, "there is no change 'x': `cmt changes` lists them"),
        (
            ("--reject", name, "--restore", name),
            1,
            f"change '{name}' is to be rejected and restored",
        ),
        (("nobody",), 1, "document 'nobody' is not in bank"),
        (("ferry", "--reject", name), 2, "name documents, or use --reject"),
    ]:
        assert message in " ".join(
            run(changed_mayor, "changes", *arguments, status=status).stderr.split()
        )
    assert [change["state"] for change in read(changed_mayor, "changes")["changes"]] == ["found"]
    # 4. by id
    assert " rejected " in run(changed_mayor, "changes", "--reject", name).stdout
    assert [change["state"] for change in read(changed_mayor, "changes", "mayor-1")["changes"]] == [
        "rejected"
    ]
    assert [
        change["state"] for change in read(changed_mayor, "changes", "--restore", name)["changes"]
    ] == ["found"]


def test_without_a_round_there_is_no_change(tiny_workspace: Path) -> None:
    assert run(tiny_workspace, "changes").stdout == "no change was found\n"
    assert "run `cmt update` first" in run(tiny_workspace, "changes", "ferry", status=1).stderr


def test_the_lineage_of_a_document_has_its_changes_in_both_directions(changed_mayor: Path) -> None:
    name = read(changed_mayor, "changes")["changes"][0]["id"]
    value = "Moss → Vell, from 2031-02-20T07:00:00Z"
    for doc_id, role in (("mayor-1", "changed by mayor-2"), ("mayor-2", "changes mayor-1")):
        [found] = read(changed_mayor, "lineage", doc_id)["lineage"]
        assert (found["name"], found["facts"][f"{role}, {name}"]) == (f"document {doc_id}", value)
    assert (
        found["facts"].items()
        >= {"round": FEBRUARY, "supersedes": "mayor-1", "title": "Vell succeeds Moss"}.items()
    )
    run(changed_mayor, "changes", "--reject", name)
    assert f"{value}, rejected" in run(changed_mayor, "lineage", "mayor-1").stdout
    assert read(changed_mayor, "lineage", FEBRUARY)["lineage"][0]["facts"]["changes found"] == "1"
    # forgetting a document takes them along
    assert (
        "mayor-2 is forgotten: 1 row and 1 change removed"
        in run(changed_mayor, "forget", "mayor-2").stdout
    )
