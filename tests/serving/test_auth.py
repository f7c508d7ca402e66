"""A server with tokens: required scopes, refusals, limits and logs; and a server without tokens."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import httpx
import openai
import pytest

import cmt
from cmt.serving.app import create_app
from cmt.serving.tokens import TokenFile
from tests.helpers.http import MAYOR, chat_body, error_message
from tests.helpers.projects import open_workspace
from tests.helpers.servers import running, serving_client

T = TypeVar("T")


class Guarded(NamedTuple):
    """A running server with tokens."""

    url: str
    folder: Path
    file: TokenFile
    ask: httpx.Client  # a client with a token of the scope `ask`
    admin: httpx.Client
    nobody: httpx.Client

    def log(self) -> list[dict[str, Any]]:
        """The entries of the request log."""
        return entries(self.folder / "requests.log")


def entries(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


def within_seconds(read: Callable[[], list[T]], *, length: int) -> list[T]:
    """The result of `read` once it has `length` entries: a request is logged after its response is
    sent.
    """
    deadline = time.monotonic() + 5
    while len(read()) < length and time.monotonic() < deadline:
        time.sleep(0.01)
    return read()


@pytest.fixture(scope="module")
def guarded(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = Path(shutil.copytree(project, tmp_path_factory.mktemp("guarded") / "project"))
    file = TokenFile(folder / "tokens.json")
    secrets = {
        "reader": file.add("reader", scope="ask"),
        "desk": file.add("desk", scope="admin", source="The Desk"),
    }
    files = {
        "serving__token_file": str(file.path),
        "serving__request_log": str(folder / "requests.log"),
    }
    app = create_app(open_workspace(folder, serving__ingest_megabytes=2, **files).project)
    with running(app) as url, httpx.Client(base_url=url, timeout=30) as nobody:
        clients = [
            httpx.Client(base_url=url, timeout=30, headers={"Authorization": f"Bearer {secret}"})
            for secret in secrets.values()
        ]
        with clients[0], clients[1]:
            yield Guarded(url, folder, file, ask=clients[0], admin=clients[1], nobody=nobody)


def test_every_route_but_liveness_and_the_pages_needs_a_token(guarded: Guarded) -> None:
    for path in ("/", "/docs", "/web/dom.js", "/healthz"):
        assert guarded.nobody.get(path).status_code == 200, path
    app_paths = guarded.ask.get("/openapi.json").json()["paths"]
    assert {"/ingest", "/forget"} < app_paths.keys()
    closed = [
        (method, path)
        for path, methods in app_paths.items()
        for method in methods
        if path != "/healthz"
    ]
    for method, path in [
        *closed,
        ("get", "/openapi.json"),
        ("get", "/nothing"),
        ("get", "/HEALTHZ"),
    ]:
        response = guarded.nobody.request(method, path)
        assert response.status_code == 401, path
        assert response.headers["www-authenticate"] == 'Bearer realm="cmt"'
        assert response.json()["error"]["type"] == "authentication_error"
    for header in ("Bearer", "Bearer wrong", "Basic cmt_", "bearer  x y"):
        assert guarded.nobody.get("/range", headers={"Authorization": header}).status_code == 401, (
            header
        )
    assert guarded.ask.get("/health").json()["rows"] == 6
    assert guarded.ask.post("/ask", json={"question": MAYOR}).json()["known"]
    assert guarded.ask.post("/v1/chat/completions", json=chat_body(MAYOR)).status_code == 200
    assert "cmt_bank_rows" in guarded.ask.get("/metrics").text


def test_openais_client_sends_the_token_as_its_api_key(guarded: Guarded) -> None:
    key = str(guarded.ask.headers["authorization"]).removeprefix("Bearer ")
    with openai.OpenAI(base_url=f"{guarded.url}/v1", api_key=key, max_retries=0) as client:
        assert [model.id for model in client.models.list()] == ["cmt"]
    with (
        openai.OpenAI(base_url=f"{guarded.url}/v1", api_key="wrong", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError, match="this token is not valid here"),
    ):
        client.models.list()


def test_two_authorization_headers_are_refused(guarded: Guarded) -> None:
    """A proxy in front of the server may have checked the other one."""
    own = guarded.ask.headers["Authorization"]
    headers = [("Authorization", "Bearer other"), ("Authorization", own)]
    assert guarded.nobody.get("/range", headers=headers).status_code == 400
    assert guarded.nobody.get("/range", headers=headers[1:]).status_code == 200


def test_administration_needs_its_scope(guarded: Guarded) -> None:
    for path in ("/ingest", "/forget"):
        response = guarded.ask.post(path, json={"doc_ids": ["ferry"]})
        assert response.status_code == 403
        assert 'error="insufficient_scope"' in response.headers["www-authenticate"]
        assert response.json()["error"]["type"] == "permission_error"
        assert (
            error_message(response) == "the token reader has the scope ask; this route needs admin"
        )
    assert open_workspace(guarded.folder).project.active.stored().present({"ferry"})


def test_a_change_of_the_tokens_takes_effect_at_once(guarded: Guarded) -> None:
    headers = {"Authorization": f"Bearer {guarded.file.add('guest', scope='ask')}"}
    assert guarded.nobody.get("/range", headers=headers).status_code == 200
    guarded.file.revoke("guest")
    assert guarded.nobody.get("/range", headers=headers).status_code == 401
    guarded.file.path.chmod(0o666)
    refused = guarded.ask.get("/range")
    guarded.file.path.chmod(0o600)
    assert (refused.status_code, error_message(refused)) == (
        503,
        "the server cannot read its tokens: its log says why",
    )
    assert guarded.ask.get("/range").status_code == 200


def test_the_log_has_an_id_and_a_name_and_no_question(guarded: Guarded) -> None:
    before = len(guarded.log())
    responses = [
        guarded.ask.post("/ask", json={"question": "Who is the secret mayor?"}),
        guarded.nobody.get("/nothing"),
    ]
    asked, refused = within_seconds(lambda: guarded.log()[before:], length=2)
    assert [asked["id"], refused["id"]] == [
        response.headers["x-request-id"] for response in responses
    ]
    assert [asked[name] for name in ("method", "route", "status", "token")] == [
        "POST",
        "/ask",
        200,
        "reader",
    ]
    assert [refused[name] for name in ("method", "route", "status", "token")] == [
        "GET",
        "",
        401,
        None,
    ]
    assert isinstance(asked["ms"], float) and str(asked["time"]).endswith("Z")
    assert asked.keys() == {"time", "id", "method", "route", "status", "ms", "token"}
    assert "secret mayor" not in (guarded.folder / "requests.log").read_text()


def test_requests_are_limited_by_token_and_questions_logged_on_request(
    project: Path, tmp_path: Path
) -> None:
    file = TokenFile(tmp_path / "tokens.json")
    first, second = (
        {"Authorization": f"Bearer {file.add(name, scope='ask')}"} for name in ("first", "second")
    )
    with serving_client(
        project,
        serving__token_file=str(file.path),
        serving__requests_per_minute=2,
        serving__request_log=str(tmp_path / "requests.log"),
        serving__log_questions=True,
    ) as client:
        assert [client.get("/range", headers=first).status_code for _ in range(3)] == [
            200,
            200,
            429,
        ]
        assert client.post("/ask", json={"question": MAYOR}, headers=second).status_code == 200
        assert (
            client.post("/v1/chat/completions", json=chat_body(MAYOR), headers=second).status_code
            == 200
        )
        assert [client.get("/range").status_code for _ in range(3)] == [
            401,
            401,
            429,
        ]  # without a token: the address
    logged = within_seconds(lambda: entries(tmp_path / "requests.log"), length=8)
    assert [entry.get("question") for entry in logged] == [None] * 3 + [MAYOR] * 2 + [None] * 3


def test_without_tokens_nothing_can_be_changed_over_http(client: httpx.Client) -> None:
    for path in ("/ingest", "/forget"):
        assert client.post(path, json={"doc_ids": ["ferry"], "documents": []}).status_code == 404
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/range").headers["x-request-id"]


def test_a_server_whose_tokens_are_missing_does_not_start(project: Path, tmp_path: Path) -> None:
    workspace = open_workspace(project, serving__token_file=str(tmp_path / "none.json"))
    with pytest.raises(
        cmt.CmtError, match="no tokens in .*none.json: make one with `cmt token add NAME`"
    ):
        create_app(workspace.project)


# Ingest and forget


def document(doc_id: str, **fields: object) -> dict[str, object]:
    return {
        "doc_id": doc_id,
        "published_at": "2031-05-10T07:00:00Z",
        "text": f"News of {doc_id}.",
        **fields,
    }


def test_documents_are_ingested_with_the_source_of_the_token(guarded: Guarded) -> None:
    rows = {
        "documents": [document("may-1", source="Somebody else"), {"doc_id": "broken"}],
        "questions": [
            {
                "doc_id": "may-1",
                "question": "What of may-1?",
                "asked_at": "2031-05-11",
                "answers": ["news"],
            }
        ],
    }
    response = guarded.admin.post("/ingest", json=rows)
    assert response.status_code == 200, response.text
    report = response.json()
    assert (report["accepted"], report["questions"], report["rejected_total"]) == (1, 1, 1)
    assert [(row["file"], row["row"]) for row in report["rejected"]] == [("documents.jsonl", 2)]
    workspace = open_workspace(guarded.folder)
    assert [part["slice_id"] for part in report["slices"]] == workspace.pending()
    stored = workspace.project.store.all_documents().to_pylist()[-1]
    assert (stored["doc_id"], stored["source"]) == ("may-1", "The Desk")
    assert guarded.admin.post("/ingest", json=rows).json()["duplicates"] == 1
    # as lines, with one that cannot be read
    lines = "\n".join(
        [json.dumps(document("may-2")), "{", json.dumps(document("may-3", source="Somebody else"))]
    )
    report = guarded.admin.post(
        "/ingest", content=lines, headers={"Content-Type": "application/x-ndjson"}
    ).json()
    assert (report["accepted"], [row["row"] for row in report["rejected"]]) == (2, [2])
    stored = open_workspace(guarded.folder).project.store.all_documents().to_pylist()[-2:]
    assert {(row["doc_id"], row["source"]) for row in stored} == {
        ("may-2", "The Desk"),
        ("may-3", "The Desk"),
    }
    assert not [path for path in (guarded.folder / "data/state/scratch").glob("*") if path.is_dir()]


@pytest.mark.parametrize(
    ("content", "kind", "status", "reason"),
    [
        ("{", "application/json", 422, "Invalid JSON"),
        ('{"documents": [5]}', "application/json", 422, "documents.0"),
        ('{"document": []}', "application/json", 422, "document"),
        ("{}", "application/json", 422, "empty"),
        (
            '{"documents": [{"doc_id": "x"}]}',
            "application/json",
            422,
            "none of its 1 row can be taken",
        ),
        ("", "application/x-ndjson", 422, "body.jsonl is empty"),
        ("<html>", "application/x-ndjson", 422, "body.jsonl:1: broken JSON"),
        (
            "doc_id,text",
            "text/csv",
            415,
            "send application/json or application/x-ndjson, not text/csv",
        ),
        (" " * 2_000_001, "application/x-ndjson", 413, "more than 2,000,000 bytes"),
    ],
)
def test_an_invalid_body_is_refused_with_the_reason(
    guarded: Guarded, content: str, kind: str, status: int, reason: str
) -> None:
    response = guarded.admin.post("/ingest", content=content, headers={"Content-Type": kind})
    assert response.status_code == status
    assert reason in error_message(response)
    assert "scratch" not in error_message(response)


def test_documents_are_forgotten_all_or_none(guarded: Guarded) -> None:
    refused = guarded.admin.post("/forget", json={"doc_ids": ["ferry", "x' OR 1=1"]})
    assert refused.status_code == 404
    assert 'document "x\' OR 1=1" is neither in bank' in error_message(refused)
    assert str(guarded.folder) not in error_message(refused)
    assert guarded.admin.post("/forget", json={"doc_ids": []}).status_code == 422
    assert guarded.ask.get("/document", params={"doc_id": "ferry"}).status_code == 200
    forgotten = guarded.admin.post(
        "/forget", json={"doc_ids": ["ferry", "raft", "ferry"], "everywhere": True}
    )
    assert forgotten.json() == {"doc_ids": ["ferry", "raft"], "rows": 2}
    listed = open_workspace(guarded.folder).forgotten_documents()
    assert [(one.doc_id, one.sources) for one in listed] == [("ferry", ()), ("raft", ())]
    assert guarded.ask.get("/document", params={"doc_id": "ferry"}).status_code == 404
    assert guarded.ask.get("/health").json()["rows"] == 4
