"""Questions over HTTP, as one response and as a stream of events, and the health of the server."""

from pathlib import Path

import httpx
import pytest

import cmt
from tests.helpers.http import BEFORE_STREAM, MAYOR, ask, doc_ids, events


def test_an_answer_has_its_source_documents_with_their_texts(
    client: httpx.Client, project: Path
) -> None:
    answered = ask(client, MAYOR)
    direct = cmt.open(params=project / "params.yaml").ask(MAYOR)
    assert (answered["question"], answered["answer"], answered["known"]) == (
        MAYOR,
        direct.text,
        True,
    )
    assert answered["confidence"] == pytest.approx(direct.confidence, abs=1e-4)
    assert [source["doc_id"] for source in answered["sources"]] == [
        source.doc_id for source in direct.sources
    ]
    (vell,) = (source for source in answered["sources"] if source["doc_id"] == "mayor-2")
    assert (vell["title"], vell["published_at"]) == ("Vell succeeds Moss", "2031-02-20T07:00:00Z")
    assert vell["text"] == "Vell succeeds Moss\nVell is the mayor of Port Ellery now."
    scores, marks = {"similarity", "weight"}, {"spans", "quote"}
    assert vell.keys() == {"doc_id", "title", "published_at", "supersedes", "text"} | scores | marks
    assert vell["supersedes"] == "mayor-1"


def test_as_of_selects_the_documents_published_until_then(client: httpx.Client) -> None:
    assert {"mayor-1", "mayor-2"} & doc_ids(ask(client, MAYOR, as_of="2031-02-15")) == {"mayor-1"}
    assert {"mayor-1", "mayor-2"} & doc_ids(ask(client, MAYOR, as_of="2031-02-20")) == {"mayor-2"}
    assert {"mayor-1", "mayor-2"} & doc_ids(ask(client, MAYOR, as_of="2031-02-20T06:59:59Z")) == {
        "mayor-1"
    }
    early = ask(client, MAYOR, as_of=BEFORE_STREAM)
    assert (early["answer"], early["known"], early["sources"]) == ("not in memory", False, [])
    assert early["as_of"] == "2030-12-31T23:59:59.999999Z"
    assert [ask(client, MAYOR, as_of=date)["known"] for date in ("0001-01-01", "9999-12-31")] == [
        False,
        True,
    ]


def test_a_history_is_that_of_the_workspace(client: httpx.Client, project: Path) -> None:
    response = client.get("/history", params={"question": MAYOR, "as_of": "2031-02-15"})
    assert response.status_code == 200
    history = response.json()
    direct = cmt.open(params=project / "params.yaml").history(MAYOR, as_of="2031-02-15")
    assert [value["text"] for value in history["values"]] == [one.text for one in direct.values]
    assert history["values"] and "mayor-2" not in response.text
    for wrong in ({}, {"question": " "}, {"question": MAYOR, "as_of": "January"}):
        assert client.get("/history", params=wrong).status_code == 422


def test_a_stream_has_the_answer_in_pieces_and_then_complete(client: httpx.Client) -> None:
    response = client.post("/ask/stream", json={"question": MAYOR, "as_of": "2031-02-15"})
    assert response.headers["content-type"].startswith("text/event-stream")
    *pieces, (name, answered) = events(response)
    assert {name for name, _ in pieces} == {"text"}
    assert (name, answered) == ("answer", ask(client, MAYOR, as_of="2031-02-15"))
    assert "".join(text for _, text in pieces) == answered["answer"]
    first, (name, answered) = events(
        client.post("/ask/stream", json={"question": MAYOR, "as_of": BEFORE_STREAM})
    )
    assert (first, name, answered["known"]) == (
        ("text", "not in memory"),
        "answer",
        False,
    )  # in one piece


@pytest.mark.parametrize(
    "question",
    ["'; DROP TABLE memories; --", "<script>alert(1)</script>", "% _ \\ *", "?", "🦆 🦆"],
)
def test_a_question_with_special_characters_is_answered_unchanged(
    client: httpx.Client, question: str
) -> None:
    assert ask(client, question)["question"] == question
    response = client.post("/ask/stream", json={"question": question})
    assert response.text.isascii()  # line separators of Unicode would end an event
    assert events(response)[-1][1]["question"] == question
    assert client.get("/health").json()["rows"] == 6


def test_health_names_the_compressor_and_the_version(client: httpx.Client, project: Path) -> None:
    health = client.get("/health").json()
    model = cmt.open(params=project / "params.yaml").project.model
    assert (health["status"], health["rows"], health["compressor"]) == ("ok", 6, model.digest)
    assert health["version"] == cmt.__version__


def test_a_follow_up_is_completed_from_the_previous_questions(client: httpx.Client) -> None:
    previous = [{"question": MAYOR, "answer": "Vell"}]
    answered = ask(client, "How old is he?", previous=previous)
    assert answered["question"] == "How old is Vell?"
    refused = client.post("/ask", json={"question": "How old is he?"})
    assert refused.status_code == 422
    error = refused.json()["error"]
    assert error["param"] == "question" and "ask it in full" in error["message"]
    assert client.get("/history", params={"question": "and in June?"}).status_code == 422
