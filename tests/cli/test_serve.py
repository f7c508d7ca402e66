"""`cmt serve` as a process: it announces itself while it answers."""

import json
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cmt.cli.serve import _exit_at_sigterm
from tests.helpers.cli import MAYOR, run


def test_a_server_is_announced_until_ctrl_c(adapted: Path) -> None:
    file = adapted / "data/state/server.json"
    command = [sys.executable, "-m", "cmt", "--params", str(adapted / "params.yaml"), "serve", "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            url = json.loads("".join(process.stdout.readline() for _ in range(3)))["url"]
            assert re.fullmatch(r"http://127\.0\.0\.1:\d+", url)
            assert run(adapted, "ask", MAYOR).stdout  # waits until the server answers
            record = json.loads(file.read_text())
            assert (record["url"], record["pid"]) == (url, process.pid)
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0
    assert not file.exists()
    load, logged = (line for line in stderr.splitlines() if "/health" not in line)
    assert re.fullmatch(r"load: [\d.]+ s", load)
    assert (json.loads(logged)["route"], MAYOR in logged) == ("/ask", False)


def test_sigterm_ends_the_process_through_its_finally_blocks() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit, match=str(128 + signal.SIGTERM)), _exit_at_sigterm():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_port_that_is_taken_is_named(adapted_project: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        refused = run(adapted_project, "serve", "--port", port, status=1)
    assert f"error: cannot listen on 127.0.0.1 port {port} (Address already in use)" in refused.stderr
