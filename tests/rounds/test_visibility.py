"""What is visible after rounds in any order, through slices that wait, and after forgetting."""

from pathlib import Path
from typing import Any

import pytest

from cmt.common.progress import NullProgress
from cmt.workspace import Workspace
from tests.helpers.projects import open_workspace
from tests.helpers.rows import Row, write_lines


def fare(doc_id: str, month: int, text: str, supersedes: str | None = None) -> Row:
    return {
        "doc_id": doc_id,
        "published_at": f"2031-{month:02}-01",
        "title": "Fares",
        "text": text,
    } | ({"supersedes": supersedes} if supersedes else {})


CHAIN = [
    fare("tram-a", 1, "A tram to Ostre costs four crowns."),
    fare("tram-b", 2, "A tram to Ostre costs five crowns.", "tram-a"),
    fare("tram-c", 3, "A tram to Ostre costs six crowns.", "tram-b"),
]
JANUARY, FEBRUARY, MARCH = (f"2031-0{month}/0001" for month in (1, 2, 3))


def ingest(folder: Path, *rows: Row) -> Workspace:
    workspace = open_workspace(
        folder, gate__canaries=0
    )  # no question is asked, which takes longer than the rest
    workspace.ingest(source=write_lines(folder / "fares.jsonl", rows), publisher="Trams")
    return workspace


def visible(workspace: Workspace) -> dict[str, str]:
    """doc_id → text of the documents that are visible now."""
    rows = workspace.project.bank.rows(["memory_id", "doc_id", "text", "superseded_at"]).to_pylist()
    return {
        row["doc_id"]: row["text"].removeprefix("Trams: Fares\n")
        for row in rows
        if row["superseded_at"] is None
    }


def problems(workspace: Workspace) -> list[str]:
    reports = workspace.verify(progress=NullProgress())
    return [
        problem
        for report in reports
        for problem in report.problems
        if report.part.startswith("bank")
    ]


def test_two_corrections_of_one_date_hold_in_the_order_of_their_ingests(
    tiny_workspace: Path,
) -> None:
    wrong, right = "The dam is 20 metres high.", "The dam is 30 metres high, not 20."
    ingest(tiny_workspace, fare("old", 1, "The dam is 9 metres high."), fare("dam", 2, wrong))
    workspace = ingest(tiny_workspace, fare("dam", 2, right, "old"))
    digests = set()
    pending = workspace.pending()
    for order in (pending, pending[::-1]):
        for slice_id in order:
            workspace.update(slice_id=slice_id)
        assert visible(workspace) == {"dam": right}
        digests.add(workspace.project.bank.digest())
        workspace.rollback(order[0])
    assert len(digests) == 1


def test_an_update_of_a_waiting_document_hides_what_that_one_supersedes(
    tiny_workspace: Path,
) -> None:
    workspace = ingest(tiny_workspace, *CHAIN)
    for slice_id in (MARCH, JANUARY):
        workspace.update(slice_id=slice_id)
    assert set(visible(workspace)) == {"tram-c"}
    assert problems(workspace) == []
    workspace.update(slice_id=FEBRUARY)
    assert set(visible(workspace)) == {"tram-c"}
    workspace.rollback(FEBRUARY)
    assert (set(visible(workspace)), problems(workspace)) == ({"tram-c"}, [])


def test_a_version_that_came_since_counts_after_a_rollback(tiny_workspace: Path) -> None:
    workspace = ingest(
        tiny_workspace, CHAIN[0], CHAIN[2], fare("other", 4, "The harbour is closed.")
    )
    for slice_id in workspace.pending():
        workspace.update(slice_id=slice_id)
    assert set(visible(workspace)) == {"tram-a", "tram-c", "other"}
    workspace = ingest(tiny_workspace, CHAIN[1])
    workspace.rollback("2031-04/0001")
    assert (set(visible(workspace)), problems(workspace)) == ({"tram-c"}, [])


def test_verify_compares_the_bank_with_the_stream(tiny_workspace: Path) -> None:
    workspace = ingest(tiny_workspace, *CHAIN)
    for slice_id in (JANUARY, MARCH):
        workspace.update(slice_id=slice_id)
    workspace.project.bank.upsert(
        workspace.project.bank.rows(workspace.project.bank.schema.names)
    )  # without the documents that wait
    expected = (
        "shows documents at other dates than the stream says (tram-a): run `cmt update --all`"
    )
    assert any(expected in problem for problem in problems(workspace))


@pytest.mark.parametrize("purge", [False, True])
def test_a_forgotten_document_leaves_its_predecessor_hidden_and_takes_its_other_names_along(
    tiny_workspace: Path, purge: bool
) -> None:
    copied = CHAIN[1] | {"doc_id": "tram-b-copy", "published_at": "2031-02-02", "supersedes": None}
    workspace = ingest(tiny_workspace, *CHAIN[:2], copied, CHAIN[2] | {"supersedes": "tram-b-copy"})
    for slice_id in workspace.pending():
        workspace.update(slice_id=slice_id)
    assert set(visible(workspace)) == {"tram-c"}
    assert workspace.forget_all(["tram-b"], purge=purge).doc_ids == ("tram-b", "tram-b-copy")
    workspace = open_workspace(tiny_workspace)
    assert (set(visible(workspace)), problems(workspace)) == ({"tram-c"}, [])


def test_a_correction_of_the_record_and_a_repeat_are_not_compressed(
    tiny_workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = CHAIN[0] | {"published_at": "2031-03-01"}
    ingest(tiny_workspace, first).update(slice_id=MARCH)

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("compressed")

    monkeypatch.setattr("cmt.retrieval.indexer.encode_batch", refuse)
    workspace = ingest(
        tiny_workspace, first | {"published_at": "2031-02-01"}, first | {"doc_id": "again"}
    )
    for slice_id in workspace.pending():
        workspace.update(slice_id=slice_id)
    rows = workspace.project.bank.rows(["memory_id", "memory", "key", "superseded_at"]).to_pylist()
    assert [row["memory_id"] for row in rows] == [
        "again#0",
        "tram-a#0",
        "tram-a#0@2031-02-01T00:00:00Z",
    ]
    assert len({(row["memory"], tuple(row["key"])) for row in rows}) == 1
    assert set(visible(workspace)) == {"tram-a"}
