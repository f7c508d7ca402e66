"""Start, call and stop Prefect; a script replaces it, because Prefect takes seconds to start."""

import json
import signal
import sqlite3
import time
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import psutil
import pytest
from filelock import FileLock

from cmt.errors import RoundError, ServiceError
from flows.local import demo
from flows.local.prefect import LocalPrefect, local_prefect

ROOT = Path(__file__).parents[3]
FAKE = """
import contextlib, http.server, os, pathlib, sqlite3, subprocess, sys

class Handler(http.server.BaseHTTPRequestHandler):
    def reply(self):
        if self.path.endswith("create_flow_run"):
            with pathlib.Path(os.environ["PREFECT_HOME"], "worker.log").open("a") as log:
                log.write("12:00 | ERROR   | the score is below gate.min_f1")
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"id": "1", "state_type": "FAILED", "state_name": "Failed"}')

    do_GET = do_POST = reply

match sys.argv[1:]:
    case ["server", "start", "--host", host, "--port", port]:
        file = pathlib.Path(os.environ["PREFECT_HOME"], "prefect.db")
        with contextlib.closing(sqlite3.connect(file)) as database, database:
            database.execute("CREATE TABLE IF NOT EXISTS starts (n)")
            database.execute("INSERT INTO starts VALUES (1)")
        http.server.HTTPServer((host, int(port)), Handler).serve_forever()
    case ["worker", "start", *_]:
        subprocess.run([sys.executable, "-c", "import time; time.sleep(600)"])
    case ["--no-prompt", "deploy", "--all"]:
        busy = pathlib.Path("busy")
        if busy.exists():
            busy.unlink()
            sys.exit("prefect.exceptions.PrefectHTTPStatusError: Server error '503'")
    case command:
        sys.exit(f"no such command: {command}")
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose Prefect is FAKE, with the demo in it."""
    (tmp_path / "prefect").mkdir()
    (tmp_path / "prefect/__init__.py").touch()  # else the installed package comes first
    (tmp_path / "prefect/__main__.py").write_text(FAKE)
    monkeypatch.setattr(demo, "HOME", tmp_path / ".prefect/demo")
    monkeypatch.setattr(
        signal, "signal", lambda *_: signal.SIG_DFL
    )  # the handlers of the test run stay
    return tmp_path


@pytest.fixture
def prefect(folder: Path) -> LocalPrefect:
    return LocalPrefect(root=folder, home=folder)


def processes_in(folder: Path) -> list[str]:
    """Command lines of the processes with a working directory in `folder`."""
    return [
        " ".join(process.info["cmdline"] or [])
        for process in psutil.process_iter(["cwd", "status", "cmdline"])
        if process.info["cwd"]
        and Path(process.info["cwd"]).is_relative_to(folder)
        and process.info["status"] != psutil.STATUS_ZOMBIE
    ]


def remaining_in(folder: Path) -> list[str]:
    """Wait until no process runs in `folder`, for 10 s at most, and return the processes that still
    run.
    """
    deadline = time.monotonic() + 10
    while (found := processes_in(folder)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def test_the_server_address_is_configured_so_that_no_command_starts_a_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from prefect.settings import Settings

    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    assert Settings().api.url == "http://127.0.0.1:4200/api"


def test_a_server_that_is_busy_while_deploying_is_asked_once_more(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "busy").touch()
    with local_prefect(root=folder, home=folder / ".prefect/demo"):
        pass
    assert [line for line in capsys.readouterr().err.splitlines() if "503" in line] == [
        "the Prefect server was busy (503): deploying once more"
    ]


def test_a_flow_run_that_fails_is_reported_with_the_errors_of_its_log(folder: Path) -> None:
    message = (
        r"cmt/online-update did not complete\n12:00 \| ERROR   \| the score is below"
        r" gate.min_f1\nmore in"
    )
    with (
        pytest.raises(RoundError, match=message),
        local_prefect(root=folder, home=folder / "home") as prefect,
    ):
        assert (
            len(processes_in(folder)) >= 2
        )  # server and worker; a busy machine may start the third one later
        prefect.run("cmt/online-update")
    assert remaining_in(folder) == []


def test_a_server_begins_with_the_empty_database_of_the_first_one(folder: Path) -> None:
    home = folder / "home"
    for starts in (1, 2, 2):
        with (
            local_prefect(root=folder, home=home),
            closing(sqlite3.connect(home / "prefect.db")) as database,
        ):
            assert database.execute("SELECT count(*) FROM starts").fetchone() == (starts,)


@pytest.mark.parametrize(
    ("error", "status", "printed"),
    [
        (KeyboardInterrupt(), 130, "interrupted: `make demo` resumes"),
        (RoundError("no round"), 1, "error: no round"),
    ],
)
def test_a_demo_that_ends_early_leaves_nothing_running(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    status: int,
    printed: str,
) -> None:
    def run() -> None:
        with local_prefect(root=folder, home=demo.HOME):
            raise error

    monkeypatch.setattr(demo, "demo", run)
    assert demo.main() == status
    assert printed in capsys.readouterr().err
    assert remaining_in(folder) == []


def test_a_second_demo_in_the_same_folder_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    demo.HOME.parent.mkdir()
    with FileLock(f"{demo.HOME}.lock"):
        assert demo.main() == 1
    assert "another demo is running in this folder" in capsys.readouterr().err


def test_a_failed_command_or_server_is_reported_with_its_last_lines(prefect: LocalPrefect) -> None:
    with pytest.raises(ServiceError, match=r"prefect no-such-command failed:\nno such command"):
        prefect.call("x", "no-such-command")
    assert prefect.running == {}
    prefect.start("server", "ends")
    with pytest.raises(
        ServiceError, match=r"the Prefect server ended unexpectedly:\nno such command: \['ends'\]"
    ):
        prefect.request("GET", "health")


def test_a_request_is_repeated_while_the_server_is_unavailable(prefect: LocalPrefect) -> None:
    statuses = [503, 200, 404]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(statuses.pop(0))
            self.end_headers()
            self.wfile.write(json.dumps({"id": 1}).encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        prefect.port = server.server_port
        assert prefect.request("GET", "x") == {"id": 1}
        with pytest.raises(ServiceError, match="GET x with 404"):
            prefect.request("GET", "x")
        server.shutdown()
