"""`/mcp` of `cmt serve`, with the official MCP client and raw requests."""

import gc
import json
import logging
import shutil
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import anyio
import httpx
import pytest
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp.server.streamable_http import StreamableHTTPServerTransport
from mcp.shared._httpx_utils import create_mcp_http_client

from cmt.serving.app import create_app
from cmt.serving.tokens import TokenFile
from tests.helpers.changes import find, record
from tests.helpers.http import MAYOR, error_message
from tests.helpers.projects import FEBRUARY, open_workspace
from tests.helpers.servers import running, serving, serving_client

T = TypeVar("T")
READING = {"ask", "history", "changes", "documents", "document", "status"}
LIST_TOOLS = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
HEADERS = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}


def talk(
    url: str, speak: Callable[[Client], Awaitable[T]], *, token: str = "", mode: str = "auto"
) -> T:
    """What `speak` returns about a connected client."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}

    async def connect() -> T:
        async with (
            create_mcp_http_client(headers=headers) as http,
            Client(streamable_http_client(f"{url}/mcp", http_client=http), mode=mode) as client,
        ):
            return await speak(client)

    return anyio.run(connect)


def call(url: str, tool: str, *, token: str = "", mode: str = "auto", **arguments: Any) -> Any:
    """The structured result of a tool, or the message of its error."""
    result = talk(url, lambda client: client.call_tool(tool, arguments), token=token, mode=mode)
    return result.content[0].text if result.is_error else result.structured_content


def tools(url: str, *, token: str = "", mode: str = "auto") -> set[str]:
    """The names of the tools that a client sees."""
    listed = talk(url, lambda client: client.list_tools(), token=token, mode=mode)
    return {tool.name for tool in listed.tools}


class Guarded(NamedTuple):
    """A running server with tokens."""

    url: str
    folder: Path
    reader: str  # a token of the scope `ask`
    desk: str  # of the scope `admin`

    def log(self) -> list[dict[str, Any]]:
        """The entries of the request log."""
        lines = (self.folder / "requests.log").read_text().splitlines()
        return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def guarded(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = Path(shutil.copytree(project, tmp_path_factory.mktemp("guarded") / "project"))
    file = TokenFile(folder / "tokens.json")
    reader = file.add("reader", scope="ask")
    desk = file.add("desk", scope="admin", source="The Desk")
    settings = {
        "serving__token_file": str(file.path),
        "serving__request_log": str(folder / "requests.log"),
    }
    with running(create_app(open_workspace(folder, **settings).project)) as url:
        yield Guarded(url, folder, reader, desk)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_a_client_asks_and_reads_over_http(url: str, client: httpx.Client, mode: str) -> None:
    answer = call(url, "ask", question=MAYOR, as_of="2031-01-31", mode=mode)["untrusted"]
    body = {"question": MAYOR, "as_of": "2031-01-31"}
    assert answer == client.post("/ask", json=body).json()
    assert call(url, "status", mode=mode)["rows"] == client.get("/health").json()["rows"]
    resource = talk(url, lambda one: one.read_resource("cmt://documents/mayor-1"), mode=mode)
    assert json.loads(resource.contents[0].text)["untrusted"]["doc_id"] == "mayor-1"
    assert call(url, "ask", question=" ", mode=mode) == "question: the question is empty: write one"


def test_the_model_the_queue_and_the_bank_are_those_of_the_other_routes(project: Path) -> None:
    app = create_app(open_workspace(project).project)
    with running(app) as url:
        call(url, "ask", question=MAYOR)
        exposition = httpx.get(f"{url}/metrics").text
        assert "cmt_answer_seconds_count 1.0" in exposition
        assert 'route="/mcp",status="200"' in exposition


def test_without_tokens_nothing_can_be_changed(url: str) -> None:
    assert tools(url) == READING
    assert "Unknown tool: forget" in call(url, "forget", doc_ids=["ferry"])


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_only_the_scope_admin_sees_and_calls_the_tools_that_change_the_memory(
    guarded: Guarded, mode: str
) -> None:
    assert tools(guarded.url, token=guarded.reader, mode=mode) == READING
    refused: dict[str, Any] = {"ingest": {"text": "News."}, "forget": {"doc_ids": ["ferry"]}}
    for tool, arguments in refused.items():
        message = call(guarded.url, tool, token=guarded.reader, mode=mode, **arguments)
        assert f"Unknown tool: {tool}" in message
    assert call(guarded.url, "document", token=guarded.reader, doc_id="ferry")["untrusted"]
    assert tools(guarded.url, token=guarded.desk, mode=mode) == READING | {"ingest", "forget"}


def test_changes_are_found_by_their_subject_and_dates(adapted_workspace: Path) -> None:
    workspace = open_workspace(adapted_workspace)
    change = replace(find(workspace), holds_from=datetime(2031, 5, 1, tzinfo=UTC))
    record(workspace, FEBRUARY, change)  # published on 20 February
    with serving(adapted_workspace) as url:
        cases: list[tuple[dict[str, Any], bool]] = [
            ({"subject": "Who is the mayor?"}, True),
            ({"subject": "Ellery Moss"}, True),
            ({"subject": "mayor of the ferry"}, False),
            ({"since": "2031-02-20", "until": "2031-02-20"}, True),
            ({"since": "2031-03-01"}, True),
            ({"since": "2031-03-01", "until": "2031-04-30"}, False),
            ({"until": "2031-02-19"}, False),
            ({"subject": "mayor", "doc_ids": ["ferry"]}, False),
        ]
        for arguments, is_found in cases:
            found = call(url, "changes", **arguments)["untrusted"]
            assert [one["id"] for one in found] == [change.id] * is_found, arguments
            if "doc_ids" not in arguments:
                assert found == httpx.get(f"{url}/changes", params=arguments).json()
        assert "since: 'soon' is not a date" in call(url, "changes", since="soon")


def test_a_document_is_ingested_with_the_source_of_the_token_and_forgotten(
    guarded: Guarded,
) -> None:
    row = {"text": "The kiosk opens at nine.", "doc_id": "kiosk", "published_at": "2031-03-01"}
    assert call(guarded.url, "ingest", token=guarded.desk, **row)["accepted"] == 1
    stored = open_workspace(guarded.folder).project.store.all_documents().to_pylist()[-1]
    assert (stored["doc_id"], stored["source"]) == ("kiosk", "The Desk")
    assert call(guarded.url, "forget", token=guarded.desk, doc_ids=["raft"])["rows"] == 1
    assert "'raft' is not in the bank" in call(
        guarded.url, "document", token=guarded.reader, doc_id="raft"
    )


@pytest.mark.parametrize("token", ["", "wrong"])
def test_a_missing_or_wrong_token_is_refused(guarded: Guarded, token: str) -> None:
    refusal = pytest.RaisesExc(MCPError, match="Server returned an error response")
    with pytest.RaisesGroup(refusal, flatten_subgroups=True):
        tools(guarded.url, token=token)
    headers = {**HEADERS, **({"Authorization": f"Bearer {token}"} if token else {})}
    response = httpx.post(f"{guarded.url}/mcp", json=LIST_TOOLS, headers=headers)
    assert response.status_code == 401
    assert response.headers["www-authenticate"].startswith('Bearer realm="cmt"')


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("https://example.org", 403),
        ("http://127.0.0.1:1", 403),
        ("null", 403),
        ("http://[", 403),
        ("", 403),
        (None, 200),
    ],
)
def test_a_page_of_another_site_is_refused(url: str, origin: str | None, status: int) -> None:
    headers = HEADERS if origin is None else {**HEADERS, "Origin": origin}
    response = httpx.post(f"{url}/mcp", json=LIST_TOOLS, headers=headers)
    assert response.status_code == status
    own = {**HEADERS, "Origin": url}
    assert httpx.post(f"{url}/mcp", json=LIST_TOOLS, headers=own).status_code == 200


def test_another_host_is_refused(url: str) -> None:
    headers = {**HEADERS, "Host": "example.org"}
    response = httpx.post(f"{url}/mcp", json=LIST_TOOLS, headers=headers)
    assert response.status_code == 400
    assert "'example.org' is not served here" in error_message(response)


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_over_the_limit_is_refused(url: str, declared: bool) -> None:
    body = json.dumps({**LIST_TOOLS, "params": {"cursor": "x" * 1_000_000}}).encode()
    content = body if declared else (body[i : i + 100_000] for i in range(0, len(body), 100_000))
    response = httpx.post(f"{url}/mcp", content=content, headers=HEADERS)
    assert response.status_code == 413
    assert "more than 1,000,000 bytes" in error_message(response)


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        ("{", {}, 400),
        ("[]", {}, 400),
        ("{}", {"Content-Type": "text/plain"}, 400),  # what a page may send without asking
        ("{}", {"Accept": "text/html"}, 406),
    ],
)
@pytest.mark.parametrize("version", ["2025-11-25", "2026-07-28"])
def test_what_is_no_request_of_the_protocol_is_refused(
    url: str, content: str, headers: dict[str, str], status: int, version: str
) -> None:
    sent = {**HEADERS, "MCP-Protocol-Version": version, **headers}
    assert httpx.post(f"{url}/mcp", content=content, headers=sent).status_code == status


def test_there_are_no_sessions_and_no_streams(url: str) -> None:
    for method in ("GET", "DELETE"):
        response = httpx.request(method, f"{url}/mcp", headers={"Accept": "text/event-stream"})
        assert (response.status_code, response.headers["allow"]) == (405, "POST")
    listen = {**LIST_TOOLS, "method": "subscriptions/listen", "params": {}}
    for version in ("2025-11-25", "2026-07-28"):
        headers = {**HEADERS, "MCP-Protocol-Version": version}
        response = httpx.post(f"{url}/mcp", json=listen, headers=headers, timeout=10)
        assert "mcp-session-id" not in response.headers
        assert "error" in response.json()


def test_clients_that_disappear_leave_nothing_behind(url: str) -> None:
    ask = {"name": "ask", "arguments": {"question": MAYOR}}
    body = json.dumps({**LIST_TOOLS, "method": "tools/call", "params": ask})
    for _ in range(5):
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(
                f"{url}/mcp", content=body, headers=HEADERS, timeout=httpx.Timeout(5, read=0.001)
            )
    assert call(url, "ask", question=MAYOR)["untrusted"]["question"] == MAYOR
    deadline = time.monotonic() + 5  # the server may still be answering them
    while (left := transports()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left


def transports() -> list[Any]:
    """What the server keeps of requests in the older form of the protocol."""
    gc.collect()
    return [one for one in gc.get_objects() if isinstance(one, StreamableHTTPServerTransport)]


def test_a_client_goes_on_after_a_restart_of_the_server(project: Path) -> None:
    first = create_app(open_workspace(project).project)
    second = create_app(open_workspace(project).project)

    async def ask_twice(url: str, restart: Callable[[], Any]) -> list[Any]:
        async with Client(f"{url}/mcp", mode="legacy") as client:
            before = await client.call_tool("status", {})
            await anyio.to_thread.run_sync(restart)
            return [before, await client.call_tool("status", {})]

    context = running(first)
    url = context.__enter__()
    again = running(second, port=int(url.rpartition(":")[2]))

    def restart() -> None:
        context.__exit__(None, None, None)
        again.__enter__()

    try:
        before, after = anyio.run(ask_twice, url, restart)
    finally:
        again.__exit__(None, None, None)
    assert before.structured_content == after.structured_content


def test_the_log_has_the_route_and_the_token_and_no_question(guarded: Guarded) -> None:
    call(guarded.url, "ask", token=guarded.reader, question="Who is the secret mayor?")
    logged = {(entry["token"], entry["route"], "question" in entry) for entry in guarded.log()}
    assert ("reader", "/mcp", False) in logged and not any(has for _, _, has in logged)
    assert "secret mayor" not in (guarded.folder / "requests.log").read_text()


def test_requests_are_limited_and_questions_logged_on_request(
    project: Path, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {
        "serving__requests_per_minute": 2,
        "serving__request_log": str(tmp_path / "requests.log"),
        "serving__log_questions": True,
    }
    ask = {"name": "ask", "arguments": {"question": MAYOR}}
    body = {**LIST_TOOLS, "method": "tools/call", "params": ask}
    with serving_client(project, **settings) as client:
        statuses = [client.post("/mcp", json=body, headers=HEADERS).status_code for _ in range(3)]
    assert statuses == [200, 200, 429]
    logged = [json.loads(line) for line in (tmp_path / "requests.log").read_text().splitlines()]
    assert [entry.get("question") for entry in logged] == [MAYOR, MAYOR, None]


def test_the_log_of_the_server_stays_as_it_is(project: Path) -> None:
    before = logging.getLogger().handlers[:]
    with serving(project):
        assert logging.getLogger().handlers == before


def test_without_the_extra_there_is_no_such_route(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("cmt.serving._mcp_http", "cmt.serving.mcp_server"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    for name in [name for name in sys.modules if name.partition(".")[0] == "mcp"]:
        monkeypatch.setitem(sys.modules, name, None)
    with serving_client(project) as client:
        assert client.post("/mcp", json=LIST_TOOLS, headers=HEADERS).status_code == 404
        assert client.post("/ask", json={"question": MAYOR}).status_code == 200
