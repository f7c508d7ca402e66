"""The command line without a server, and how the demo stops its processes."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import psutil
import pytest

from cmt.errors import ServiceError
from flows.local.prefect import LocalPrefect, free_port, prefect_environment

ROOT = Path(__file__).parents[3]


def test_a_deployment_run_fails_without_a_server(tmp_path: Path) -> None:
    shutil.copy(ROOT / "prefect.toml", tmp_path)
    env = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    with socket.socket() as taken:  # bound but not listening, so that a server on port 4200 does not interfere
        taken.bind(("127.0.0.1", 0))
        port = str(taken.getsockname()[1])
        settings = (tmp_path / "prefect.toml").read_text()
        assert "127.0.0.1:4200" in settings
        (tmp_path / "prefect.toml").write_text(settings.replace("4200", port))
        command = [sys.executable, "-m", "prefect", "deployment", "run", "cmt/online-update"]
        done = subprocess.run(
            command, cwd=tmp_path, env=env | {"PREFECT_HOME": str(tmp_path)}, capture_output=True, text=True
        )
    assert done.returncode == 1
    assert "All connection attempts failed" in done.stdout + done.stderr
    assert "Created flow run" not in done.stdout


@pytest.fixture
def prefect(tmp_path: Path) -> LocalPrefect:
    return LocalPrefect(root=tmp_path, home=tmp_path, environment=os.environ | {"PREFECT_HOME": str(tmp_path)})


def test_a_failed_command_is_reported_with_its_last_lines(prefect: LocalPrefect) -> None:
    with pytest.raises(ServiceError, match=r"prefect no-such-command failed:\n(.|\n)*no-such-command"):
        prefect.call("x", "no-such-command")
    assert prefect.running == {}


def test_a_request_is_repeated_while_the_server_is_unavailable(prefect: LocalPrefect) -> None:
    statuses = [503, 200, 404]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(statuses.pop(0))
            self.end_headers()
            self.wfile.write(b'{"id": 1}')

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        prefect.port = server.server_port
        assert prefect.request("GET", "x") == {"id": 1}
        with pytest.raises(ServiceError, match="GET x with 404"):
            prefect.request("GET", "x")
        server.shutdown()


def test_a_schedule_creates_a_run(tmp_path: Path) -> None:
    port = free_port()
    prefect = LocalPrefect(root=tmp_path, home=tmp_path, environment=prefect_environment(tmp_path, port), port=port)
    prefect.start("server", "server", "start", "--host", "127.0.0.1", "--port", str(port))
    try:
        prefect.wait()
        flow = prefect.request("POST", "flows/", {"name": "cmt"})["id"]
        prefect.request("POST", "deployments/", {"name": "retrain", "flow_id": flow})
        prefect.schedule("cmt/retrain")
        deadline = time.monotonic() + 60
        while not (runs := prefect.request("POST", "flow_runs/filter")) and time.monotonic() < deadline:
            time.sleep(0.5)
    finally:
        prefect.stop()
    assert [(run["auto_scheduled"], run["state_name"]) for run in runs] in ([(True, "Scheduled")], [(True, "Late")])


def test_stop_ends_the_children_of_a_process(prefect: LocalPrefect) -> None:
    script = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)'])"
    process = subprocess.Popen([sys.executable, "-c", script], start_new_session=True)
    prefect.running["nest"] = process
    while not (children := psutil.Process(process.pid).children()):
        time.sleep(0.05)
    prefect.stop()
    assert process.returncode == -signal.SIGTERM
    while children[0].is_running() and children[0].status() != psutil.STATUS_ZOMBIE:  # a container may not reap it
        time.sleep(0.05)
