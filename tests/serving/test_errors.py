"""Error responses: their status, and the one shape of their bodies."""

import json
import logging
from pathlib import Path
from unittest.mock import Mock

import httpx
import pytest
from fastapi import FastAPI

from cmt.errors import BankError, ConfigError, ModelError
from cmt.serving._errors import HANDLERS
from cmt.serving._metrics import Metrics
from cmt.serving._request_log import RequestLog
from cmt.serving.app import create_app
from tests.helpers.http import MAYOR, chat_body, error_message, events
from tests.helpers.projects import open_workspace
from tests.helpers.servers import running


def test_invalid_requests_have_the_same_shape_of_error(client: httpx.Client) -> None:
    for response, status in (
        (client.post("/ask", content="{", headers={"Content-Type": "application/json"}), 422),
        (client.get("/nothing"), 404),
        (client.get("/web/../../params.yaml"), 404),
        (client.get("/web/%2e%2e/%2e%2e/params.yaml"), 404),
        (client.get("/ask"), 405),
    ):
        assert response.status_code == status
        assert error_message(response)
    broken = client.post("/ask", content="nonsense", headers={"Content-Type": "application/json"})
    assert (error_message(broken), broken.json()["error"]["param"]) == (
        "Invalid JSON: Expecting value",
        None,
    )
    for content, reason in (
        (
            "{'question': 'Où?'}".encode("latin-1"),
            "Invalid JSON: 'utf-8' codec can't decode byte 0xf9",
        ),
        (b"[" * 100_000, "Invalid JSON: maximum recursion depth exceeded"),
        (b"", "the body is not a JSON object"),
    ):
        for path, status in (("/ask", 422), ("/v1/chat/completions", 400)):
            response = client.post(
                path, content=content, headers={"Content-Type": "application/json"}
            )
            assert (response.status_code, error_message(response)[: len(reason)]) == (
                status,
                reason,
            )
    untyped = client.post(
        "/ask", content=json.dumps({"question": MAYOR}), headers={"Content-Type": "text/plain"}
    )
    assert untyped.status_code == 422
    assert "send one with Content-Type: application/json" in error_message(untyped)


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (ConfigError("selection.top_k is 0"), 422, "invalid_request_error"),
        (BankError("no bank"), 503, "server_error"),
        (ModelError("no compressor"), 500, "server_error"),
    ],
    ids=["config", "bank", "model"],
)
def test_an_error_of_cmt_is_sent_with_its_message(error: Exception, status: int, kind: str) -> None:
    response = response_to(error)
    assert response.status_code == status
    assert response.json() == {
        "error": {"message": str(error), "type": kind, "param": None, "code": None}
    }


def test_an_unexpected_error_is_sent_without_its_message() -> None:
    response = response_to(RuntimeError("secret"))
    assert response.status_code == 500
    assert (
        error_message(response)
        == "internal error (RuntimeError): the server's log has the traceback"
    )
    assert len(response.headers["x-request-id"]) == 32


@pytest.mark.parametrize(
    ("error", "message", "logged"),
    [
        (
            RuntimeError("secret"),
            "internal error (RuntimeError): the server's log has the traceback",
            "secret",
        ),
        (BankError("bank /srv/news/bank is damaged"), "bank bank is damaged", "/srv/news/bank"),
    ],
    ids=["unexpected", "bank"],
)
def test_an_error_within_a_stream_is_its_last_event_and_logged(
    project: Path, caplog: pytest.LogCaptureFixture, error: Exception, message: str, logged: str
) -> None:
    app = create_app(open_workspace(project).project)
    app.state.batcher.project.active.answerer().stream = Mock(side_effect=error)
    with running(app) as url, httpx.Client(base_url=url, timeout=30) as client:
        streamed = client.post("/ask/stream", json={"question": MAYOR})
        assert events(streamed) == [("error", {"message": message})]
        assert logged in caplog.text
        caplog.clear()
        *_, chunk = (
            client.post("/v1/chat/completions", json=chat_body(MAYOR, stream=True))
            .text.strip()
            .split("\n")
        )
        assert json.loads(chunk.removeprefix("data: "))["error"]["message"] == message
        assert logged in caplog.text


def test_an_error_of_cmt_names_no_folder_of_the_server() -> None:
    error = BankError(
        "no bank in /srv/news/data/bank: run `cmt update`, see '/srv/a.b/x' and"
        " s3://bucket/news/bank, /docs"
    )
    expected = "no bank in bank: run `cmt update`, see 'x' and s3://bucket/news/bank, /docs"
    assert error_message(response_to(error)) == expected


def response_to(error: Exception) -> httpx.Response:
    """The response of a server with HANDLERS and a request log to a request that raises `error`."""
    app = FastAPI()
    app.add_middleware(
        RequestLog, handler=logging.NullHandler(), questions=False, metrics=Metrics(rows=lambda: 0)
    )
    for kind, handler in HANDLERS.items():
        app.add_exception_handler(kind, handler)

    @app.get("/")
    def fail() -> None:
        raise error

    with running(app) as url:
        return httpx.get(url)
