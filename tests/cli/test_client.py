"""Questions that a running server of the project answers, and the servers that are not used."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

import cmt
from cmt.cli.client import FILE, TOKEN_VARIABLE, ServerClient, announced
from cmt.config import load_params
from cmt.serving.app import create_app
from cmt.serving.identity import answering_digest, project_digest
from cmt.serving.tokens import TokenFile
from tests.helpers.cli import MAYOR, read, run, run_process
from tests.helpers.servers import running, serving


@contextmanager
def announcing(folder: Path, url: str, *, started_at: datetime | None = None) -> Iterator[None]:
    """`server.json` of the project in `folder`, as `cmt serve` writes it."""
    port = int(url.rpartition(":")[2])
    start = started_at or datetime.now(UTC)
    with announced(folder / "data/state", host="127.0.0.1", port=port, started_at=start):
        yield


@pytest.fixture
def served(adapted: Path) -> Iterator[Path]:
    """A project with a running server."""
    with serving(adapted) as url, announcing(adapted, url):
        yield adapted


def find(folder: Path, **overrides: object) -> ServerClient | None:
    """The server that `cmt ask` would use; an override `selection__top_k` is the key `selection.top_k`."""
    dotted = {name.replace("__", "."): value for name, value in overrides.items()}
    return ServerClient.find(folder, load_params(folder / "params.yaml", dotted))


def forbid_model(patch: pytest.MonkeyPatch) -> None:
    """From now on an answer in this process is a failure."""
    patch.setattr("cmt.workspace.Workspace.ask", lambda *_, **__: pytest.fail("answered in this process"))


def test_a_server_gives_the_answers_of_this_process(served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    questions = [(MAYOR,), (MAYOR, "--as-of", "2031-02-15"), ("What colour is the crane?",)]
    expected = [read(served, "ask", *question, "--no-server") for question in questions]
    printed = [run(served, "ask", *question, "--no-server").stdout for question in questions]
    forbid_model(monkeypatch)
    assert [read(served, "ask", *question) for question in questions] == expected
    assert [run(served, "ask", *question).stdout for question in questions] == printed


def test_chat_uses_the_server(served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = run(served, "chat", "--no-server", stdin=f"{MAYOR}\n").stdout
    forbid_model(monkeypatch)
    assert run(served, "chat", stdin=f"{MAYOR}\n").stdout == expected


def test_the_answer_without_memory_comes_from_this_process(served: Path) -> None:
    assert isinstance(read(served, "ask", MAYOR, "--compare")["closed_book"], str)


def test_a_server_answers_from_the_bank_as_it_is_now(served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def documents() -> set[str]:
        return {source["doc_id"] for source in read(served, "ask", MAYOR)["sources"]}

    assert "mayor-2" in documents()
    run(served, "forget", "mayor-2")
    forbid_model(monkeypatch)
    assert "mayor-2" not in documents()


def test_asking_a_server_imports_nothing_heavy(served: Path) -> None:
    stdout, modules = run_process(served, "ask", MAYOR, "--json")
    assert json.loads(stdout)["known"]
    assert not modules & {"torch", "transformers", "lancedb", "pyarrow", "numpy", "mlflow", "uvicorn"}


def test_other_parameters_are_answered_in_this_process(served: Path) -> None:
    assert find(served) is not None
    assert find(served, train__learning_rate=0.002) is not None  # shapes no answer
    for changed in ({"selection__top_k": 1}, {"answering__max_new_tokens": 2}, {"bank__uri": "data/bank/other"}):
        assert find(served, **changed) is None
    assert len(read(served, "--set", "selection.top_k=1", "ask", MAYOR)["sources"]) == 1


def test_the_server_of_another_project_is_not_used(served: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(served, tmp_path / "copy"))
    assert (copy / "data/state" / FILE).exists()
    assert find(copy) is None


def test_a_server_with_a_replaced_compressor_is_not_used(adapted: Path) -> None:
    with serving(adapted) as url:
        with announcing(adapted, url, started_at=datetime.now(UTC) - timedelta(days=1)):
            assert find(adapted) is None
        with announcing(adapted, url):
            assert find(adapted) is not None


def test_a_server_that_ended_is_not_used(adapted: Path) -> None:
    with serving(adapted) as url:
        pass
    with announcing(adapted, url):
        assert find(adapted) is None
        assert read(adapted, "ask", MAYOR)["question"] == MAYOR


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"url": 7}',
        '{"url": "http://example.org:80", "started_at": "2031-01-01T00:00:00Z"}',
        '{"url": "http://127.0.0.1:99999", "started_at": "2031-01-01T00:00:00Z"}',
        '{"url": "http://127.0.0.1:1", "started_at": "yesterday"}',
    ],
)
def test_a_damaged_file_is_ignored(adapted: Path, content: str) -> None:
    (adapted / "data/state" / FILE).write_text(content)
    assert find(adapted) is None


def test_a_server_with_tokens_gets_the_one_in_the_environment(
    adapted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = TokenFile(tmp_path / "tokens.json")
    secret = file.add("ann", scope="ask")
    app = create_app(cmt.open(params=adapted / "params.yaml", overrides={"serving.token_file": str(file.path)}))
    with running(app) as url, announcing(adapted, url):
        for token in ("", "wrong"):
            monkeypatch.setenv(TOKEN_VARIABLE, token)
            assert find(adapted) is None
        monkeypatch.setenv(TOKEN_VARIABLE, secret)
        server = find(adapted)
        assert server and server.ask(MAYOR, None)
        record = json.loads((adapted / "data/state" / FILE).read_text())
        ended = subprocess.Popen(["true"])
        ended.wait()
        for pid in (ended.pid, "1", 10**30):
            (adapted / "data/state" / FILE).write_text(json.dumps(record | {"pid": pid}))
            assert find(adapted) is None  # another program may have the port by now


@pytest.mark.parametrize("reply", [(500, "{}"), (200, "[]"), (200, "<html>"), (200, '{"answer": "Moss"}')])
def test_a_server_that_fails_is_replaced_by_this_process(adapted: Path, reply: tuple[int, str]) -> None:
    params = answering_digest(load_params(adapted / "params.yaml"))
    health = {"project": project_digest(adapted), "params": params}
    with replying({"/health": (200, json.dumps(health)), "/ask": reply}) as url, announcing(adapted, url):
        server = find(adapted)
        assert server is not None
        assert server.ask(MAYOR, None) is None
        assert {"mayor-2"} <= {source["doc_id"] for source in read(adapted, "ask", MAYOR)["sources"]}


@contextmanager
def replying(replies: dict[str, tuple[int, str]]) -> Iterator[str]:
    """The address of a server that gives each path its status and body."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = replies[self.path]
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_an_announcement_ends_with_its_server(tmp_path: Path) -> None:
    start = datetime(2031, 1, 1, tzinfo=UTC)
    file = tmp_path / "state" / FILE
    with announced(tmp_path / "state", host="localhost", port=7, started_at=start):
        record = json.loads(file.read_text())
        assert (record["url"], record["started_at"]) == ("http://127.0.0.1:7", "2031-01-01T00:00:00Z")
    assert not file.exists()


def test_the_announcement_of_a_later_server_stays(tmp_path: Path) -> None:
    start = datetime(2031, 1, 1, tzinfo=UTC)
    with announced(tmp_path, host="127.0.0.1", port=7, started_at=start):
        later = announced(tmp_path, host="0.0.0.0", port=8, started_at=start)  # noqa: S104 - not listened on
        later.__enter__()
    assert json.loads((tmp_path / FILE).read_text())["url"] == "http://127.0.0.1:8"
    later.__exit__(None, None, None)
    assert not (tmp_path / FILE).exists()


def test_a_server_that_is_not_reachable_as_127_0_0_1_is_not_announced(tmp_path: Path) -> None:
    with announced(tmp_path, host="10.0.0.7", port=7, started_at=datetime.now(UTC)):
        assert not (tmp_path / FILE).exists()


def test_a_state_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    with announced(tmp_path / "state", host="127.0.0.1", port=7, started_at=datetime.now(UTC)):
        pass
