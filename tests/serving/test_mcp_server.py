"""`cmt mcp` as a process, and the official client of the Model Context Protocol."""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio
import pytest
from anyio.from_thread import start_blocking_portal
from mcp import Client, MCPError, StdioServerParameters, stdio_client
from mcp.types import TextContent, TextResourceContents

from cmt.serving.mcp_server import create_server
from tests.helpers.cli import MAYOR, imported_modules
from tests.helpers.projects import FEBRUARY, open_workspace

ROOT = Path(__file__).parents[2]
READING = {"ask", "history", "changes", "documents", "document", "status"}


class Server:
    """A running `cmt mcp --write`, called from synchronous tests."""

    def __init__(self, client: Client, run: Callable[..., Any]) -> None:
        self.client, self._run = client, run

    def call(self, tool: str, **arguments: Any) -> Any:
        """The structured result of a tool."""
        result = self._run(partial(self.client.call_tool, tool, arguments))
        assert not result.is_error, result.content
        return result.structured_content

    def error(self, tool: str, **arguments: Any) -> str:
        """The message of a tool that fails."""
        result = self._run(partial(self.client.call_tool, tool, arguments))
        [content] = result.content
        assert result.is_error and isinstance(content, TextContent)
        return content.text

    def tools(self) -> dict[str, Any]:
        """The tools by name."""
        return {tool.name: tool for tool in self._run(self.client.list_tools).tools}

    def read(self, doc_id: str) -> Any:
        """The resource of a document."""
        uri = f"cmt://documents/{quote(doc_id, safe='')}"
        [content] = self._run(partial(self.client.read_resource, uri)).contents
        assert isinstance(content, TextResourceContents)
        assert content.mime_type == "application/json"
        return json.loads(content.text)


@pytest.fixture(scope="module")
def server(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server over a copy of the tiny project."""
    folder = Path(shutil.copytree(project, tmp_path_factory.mktemp("mcp") / "project"))
    params = str(folder / "params.yaml")
    command = StdioServerParameters(
        command=sys.executable,
        args=["-m", "cmt", "--params", params, "mcp", "--write", "--source", "assistant"],
        env=dict(os.environ),
        cwd=ROOT,
    )
    with (
        (folder / "stderr").open("w") as errors,
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(Client(stdio_client(command, errors))) as client,
    ):
        yield Server(client, portal.call)


def test_a_client_is_greeted_before_the_libraries_are_loaded(project: Path) -> None:
    assert not {"torch", "transformers", "lancedb"} & imported_modules(project, "mcp")


def test_every_tool_has_a_title_hints_and_the_schema_of_its_result(server: Server) -> None:
    tools = server.tools()
    assert {*tools} == READING | {"ingest", "forget"}
    for name, tool in tools.items():
        assert tool.title and tool.output_schema["type"] == "object"
        assert tool.annotations.read_only_hint is (name in READING)
        assert tool.annotations.open_world_hint is False
    assert not tools["ingest"].annotations.destructive_hint
    assert tools["forget"].annotations.destructive_hint


def test_a_server_without_write_only_reads(project: Path) -> None:
    only_reading = create_server(open_workspace(project).project)
    assert {tool.name for tool in anyio.run(only_reading.list_tools)} == READING


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("ask", {"question": MAYOR}),
        ("history", {"question": MAYOR}),
        ("changes", {}),
        ("documents", {}),
        ("document", {"doc_id": "mayor-1"}),
    ],
)
def test_texts_of_documents_are_marked_as_data(
    server: Server, tool: str, arguments: dict[str, Any]
) -> None:
    result = server.call(tool, **arguments)
    assert {*result} == {"notice", "untrusted"}
    assert result["notice"] in server.tools()[tool].description


def test_an_answer_is_as_of_a_date(server: Server) -> None:
    answer = server.call("ask", question=MAYOR, as_of="2031-01-31")["untrusted"]
    assert answer["as_of"] == "2031-01-31T23:59:59.999999Z"
    assert "mayor-1" in [source["doc_id"] for source in answer["sources"]]
    assert "mayor-2" not in [source["doc_id"] for source in answer["sources"]]


def test_documents_are_listed_by_date_and_found_by_words(server: Server) -> None:
    def listed(**arguments: Any) -> list[str]:
        page = server.call("documents", **arguments)["untrusted"]
        return [document["doc_id"] for document in page["documents"]]

    assert listed(limit=2) == ["mayor-2", "hitch"]
    assert listed(words="mayor Ellery") == ["mayor-2", "mayor-1"]
    assert listed(words="mayor Ellery", until="2031-01-31") == ["mayor-1"]
    assert listed(words="zeppelin") == []


def test_a_document_is_a_resource_whatever_its_id(server: Server) -> None:
    for doc_id in ("mayor-1", "crane's 100%; --"):
        assert server.read(doc_id) == server.call("document", doc_id=doc_id)
    with pytest.raises(MCPError, match="'no/such' is not in the bank"):
        server.read("no/such")


@pytest.mark.parametrize(
    ("tool", "arguments", "message"),
    [
        ("ask", {"question": MAYOR, "as_of": "soon"}, "as_of: 'soon' is not a date-time"),
        ("ask", {"question": " "}, "question: the question is empty"),
        ("history", {"question": "w" * 2001}, "the question has 2,001 characters"),
        ("document", {"doc_id": "nobody"}, "document 'nobody' is not in the bank"),
        ("changes", {"doc_ids": ["nobody"]}, "document 'nobody' is not in the bank"),
        ("ingest", {"text": "News.", "published_at": "soon"}, "'soon' is not a date-time"),
        ("forget", {"doc_ids": ["mayor-1", "nobody"]}, "document 'nobody' is neither in bank"),
    ],
)
def test_an_error_has_the_message_of_cmt(
    server: Server, tool: str, arguments: dict[str, Any], message: str
) -> None:
    assert message in server.error(tool, **arguments)


def test_an_ingested_document_waits_for_its_round_and_a_forgotten_one_is_gone(
    server: Server,
) -> None:
    # 1. a document
    assert server.call("status")["pending"] == []
    row = {"text": "The kiosk opens at nine.", "title": "A kiosk", "published_at": "2031-03-01"}
    ingested = server.call("ingest", doc_id="kiosk", **row)
    [added] = ingested["slices"]
    assert (ingested["accepted"], added["documents"]) == (1, 1)
    status = server.call("status")
    assert status["pending"] == [added["slice_id"]] and added["slice_id"] > FEBRUARY
    # 2. the same one again
    assert server.call("ingest", doc_id="kiosk", **row)["duplicates"] == 1
    # 3. forget one of the bank
    assert server.call("forget", doc_ids=["raft"]) == {"doc_ids": ["raft"], "rows": 1}
    assert server.call("status")["published"]["documents"] == status["published"]["documents"] - 1
    assert "'raft' is not in the bank" in server.error("document", doc_id="raft")


def test_a_follow_up_is_completed_from_the_previous_questions(server: Server) -> None:
    previous = [{"question": MAYOR, "answer": "Vell"}]
    answer = server.call("ask", question="and in June?", previous=previous)["untrusted"]
    assert answer["question"] == "Who was the mayor of Port Ellery in June?"
    assert "ask it in full" in server.error("ask", question="and in June?")
