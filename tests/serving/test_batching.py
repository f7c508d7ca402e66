"""Dynamic batching: which questions are answered together, clients that disconnect, and errors."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any
from unittest.mock import Mock

import anyio
import httpx
import pytest

import cmt
from cmt.serving._batching import DynamicBatcher, _Request
from cmt.serving.app import create_app
from tests.helpers.http import FERRY, MAYOR, UNANSWERABLE, ask, chat_body, error_message
from tests.helpers.paused import PausedServer
from tests.helpers.servers import running


def test_pieces_are_sent_while_the_answer_is_generated(paused: PausedServer) -> None:
    with httpx.stream(
        "POST", f"{paused.url}/ask/stream", json={"question": FERRY}, timeout=30
    ) as response:
        lines = response.iter_lines()
        first = next(line for line in lines if line.startswith("data"))
        assert paused.tokens == 1
        paused.resume()
        rest = [line for line in lines if line.startswith("data")]
    *pieces, answered = [json.loads(line.removeprefix("data: ")) for line in (first, *rest)]
    assert len(pieces) > 1
    assert "".join(pieces) == answered["answer"]


@pytest.mark.parametrize(
    ("path", "body"),
    [("/ask/stream", {"question": FERRY}), ("/v1/chat/completions", chat_body(FERRY, stream=True))],
    ids=["ask", "openai"],
)
def test_a_client_that_disconnects_during_an_answer_affects_no_other(
    paused: PausedServer, path: str, body: dict[str, Any]
) -> None:
    with httpx.stream("POST", paused.url + path, json=body, timeout=30) as response:
        assert any(line.startswith("data") for line in response.iter_lines())
        while not paused.tokens:
            time.sleep(0.01)
    with ThreadPoolExecutor(3) as pool:  # these wait for the answer whose client has disconnected
        asking = [
            pool.submit(httpx.post, f"{paused.url}/ask", json={"question": MAYOR}, timeout=30)
            for _ in range(3)
        ]
        paused.resume()
        assert {future.result().status_code for future in asking} == {200}
    assert not paused.batcher._queue and not paused.batcher._streams


def test_concurrent_questions_get_the_answers_that_they_get_alone(client: httpx.Client) -> None:
    requests = [
        (MAYOR, "2031-02-15"),
        (MAYOR, "2031-03-01"),
        (FERRY, "2031-03-01"),
        (UNANSWERABLE, "2031-03-01"),
    ]
    alone = [ask(client, question, as_of=date) for question, date in requests]
    with ThreadPoolExecutor(16) as pool:
        together = list(
            pool.map(lambda request: ask(client, request[0], as_of=request[1]), requests * 4)
        )
    assert together == alone * 4


def test_queued_questions_are_answered_in_one_batch_without_those_of_clients_that_left(
    project: Path,
) -> None:
    workspace = cmt.open(params=project / "params.yaml")
    batcher, batches, all_queued = DynamicBatcher(workspace.project), list[list[str]](), Event()
    answer = workspace.project.active.answerer().answer

    def recorded_answer(questions: list[str], **options: Any) -> Any:
        batches.append(questions)
        all_queued.wait(30)
        return answer(questions, **options)

    workspace.project.answerer.answer = recorded_answer  # type: ignore[method-assign, assignment]
    workspace.project.answerer.stream = stream = Mock()  # type: ignore[method-assign]

    async def request(question: str) -> None:
        served = await batcher.answer(question, None)
        assert served.answered.question == question

    async def listen(question: str) -> None:
        async with aclosing(batcher.stream(question, None)) as parts:
            assert [part async for part in parts]

    async def scenario() -> None:
        async with anyio.create_task_group() as staying, anyio.create_task_group() as leaving:
            staying.start_soon(request, "first")
            await anyio.wait_all_tasks_blocked()  # the first question is being answered
            for question in ("second", "third"):
                staying.start_soon(request, question)
            leaving.start_soon(request, "cancelled")
            leaving.start_soon(listen, "closed")
            await anyio.wait_all_tasks_blocked()
            leaving.cancel_scope.cancel()
            all_queued.set()

    anyio.run(scenario)
    assert batches == [["first"], ["second", "third"]]
    stream.assert_not_called()


def test_a_full_queue_refuses_a_question_and_says_how_long_to_wait(project: Path) -> None:
    workspace = cmt.open(params=project / "params.yaml", overrides={"serving.queue_length": 2})
    app = create_app(workspace.project)
    batcher = app.state.batcher
    batcher._seconds = 1.4
    with running(app) as url, httpx.Client(base_url=url, timeout=30) as client:
        waiting = [_Request(MAYOR, None) for _ in range(2)]
        batcher._queue.extend(waiting)
        bodies = {"/ask": {"question": FERRY}, "/ask/stream": {"question": FERRY}}
        bodies["/v1/chat/completions"] = chat_body(FERRY, stream=True)
        for path, body in bodies.items():
            refused = client.post(path, json=body)
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "3")
            assert error_message(refused) == (
                "2 questions are waiting: try again in 3 s, or raise serving.queue_length"
            )
            assert refused.json()["error"]["type"] == "rate_limit_error"
        batcher._queue.popleft()
        assert client.post("/ask", json={"question": FERRY}).status_code == 200
    assert waiting[1].outcome.done() or waiting[1] in batcher._queue
    workspace.params.serving.__dict__["queue_length"] = 0
    batcher._queue.extend(_Request(MAYOR, None) for _ in range(100))
    batcher.check_queue()


def test_the_error_of_a_batch_is_raised_for_each_of_its_requests(tiny_workspace: Path) -> None:
    batcher = DynamicBatcher(cmt.open(params=tiny_workspace / "params.yaml").project)
    refused = []

    async def request(*, streamed: bool) -> None:
        with pytest.raises(cmt.BankError, match="run `cmt update` first"):
            _ = (
                [p async for p in batcher.stream(MAYOR, None)]
                if streamed
                else await batcher.answer(MAYOR, None)
            )
        refused.append(True)

    async def scenario() -> None:
        async with anyio.create_task_group() as group:
            for streamed in (False, False, True):
                group.start_soon(partial(request, streamed=streamed))

    anyio.run(scenario)
    assert refused == [True] * 3
