"""`cmt serve` as a process: it announces itself while it answers."""

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.helpers.cli import MAYOR, run


def test_a_server_is_announced_until_it_is_terminated(adapted: Path) -> None:
    file = adapted / "data/state/server.json"
    command = [sys.executable, "-m", "cmt", "--params", str(adapted / "params.yaml"), "serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            line = process.stdout.readline()
            assert run(adapted, "ask", MAYOR).stdout  # waits until the server answers
            record = json.loads(file.read_text())
            assert line == f"answering on {record['url']} until Ctrl-C\n"
            assert record["pid"] == process.pid
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 128 + signal.SIGTERM
    assert not file.exists()


@pytest.fixture
def process(adapted_project: Path) -> Iterator[subprocess.Popen[str]]:
    """`cmt serve` on a free port."""
    command = [sys.executable, "-m", "cmt", "--params", str(adapted_project / "params.yaml")]
    command += ["serve", "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        yield server
        server.kill()


def test_the_command_prints_its_address_and_ends_with_ctrl_c(process: subprocess.Popen[str]) -> None:
    assert process.stdout
    printed = "".join(process.stdout.readline() for _ in range(3))
    url = json.loads(printed)["url"]
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", url)
    assert httpx.post(f"{url}/ask", json={"question": MAYOR}, timeout=30).json()["known"]
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 0
    load, logged = stderr.splitlines()
    assert re.fullmatch(r"load: [\d.]+ s", load)
    assert (json.loads(logged)["route"], MAYOR in logged) == ("/ask", False)


def test_a_port_that_is_taken_is_named(adapted_project: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        refused = run(adapted_project, "serve", "--port", port, status=1)
    assert f"error: cannot listen on 127.0.0.1 port {port} (Address already in use)" in refused.stderr
