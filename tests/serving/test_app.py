"""The application: pages, allowed hosts, the interface description, and a bank that changes while
it serves.
"""

import json
import re
from pathlib import Path

import httpx
import pytest

from cmt.serving.app import WEB
from tests.helpers.http import MAYOR, ask, chat_body, doc_ids, error_message
from tests.helpers.projects import open_workspace, save_other_compressor
from tests.helpers.servers import serving_client


def test_only_requests_to_local_host_names_are_accepted(url: str) -> None:
    port = url.rpartition(":")[2]
    for host, status in (
        ("127.0.0.1", 200),
        (f"localhost:{port}", 200),
        (f"[::1]:{port}", 200),
        ("evil.example", 400),
        ("evil.example:80", 400),
    ):
        response = httpx.get(f"{url}/health", headers={"Host": host})
        assert response.status_code == status
    reason = "the host 'evil.example' is not served here: use one of 127.0.0.1, localhost, [::1]"
    assert error_message(response).startswith(reason)


def test_pages_and_scripts_refer_to_this_server_only(client: httpx.Client) -> None:
    for page in ("/", "/docs"):
        text = client.get(page).text
        assert not re.search(r"<(script|style)>|\son\w+=|\sstyle=", text)
        links = re.findall(r'(?:src|href)="([^"#]+)', text)
        assert links
        for link in links:
            assert "//" not in link
            assert client.get(f"/{link.removeprefix('./')}").status_code == 200
    scripts = [path.read_text() for path in WEB.iterdir() if path.suffix == ".js"]
    assert scripts
    forbidden = re.compile(r"innerHTML|outerHTML|document\.write|eval\(|https?://")
    assert not any(forbidden.search(script) for script in scripts)


def test_openapi_describes_every_operation(client: httpx.Client) -> None:
    api = client.get("/openapi.json").json()
    assert set(api["paths"]) == {
        "/ask", "/ask/stream", "/history", "/range", "/documents", "/document", "/changes",
        "/health", "/healthz",
        "/metrics",
        "/v1/models", "/v1/models/{name}", "/v1/chat/completions",
    }  # fmt: skip
    for methods in api["paths"].values():
        for operation in methods.values():
            assert operation["description"]
            refused = operation["responses"].get("422", {}).get("content", {})
            assert "HTTPValidationError" not in json.dumps(refused)


def test_without_a_bank_every_route_says_what_to_do_and_with_one_it_answers_at_once(
    tiny_workspace: Path,
) -> None:
    workspace = open_workspace(tiny_workspace)
    with serving_client(tiny_workspace) as client:
        chat = client.post("/v1/chat/completions", json=chat_body(MAYOR, stream=True))
        for response in (*bank_responses(client), chat):
            assert response.status_code == 503
            assert "run `cmt update` first" in error_message(response)
        assert "cmt_bank_rows NaN" in client.get("/metrics").text
        workspace.ingest()
        for documents, mayor in ((3, "mayor-1"), (6, "mayor-2")):
            workspace.update()
            assert (
                client.get("/documents").json()["total"]
                == client.get("/range").json()["documents"]
                == documents
            )
            assert doc_ids(ask(client, MAYOR)) & {"mayor-1", "mayor-2"} == {mayor}
        (tiny_workspace / "data/bank").rename(tiny_workspace / "data/elsewhere")
        assert {response.status_code for response in bank_responses(client)} == {503}
        (tiny_workspace / "data/elsewhere").rename(tiny_workspace / "data/bank")
        assert ask(client, MAYOR)["known"]


def bank_responses(client: httpx.Client) -> list[httpx.Response]:
    """The responses of the routes that read the bank."""
    read = [
        client.get(path) for path in ("/health", "/range", "/documents", "/document?doc_id=ferry")
    ]
    return read + [client.post(path, json={"question": MAYOR}) for path in ("/ask", "/ask/stream")]


def test_a_change_to_another_compressor_while_the_server_runs_is_noticed(
    adapted_workspace: Path, tmp_path: Path
) -> None:
    other = save_other_compressor(open_workspace(adapted_workspace), tmp_path / "other")
    with serving_client(adapted_workspace) as client:
        assert client.get("/health").status_code == 200
        later = open_workspace(adapted_workspace, compressor__path=str(other))
        while later.pending():
            later.update()
        for response in bank_responses(client):
            assert response.status_code == 503
            assert (
                f"the bank is that of compressor {later.project.model.digest[:12]}"
                in error_message(response)
            )
        assert "cmt_bank_rows NaN" in client.get("/metrics").text


def test_no_page_of_the_server_shows_the_password_of_the_tracking_server(project: Path) -> None:
    with serving_client(
        project, tracking__uri="postgresql://ann:hunter2@127.0.0.1:9/mlflow"
    ) as client:
        pages = [
            client.get(path).text
            for path in ("/", "/docs", "/openapi.json", "/health", "/metrics", "/range")
        ]
        pages.append(client.post("/ask", json={"question": MAYOR}).text)
    assert all(pages)
    assert "hunter2" not in "".join(pages)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files in /proc")
def test_requests_leave_no_file_open(client: httpx.Client) -> None:
    def send(numbers: range) -> int:
        for number in numbers:
            path = f"/nothing/{number}" if number % 10 == 0 else "/metrics"
            client.get(path, headers={"Connection": "close"})
            if number % 4 == 0:
                client.post(
                    "/ask", json={"question": f"Who is the mayor of town {number}?"}
                ).raise_for_status()
        return len(list(Path("/proc/self/fd").iterdir()))

    before = send(range(20))
    assert send(range(20, 100)) <= before + 5  # eight are of an unknown path
