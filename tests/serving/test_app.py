"""Questions over HTTP: a real server on a free port, real clients, a project in miniature."""

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Semaphore
from typing import Any

import anyio
import httpx
import openai
import pytest
from openai import OpenAI

import cmt
from cmt.answering.answer import Source, Span
from cmt.lm.decoding import Generation
from cmt.serving.app import create_app
from cmt.serving.batching import DynamicBatcher
from cmt.serving.schemas import MAX_QUESTION_CHARACTERS, SourceOut, end_of, question_of, start_of
from tests.helpers.servers import adapt, running, serving

MAYOR = "Who is the mayor of Port Ellery?"
FERRY = "What does the ferry to Saltby cost?"
NO_WORD_OF_IT = "Which comet outshone Jupiter?"
BEFORE_ALL = "2030-12-31"


@pytest.fixture(scope="module")
def project(tiny_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose slices have their rounds; nobody may change it."""
    return adapt(Path(shutil.copytree(tiny_project, tmp_path_factory.mktemp("served") / "project")))


@pytest.fixture(scope="module")
def url(project: Path) -> Iterator[str]:
    with serving(project) as address:
        yield address


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=30) as made:
        yield made


@pytest.fixture(scope="module")
def chat(url: str) -> Iterator[OpenAI]:
    """The official client, as anybody would set it up."""
    with OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as made:
        yield made


def ask(client: httpx.Client, question: str, **more: Any) -> dict[str, Any]:
    response = client.post("/ask", json={"question": question, **more})
    assert response.status_code == 200, response.text
    answered: dict[str, Any] = response.json()
    return answered


def events(response: httpx.Response) -> list[tuple[str, Any]]:
    """Name and data of each server-sent event."""
    found = re.findall(r"event: (.+)\ndata: (.+)\n\n", response.text)
    return [(name, json.loads(data)) for name, data in found]


def doc_ids(answered: dict[str, Any]) -> set[str]:
    return {source["doc_id"] for source in answered["sources"]}


def test_an_answer_comes_with_its_documents_and_their_texts(client: httpx.Client, project: Path) -> None:
    answered = ask(client, MAYOR)
    direct = cmt.open(params=project / "params.yaml").ask(MAYOR)
    assert (answered["question"], answered["answer"], answered["known"]) == (MAYOR, direct.text, True)
    assert answered["confidence"] == pytest.approx(direct.confidence, abs=1e-4)
    assert [source["doc_id"] for source in answered["sources"]] == [source.doc_id for source in direct.sources]
    (vell,) = (source for source in answered["sources"] if source["doc_id"] == "mayor-2")
    assert (vell["title"], vell["published_at"]) == ("Vell succeeds Moss", "2031-02-20T07:00:00Z")
    assert vell["text"] == "Vell succeeds Moss\nVell is the mayor of Port Ellery now."
    scores, marks = {"similarity", "weight"}, {"spans", "quote"}
    assert vell.keys() == {"doc_id", "title", "published_at", "supersedes", "text"} | scores | marks
    assert vell["supersedes"] == "mayor-1"


def test_a_date_changes_what_is_known(client: httpx.Client) -> None:
    assert {"mayor-1", "mayor-2"} & doc_ids(ask(client, MAYOR, as_of="2031-02-15")) == {"mayor-1"}
    assert {"mayor-1", "mayor-2"} & doc_ids(ask(client, MAYOR, as_of="2031-02-20")) == {"mayor-2"}
    assert {"mayor-1", "mayor-2"} & doc_ids(ask(client, MAYOR, as_of="2031-02-20T06:59:59Z")) == {"mayor-1"}
    early = ask(client, MAYOR, as_of="2030-12-31")
    assert (early["answer"], early["known"], early["sources"]) == ("not in memory", False, [])
    assert early["as_of"] == "2030-12-31T23:59:59.999999Z"
    assert [ask(client, MAYOR, as_of=date)["known"] for date in ("0001-01-01", "9999-12-31")] == [False, True]


def test_what_memory_does_not_have_it_says(client: httpx.Client) -> None:
    answered = ask(client, MAYOR, as_of=BEFORE_ALL)
    assert (answered["answer"], answered["known"], answered["sources"]) == ("not in memory", False, [])


def test_a_stream_has_the_answer_in_pieces_and_then_whole(client: httpx.Client) -> None:
    response = client.post("/ask/stream", json={"question": MAYOR, "as_of": "2031-02-15"})
    assert response.headers["content-type"].startswith("text/event-stream")
    *parts, (name, whole) = events(response)
    assert {part[0] for part in parts} == {"text"}
    assert (name, whole) == ("answer", ask(client, MAYOR, as_of="2031-02-15"))
    assert "".join(text for _, text in parts) == whole["answer"]


def test_a_refusal_is_all_that_a_stream_says(client: httpx.Client) -> None:
    first, (name, whole) = events(client.post("/ask/stream", json={"question": MAYOR, "as_of": BEFORE_ALL}))
    assert first == ("text", "not in memory")
    assert (name, whole["known"]) == ("answer", False)


class Slow:
    """Holds the LM back at every token but the first until somebody lets it go on.

    It copies nothing: what an untrained ψ quotes is a token long.
    """

    def __init__(self, desk: DynamicBatcher) -> None:
        self.desk, self.go_on, self.written = desk, Semaphore(0), 0
        self._real = desk.workspace.lm.write
        desk.workspace.lm.write = self._write  # type: ignore[method-assign, assignment]

    def _write(self, *prompt: Any, heard: Any = None, copies: Any = None, **how: Any) -> Generation:
        def slowly(row: int, token: int) -> None:
            if self.written:
                assert self.go_on.acquire(timeout=30)
            self.written += 1
            heard(row, token)

        return self._real(*prompt, heard=heard and slowly, **how)


@pytest.fixture
def slow(project: Path) -> Iterator[tuple[str, Slow]]:
    """A server of its own whose LM writes when it is told to, and answers long enough to have several tokens."""
    how = {"answering.max_new_tokens": 12, "selection.threshold": -1.0}
    app = create_app(cmt.open(params=project / "params.yaml", overrides=how))
    with running(app) as url:
        yield url, Slow(app.state.desk)


def test_pieces_come_while_the_answer_is_written(slow: tuple[str, Slow]) -> None:
    url, lm = slow
    with httpx.stream("POST", f"{url}/ask/stream", json={"question": FERRY}, timeout=30) as response:
        blocks = response.iter_lines()
        said = next(line for line in blocks if line.startswith("data"))
        assert lm.written == 1
        lm.go_on.release(100)
        rest = [line for line in blocks if line.startswith("data")]
    *parts, whole = [json.loads(line.removeprefix("data: ")) for line in (said, *rest)]
    assert len(parts) > 1
    assert "".join(parts) == whole["answer"]


def test_openais_client_hears_pieces_before_the_end(slow: tuple[str, Slow]) -> None:
    url, lm = slow
    messages: list[Any] = [{"role": "user", "content": FERRY}]
    with OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as chat:
        with chat.chat.completions.create(model="cmt", messages=messages, stream=True) as stream:
            said = [next(stream).choices[0].delta.content, next(stream).choices[0].delta.content]
            assert said[0] == "" and said[1]
            assert lm.written == 1
            lm.go_on.release(100)
            said += [chunk.choices[0].delta.content for chunk in stream]
        whole = chat.chat.completions.create(model="cmt", messages=messages).choices[0].message.content
    assert len(said) > 4
    assert "".join(piece or "" for piece in said) == whole


@pytest.mark.parametrize("path", ["/ask/stream", "/v1/chat/completions"])
def test_who_goes_away_in_the_middle_of_an_answer_disturbs_nobody(slow: tuple[str, Slow], path: str) -> None:
    url, lm = slow
    spoken = {"model": "cmt", "messages": [{"role": "user", "content": FERRY}], "stream": True}
    body: dict[str, Any] = spoken if path.startswith("/v1") else {"question": FERRY}
    with httpx.stream("POST", url + path, json=body, timeout=30) as response:
        assert any(line.startswith("data") for line in response.iter_lines())
        while not lm.written:
            time.sleep(0.01)
    with ThreadPoolExecutor(3) as pool:  # they wait for an answer that nobody hears
        waiting = [pool.submit(httpx.post, f"{url}/ask", json={"question": MAYOR}, timeout=30) for _ in range(3)]
        lm.go_on.release(100)
        assert {one.result().status_code for one in waiting} == {200}
    assert not lm.desk._waiting and not lm.desk._replying


def test_who_stops_listening_while_waiting_is_not_answered(project: Path) -> None:
    desk = DynamicBatcher(cmt.open(params=project / "params.yaml", overrides={"selection.threshold": -1.0}))
    asked: list[str] = []
    real, first_is_asked = desk.workspace.answerer.stream, Event()

    def heard(question: str, **how: Any) -> Any:
        asked.append(question)
        assert first_is_asked.wait(30)
        return real(question, **how)

    desk.workspace.answerer.stream = heard  # type: ignore[method-assign, assignment]

    async def listen(question: str) -> None:
        async with aclosing(desk.stream(question, None)) as said:
            assert [part async for part in said]

    async def everybody() -> None:
        async with anyio.create_task_group() as stay, anyio.create_task_group() as leave:
            stay.start_soon(listen, "first")
            await anyio.wait_all_tasks_blocked()
            leave.start_soon(listen, "gone")
            stay.start_soon(listen, "second")
            await anyio.wait_all_tasks_blocked()
            leave.cancel_scope.cancel()
            first_is_asked.set()

    anyio.run(everybody)
    assert asked == ["first", "second"]


def test_what_goes_wrong_is_told_in_the_stream(tiny_workspace: Path) -> None:
    desk = DynamicBatcher(cmt.open(params=tiny_workspace / "params.yaml"))

    async def listen() -> None:
        with pytest.raises(cmt.BankError, match="run `cmt update` first"):
            _ = [part async for part in desk.stream(MAYOR, None)]

    anyio.run(listen)


def test_many_at_once_get_the_answers_that_they_get_alone(client: httpx.Client, url: str) -> None:
    questions = [(MAYOR, "2031-02-15"), (MAYOR, "2031-03-01"), (FERRY, "2031-03-01"), (NO_WORD_OF_IT, "2031-03-01")]
    alone = [ask(client, question, as_of=date) for question, date in questions]
    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(lambda q: ask(client, q[0], as_of=q[1]), questions * 8))
    assert together == alone * 8


def test_who_waits_is_answered_together_and_who_left_is_not(project: Path) -> None:
    workspace = cmt.open(params=project / "params.yaml")
    desk, batches, everybody_waits = DynamicBatcher(workspace), list[list[str]](), Event()
    real = workspace.answerer.answer

    def heard(questions: list[str], **how: Any) -> Any:
        batches.append(questions)
        everybody_waits.wait(30)
        return real(questions, **how)

    workspace.answerer.answer = heard  # type: ignore[method-assign, assignment]

    async def one(question: str) -> None:
        reply = await desk.answer(question, None)
        assert reply.answer.question == question

    async def everybody() -> None:
        async with anyio.create_task_group() as stay, anyio.create_task_group() as leave:
            stay.start_soon(one, "first")
            await anyio.wait_all_tasks_blocked()  # the first one is being answered
            for question in ("second", "third"):
                stay.start_soon(one, question)
            leave.start_soon(one, "gone")
            await anyio.wait_all_tasks_blocked()
            leave.cancel_scope.cancel()
            everybody_waits.set()

    anyio.run(everybody)
    assert batches == [["first"], ["second", "third"]]


def test_what_goes_wrong_with_a_batch_is_told_to_everybody_in_it(tiny_workspace: Path) -> None:
    desk = DynamicBatcher(cmt.open(params=tiny_workspace / "params.yaml"))
    refused = []

    async def one() -> None:
        with pytest.raises(cmt.BankError, match="run `cmt update` first"):
            await desk.answer(MAYOR, None)
        refused.append(True)

    async def everybody() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(one)

    anyio.run(everybody)
    assert refused == [True] * 3


def test_the_bank_is_browsed_by_date_and_page(client: httpx.Client) -> None:
    everything = client.get("/documents").json()
    assert (everything["total"], everything["offset"]) == (6, 0)
    assert [entry["doc_id"] for entry in everything["documents"]] == [
        "mayor-2", "hitch", "crane's 100%; --", "raft", "ferry", "mayor-1",
    ]  # fmt: skip
    oldest = everything["documents"][-1]
    assert (oldest["superseded_at"], oldest["memories"]) == ("2031-02-20T07:00:00Z", 1)
    second = client.get("/documents", params={"offset": 4, "limit": 4}).json()
    assert second["documents"] == everything["documents"][4:]
    january = client.get("/documents", params={"since": "2031-01-09", "until": "2031-01-12"}).json()
    assert [entry["doc_id"] for entry in january["documents"]] == ["raft", "ferry"]
    assert client.get("/documents", params={"since": "2032-01-01"}).json()["total"] == 0


@pytest.mark.parametrize("doc_id", ["mayor-2", "crane's 100%; --"])
def test_a_document_comes_with_its_memories(client: httpx.Client, doc_id: str) -> None:
    found = client.get("/document", params={"doc_id": doc_id}).json()
    (memory,) = found["content"]
    assert memory["memory_id"] == f"{doc_id}#0"
    assert memory["tokens"] > 0
    assert memory["text"].startswith(found["title"])


def test_the_memories_of_a_long_document_are_in_the_order_of_its_text(tiny_workspace: Path) -> None:
    sentences = [f"Lamp {number} of the harbour was lit by the keeper at dusk." for number in range(60)]
    long = {"doc_id": "lamps", "published_at": "2031-01-03T07:00:00Z", "title": "Lamps", "text": " ".join(sentences)}
    with (tiny_workspace / "news/documents.jsonl").open("a") as file:
        file.write(json.dumps(long) + "\n")
    with serving(adapt(tiny_workspace)) as url, httpx.Client(base_url=url, timeout=60) as client:
        found = client.get("/document", params={"doc_id": "lamps"}).json()
        listed = {entry["doc_id"]: entry["memories"] for entry in client.get("/documents").json()["documents"]}
    assert listed["lamps"] == found["memories"] == len(found["content"]) > 10
    text = " ".join(memory["text"].removeprefix("Lamps\n") for memory in found["content"])
    assert [int(number) for number in re.findall(r"Lamp (\d+)", text)] == list(range(60))


@pytest.mark.parametrize("doc_id", ["", "nobody", "' OR '1'='1", "../params.yaml", "mayor-2#0"])
def test_an_unknown_document_is_not_found(client: httpx.Client, doc_id: str) -> None:
    response = client.get("/document", params={"doc_id": doc_id})
    assert response.status_code == 404
    assert response.json()["error"]["message"] == f"document {doc_id!r} is not in the bank"


def test_the_range_is_that_of_the_stream(client: httpx.Client) -> None:
    assert client.get("/range").json() == {
        "first": "2031-01-06T07:00:00Z",
        "last": "2031-02-20T07:00:00Z",
        "documents": 6,
    }


def test_health_names_what_answers(client: httpx.Client, project: Path) -> None:
    health = client.get("/health").json()
    model = cmt.open(params=project / "params.yaml").model
    assert (health["status"], health["rows"], health["compressor"]) == ("ok", 6, model.digest)
    assert health["version"] == cmt.__version__


def test_metrics_count_what_was_done(project: Path) -> None:
    with serving(project) as url, httpx.Client(base_url=url, timeout=30) as client:
        for moment in ("2031-03-01", BEFORE_ALL, BEFORE_ALL):
            ask(client, MAYOR, as_of=moment)
        client.get("/documents/any/path/at/all")
        client.post("/ask", json={"question": ""})
        lines = client.get("/metrics").text.splitlines()
    assert 'cmt_requests_total{method="POST",route="/ask",status="200"} 3.0' in lines
    assert 'cmt_requests_total{method="POST",route="/ask",status="422"} 1.0' in lines
    assert 'cmt_requests_total{method="GET",route="",status="404"} 1.0' in lines
    assert "cmt_answer_seconds_count 3.0" in lines
    assert "cmt_abstentions_total 2.0" in lines
    assert "cmt_bank_rows 6.0" in lines


BAD_QUESTIONS: list[tuple[dict[str, Any], str]] = [
    ({}, "question: Field required"),
    ({"question": ""}, "question: the question is empty: write one"),
    ({"question": " \n\x1b"}, "question: the question is empty: write one"),
    (
        {"question": "x" * (MAX_QUESTION_CHARACTERS + 1)},
        "question: the question has 2,001 characters: at most 2,000 are taken",
    ),
    (
        {"question": MAYOR, "as_of": "yesterday"},
        "as_of: 'yesterday' is not a date-time; write 2031-02-15T06:00:00Z, or",
    ),
    ({"question": MAYOR, "as_of": "2031-02-30"}, "as_of: '2031-02-30' is not a date-time"),
    ({"question": MAYOR, "as_of": "2031-02-15T06:00:00"}, "as_of: 2031-02-15T06:00:00 has no time zone"),
    ({"question": MAYOR, "as_of": ""}, "as_of: '' is not a date-time"),
    ({"question": MAYOR, "as_of": 7}, "as_of: '7' is not a date-time"),
    ({"question": MAYOR, "asof": "2031-02-15"}, "asof: Extra inputs are not permitted"),
]


@pytest.mark.parametrize(("body", "reason"), BAD_QUESTIONS, ids=lambda value: str(value)[:40])
@pytest.mark.parametrize("path", ["/ask", "/ask/stream"])
def test_a_question_that_cannot_be_used_is_refused_with_the_reason(
    client: httpx.Client, path: str, body: dict[str, Any], reason: str
) -> None:
    response = client.post(path, json=body)
    assert response.status_code == 422
    assert response.json()["error"]["message"].startswith(reason)


@pytest.mark.parametrize(
    ("query", "field"),
    [("since=soon", "since"), ("until=2031", "until"), ("limit=0", "limit"), ("offset=-1", "offset")],
)
def test_bad_filters_are_named(client: httpx.Client, query: str, field: str) -> None:
    response = client.get(f"/documents?{query}")
    assert response.status_code == 422
    assert response.json()["error"]["param"] == field


def test_what_is_no_json_or_no_path_is_refused_in_the_same_shape(client: httpx.Client) -> None:
    for response, status in (
        (client.post("/ask", content="{", headers={"Content-Type": "application/json"}), 422),
        (client.post("/ask", content=json.dumps({"question": MAYOR}), headers={"Content-Type": "text/plain"}), 422),
        (client.get("/nothing"), 404),
        (client.get("/web/../../params.yaml"), 404),
        (client.get("/web/%2e%2e/%2e%2e/params.yaml"), 404),
        (client.get("/ask"), 405),
    ):
        assert response.status_code == status
        assert response.json()["error"]["message"]


@pytest.mark.parametrize(
    "question", ["'; DROP TABLE memories; --", "<script>alert(1)</script>", "% _ \\ *", "?", "🦆 🦆"]
)
def test_any_question_is_only_a_question(client: httpx.Client, question: str) -> None:
    assert ask(client, question)["question"] == question
    assert client.get("/health").json()["rows"] == 6


def test_without_a_bank_every_door_says_what_to_do_and_opens_when_there_is_one(tiny_workspace: Path) -> None:
    with serving(tiny_workspace) as url, httpx.Client(base_url=url, timeout=60) as client:
        spoken = {"model": "cmt", "messages": [{"role": "user", "content": MAYOR}], "stream": True}
        for response in (
            client.get("/health"),
            client.get("/range"),
            client.get("/documents"),
            client.post("/ask", json={"question": MAYOR}),
            client.post("/ask/stream", json={"question": MAYOR}),
            client.post("/v1/chat/completions", json=spoken),
        ):
            assert response.status_code == 503
            assert "run `cmt update` first" in response.json()["error"]["message"]
        assert "cmt_bank_rows NaN" in client.get("/metrics").text
        adapt(tiny_workspace)
        assert "mayor-2" in doc_ids(ask(client, MAYOR))
        assert client.get("/range").json()["documents"] == 6


def test_a_round_while_the_server_runs_is_seen(tiny_workspace: Path) -> None:
    workspace = cmt.open(params=tiny_workspace / "params.yaml")
    workspace.ingest()
    workspace.update()
    with serving(tiny_workspace) as url, httpx.Client(base_url=url, timeout=60) as client:
        assert (client.get("/documents").json()["total"], doc_ids(ask(client, MAYOR)) & {"mayor-1"}) == (3, {"mayor-1"})
        workspace.update()
        assert (client.get("/documents").json()["total"], doc_ids(ask(client, MAYOR)) & {"mayor-1"}) == (6, set())


def test_the_bank_of_another_compressor_is_not_answered_from(project: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(project, tmp_path / "project"))
    workspace = cmt.open(params=folder / "params.yaml")
    other = shutil.copytree(workspace.params.compressor.path, tmp_path / "other")
    (other / "config.json").write_text((other / "config.json").read_text() + "\n")
    params = (folder / "params.yaml").read_text()
    (folder / "params.yaml").write_text(params.replace(str(workspace.params.compressor.path), str(other)))
    with serving(folder) as url, httpx.Client(base_url=url, timeout=30) as client:
        response = client.post("/ask", json={"question": MAYOR})
    assert response.status_code == 503
    assert "run `cmt update --all`" in response.json()["error"]["message"]


def test_another_compressor_that_takes_over_is_noticed(project: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(project, tmp_path / "project"))
    other = shutil.copytree(cmt.open(params=folder / "params.yaml").params.compressor.path, tmp_path / "other")
    (other / "config.json").write_text((other / "config.json").read_text() + "\n")
    with serving(folder) as url, httpx.Client(base_url=url, timeout=30) as client:
        assert client.get("/health").status_code == 200
        later = cmt.open(params=folder / "params.yaml", overrides={"compressor.path": str(other)})
        while later.pending():
            later.update()
        for response in (
            client.get("/health"),
            client.get("/documents"),
            client.post("/ask", json={"question": MAYOR}),
            client.post("/ask/stream", json={"question": MAYOR}),
        ):
            assert response.status_code == 503
            message = response.json()["error"]["message"]
            assert f"the bank is that of compressor {later.model.digest[:12]}" in message
        assert "cmt_bank_rows NaN" in client.get("/metrics").text


def test_a_bank_that_went_away_is_told_at_every_door(project: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(project, tmp_path / "project"))
    with serving(folder) as url, httpx.Client(base_url=url, timeout=30) as client:
        assert ask(client, MAYOR)["known"]
        (folder / "data/bank").rename(folder / "data/elsewhere")
        for path in ("/health", "/range", "/documents", "/document?doc_id=ferry"):
            assert client.get(path).status_code == 503, path
        for path in ("/ask", "/ask/stream"):
            assert client.post(path, json={"question": MAYOR}).status_code == 503, path
        assert "cmt_bank_rows NaN" in client.get("/metrics").text
        (folder / "data/elsewhere").rename(folder / "data/bank")
        assert ask(client, MAYOR)["known"]


def test_health_is_bad_where_the_bank_has_other_rows_than_the_parameters_say(project: Path) -> None:
    workspace = cmt.open(params=project / "params.yaml", overrides={"bank.codes": "int4"})
    with running(create_app(workspace)) as url, httpx.Client(base_url=url, timeout=30) as client:
        response = client.get("/health")
    assert response.status_code == 503
    assert "has codes int8, not int4" in response.json()["error"]["message"]


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_that_is_too_large_is_refused_before_it_is_read(client: httpx.Client, announced: bool) -> None:
    body = json.dumps({"question": "who? " * 2_000_000}).encode()
    content = body if announced else (body[i : i + 100_000] for i in range(0, len(body), 100_000))
    response = client.post("/ask", content=content, headers={"Content-Type": "application/json"})
    assert response.status_code == 413
    assert "more than 1,000,000 bytes" in response.json()["error"]["message"]


def test_a_stream_has_no_line_ends_but_its_own(tiny_workspace: Path) -> None:
    odd = "The lighthouse keeper\u2028of Brant\u0085is Odo Finch."
    row = {"doc_id": "odd", "published_at": "2031-02-26T07:00:00Z", "text": odd}
    with (tiny_workspace / "news/documents.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    adapt(tiny_workspace)
    with serving(tiny_workspace) as url, httpx.Client(base_url=url, timeout=60) as client:
        said = client.post("/ask/stream", json={"question": "Who is the lighthouse keeper of Brant?"})
    assert said.text.isascii()
    name, answered = events(said)[-1]
    assert name == "answer"
    assert any("\u2028" in source["text"] for source in answered["sources"])


def test_only_local_names_are_answered_to(url: str) -> None:
    port = url.rpartition(":")[2]
    for host, status in (
        ("127.0.0.1", 200),
        (f"localhost:{port}", 200),
        (f"[::1]:{port}", 200),
        ("evil.example", 400),
        ("evil.example:80", 400),
    ):
        assert httpx.get(f"{url}/health", headers={"Host": host}).status_code == status


def test_every_response_keeps_the_browser_here(client: httpx.Client) -> None:
    for path in ("/", "/docs", "/openapi.json", "/web/style.css", "/nothing", "/range"):
        headers = client.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers


def test_the_pages_name_nothing_beyond_this_server(client: httpx.Client) -> None:
    for page in ("/", "/docs"):
        text = client.get(page).text
        assert not re.search(r"<(script|style)>|\son\w+=|\sstyle=", text)
        links = re.findall(r'(?:src|href)="([^"#]+)', text)
        assert links
        for link in links:
            assert "//" not in link
            assert client.get(f"/{link.removeprefix('./')}").status_code == 200
    scripts = [path for path in (Path(cmt.__file__).parent / "serving/web").iterdir() if path.suffix == ".js"]
    assert scripts
    assert not any(re.search(r"innerHTML|outerHTML|document\.write|eval\(|https?://", s.read_text()) for s in scripts)


def test_the_interface_is_described(client: httpx.Client) -> None:
    api = client.get("/openapi.json").json()
    assert set(api["paths"]) == {
        "/ask", "/ask/stream", "/range", "/documents", "/document", "/health", "/metrics",
        "/v1/models", "/v1/models/{name}", "/v1/chat/completions",
    }  # fmt: skip
    for methods in api["paths"].values():
        for operation in methods.values():
            assert operation["description"]
            refused = operation["responses"].get("422", {}).get("content", {})
            assert "HTTPValidationError" not in json.dumps(refused)


def test_openais_client_gets_an_answer_with_sources(chat: OpenAI, client: httpx.Client) -> None:
    messages: list[Any] = [
        {"role": "system", "content": "Answer like a pirate."},
        {"role": "user", "content": FERRY},
        {"role": "assistant", "content": "six crowns"},
        {"role": "user", "content": [{"type": "text", "text": MAYOR}]},
    ]
    said = chat.chat.completions.create(model="cmt", messages=messages, temperature=0.7, max_tokens=5)
    answered = ask(client, MAYOR)
    assert said.choices[0].message.content == answered["answer"]
    assert (said.choices[0].finish_reason, said.object, said.model) == ("stop", "chat.completion", "cmt")
    extra = said.model_extra or {}
    assert (extra["sources"], extra["known"]) == (answered["sources"], True)
    assert said.usage
    assert said.usage.total_tokens == said.usage.prompt_tokens + said.usage.completion_tokens
    assert said.usage.prompt_tokens > 5


def test_openais_client_can_ask_as_of_a_date(chat: OpenAI) -> None:
    early = chat.chat.completions.create(
        model="cmt", messages=[{"role": "user", "content": MAYOR}], extra_body={"as_of": "2031-02-15"}
    )
    assert {source["doc_id"] for source in (early.model_extra or {})["sources"]} & {"mayor-1", "mayor-2"} == {"mayor-1"}


def test_openais_client_can_stream(chat: OpenAI, client: httpx.Client) -> None:
    answered = ask(client, MAYOR)
    with chat.chat.completions.create(
        model="cmt",
        messages=[{"role": "user", "content": MAYOR}],
        stream=True,
        stream_options={"include_usage": True},
    ) as stream:
        chunks = list(stream)
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert deltas[0].role == "assistant"
    assert "".join(delta.content or "" for delta in deltas) == answered["answer"]
    *_, last, usage = chunks
    assert last.choices[0].finish_reason == "stop"
    assert (last.model_extra or {})["sources"] == answered["sources"]
    assert usage.usage
    assert usage.usage.prompt_tokens > 0
    assert len({chunk.id for chunk in chunks}) == 1


def test_openais_client_finds_the_model(chat: OpenAI) -> None:
    (model,) = chat.models.list()
    assert (model.id, chat.models.retrieve("cmt")) == ("cmt", model)
    with pytest.raises(openai.NotFoundError, match="model 'gpt' is not served here: ask for 'cmt'"):
        chat.models.retrieve("gpt")
    with pytest.raises(openai.NotFoundError):
        chat.chat.completions.create(model="gpt", messages=[{"role": "user", "content": MAYOR}])


@pytest.mark.parametrize(
    ("messages", "more", "reason"),
    [
        ([], {}, "messages: List should have at least 1 item"),
        ([{"role": "user", "content": " "}], {}, "the question is empty"),
        ([{"role": "system", "content": "Be kind."}], {}, "the question is empty"),
        ([{"role": "user", "content": MAYOR}], {"as_of": "soon"}, "as_of: 'soon' is not a date-time"),
    ],
)
def test_openais_client_learns_what_is_wrong(chat: OpenAI, messages: Any, more: dict[str, str], reason: str) -> None:
    with pytest.raises(openai.BadRequestError, match=re.escape(reason)):
        chat.chat.completions.create(model="cmt", messages=messages, extra_body=more)


def test_plain_dates_are_whole_days_in_utc() -> None:
    assert start_of("2031-02-15") == datetime(2031, 2, 15, tzinfo=UTC)
    assert end_of("2031-02-15") == datetime(2031, 2, 15, 23, 59, 59, 999999, tzinfo=UTC)
    assert (
        start_of("2031-02-15T06:00:00+02:00")
        == end_of("2031-02-15T06:00:00+02:00")
        == datetime(2031, 2, 15, 4, tzinfo=UTC)
    )
    assert end_of(None) is None
    assert question_of("  two\nlines\x1b ") == "two lines"


def test_the_windows_that_were_read_go_out_with_the_source() -> None:
    source = Source(
        "d", None, datetime(2031, 1, 1, tzinfo=UTC), 0.5, 0.75, "Moss won.", (Span(0, 4, 0.75),), Span(5, 8, 0.5)
    )
    out = SourceOut.of(source).model_dump()
    assert out["spans"] == [{"first": 0, "last": 4, "probability": 0.75}]
    assert out["quote"] == {"first": 5, "last": 8, "probability": 0.5}


@pytest.fixture
def process(project: Path) -> Iterator[subprocess.Popen[str]]:
    """`cmt serve` as a person starts it."""
    command = [sys.executable, "-m", "cmt", "--params", str(project / "params.yaml"), "serve", "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as started:
        yield started
        started.kill()


def test_the_command_says_where_it_listens_and_ends_with_ctrl_c(process: subprocess.Popen[str]) -> None:
    assert process.stdout
    said = "".join(process.stdout.readline() for _ in range(3))
    url = json.loads(said)["url"]
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", url)
    assert httpx.post(f"{url}/ask", json={"question": MAYOR}, timeout=30).json()["known"]
    process.send_signal(2)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 0
    assert re.fullmatch(r"load: [\d.]+ s\n", stderr)


def test_a_port_that_is_taken_is_named(project: Path, url: str) -> None:
    port = url.rpartition(":")[2]
    command = [sys.executable, "-m", "cmt", "--params", str(project / "params.yaml"), "serve", "--port", port]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"error: cannot listen on 127.0.0.1 port {port} (Address already in use)" in done.stderr
