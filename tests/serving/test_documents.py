"""The documents of the bank over HTTP."""

import json
import re
from pathlib import Path

import httpx

from cmt.rounds import recovery
from tests.helpers.changes import find, record
from tests.helpers.http import error_message
from tests.helpers.projects import FEBRUARY, adapt, open_workspace
from tests.helpers.servers import serving_client


def test_documents_are_listed_by_date_and_page(client: httpx.Client) -> None:
    listing = client.get("/documents").json()
    assert (listing["total"], listing["offset"]) == (6, 0)
    assert [entry["doc_id"] for entry in listing["documents"]] == [
        "mayor-2", "hitch", "crane's 100%; --", "raft", "ferry", "mayor-1",
    ]  # fmt: skip
    oldest = listing["documents"][-1]
    assert (oldest["superseded_at"], oldest["memories"]) == ("2031-02-20T07:00:00Z", 1)
    second = client.get("/documents", params={"offset": 4, "limit": 4}).json()
    assert second["documents"] == listing["documents"][4:]
    january = client.get("/documents", params={"since": "2031-01-09", "until": "2031-01-12"}).json()
    assert [entry["doc_id"] for entry in january["documents"]] == ["raft", "ferry"]
    assert client.get("/documents", params={"since": "2032-01-01"}).json()["total"] == 0


def test_a_document_has_its_memories(client: httpx.Client) -> None:
    doc_id = "crane's 100%; --"
    document = client.get("/document", params={"doc_id": doc_id}).json()
    (memory,) = document["content"]
    assert memory["memory_id"] == f"{doc_id}#0"
    assert memory["tokens"] > 0
    assert memory["text"].startswith(document["title"])


def test_the_memories_of_a_long_document_are_in_the_order_of_its_text(tiny_workspace: Path) -> None:
    sentences = [
        f"Lamp {number} of the harbour was lit by the keeper at dusk." for number in range(60)
    ]
    lamps = {
        "doc_id": "lamps",
        "published_at": "2031-01-03T07:00:00Z",
        "title": "Lamps",
        "text": " ".join(sentences),
    }
    with (tiny_workspace / "news/documents.jsonl").open("a") as file:
        file.write(json.dumps(lamps) + "\n")
    with serving_client(adapt(tiny_workspace)) as client:
        document = client.get("/document", params={"doc_id": "lamps"}).json()
        memories = {
            entry["doc_id"]: entry["memories"]
            for entry in client.get("/documents").json()["documents"]
        }
    assert memories["lamps"] == document["memories"] == len(document["content"]) > 10
    text = " ".join(memory["text"].removeprefix("Lamps\n") for memory in document["content"])
    assert [int(number) for number in re.findall(r"Lamp (\d+)", text)] == list(range(60))


def test_changes_are_listed_with_their_values_and_beside_their_documents(
    adapted_workspace: Path,
) -> None:
    workspace = open_workspace(adapted_workspace)
    change = find(workspace)
    with serving_client(adapted_workspace) as client:
        assert client.get("/changes").json() == []
        record(workspace, FEBRUARY, change)
        [entry] = client.get("/changes").json()
        assert (entry["id"], entry["holds_from"], entry["confidence"]) == (
            change.id,
            "2031-02-20T07:00:00Z",
            0.93,
        )
        assert entry["old"] == {
            "doc_id": "mayor-1",
            "published_at": "2031-01-06T07:00:00Z",
            "value": "Moss",
        }
        assert entry["new"] == {
            "doc_id": "mayor-2",
            "published_at": "2031-02-20T07:00:00Z",
            "value": "Vell",
        }
        for doc_id, changes in (("mayor-1", [entry]), ("mayor-2", [entry]), ("ferry", [])):
            assert client.get("/changes", params={"doc_id": doc_id}).json() == changes
            assert client.get("/document", params={"doc_id": doc_id}).json()["changes"] == changes
        listed = {
            row["doc_id"]: row["changes"] for row in client.get("/documents").json()["documents"]
        }
        assert {doc_id for doc_id, changes in listed.items() if changes} == {"mayor-1", "mayor-2"}
        with recovery.updating(workspace.project):
            workspace.project.ledger.set_change_states({change.id: "rejected"})
        assert [entry["state"] for entry in client.get("/changes").json()] == ["rejected"]


def test_an_unknown_document_is_not_found(client: httpx.Client) -> None:
    for doc_id in ("", "nobody", "' OR '1'='1", "../params.yaml", "mayor-2#0"):
        response = client.get("/document", params={"doc_id": doc_id})
        assert response.status_code == 404
        assert error_message(response) == f"document {doc_id!r} is not in the bank"


def test_the_range_spans_the_stream(client: httpx.Client) -> None:
    assert client.get("/range").json() == {
        "first": "2031-01-06T07:00:00Z",
        "last": "2031-02-20T07:00:00Z",
        "documents": 6,
    }
