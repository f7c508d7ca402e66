"""`cmt serve` as a process."""

import json
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.helpers.cli import MAYOR, run


@pytest.mark.usefixtures("interruptible")
def test_a_server_answers_until_ctrl_c(adapted: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "cmt",
        "--params",
        str(adapted / "params.yaml"),
        "serve",
        "--port",
        "0",
        "--json",
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout
            url = json.loads("".join(process.stdout.readline() for _ in range(3)))["url"]
            assert re.fullmatch(r"http://127\.0\.0\.1:\d+", url)
            assert (
                httpx.post(f"{url}/ask", json={"question": MAYOR}, timeout=60).json()["question"]
                == MAYOR
            )
            process.send_signal(signal.SIGINT)
            assert process.stderr
            load, logged, stopped = (process.stderr.readline() for _ in range(3))
            process.send_signal(signal.SIGINT)  # a second Ctrl-C, while the process exits
            _, rest = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, rest) == (130, "")
    assert re.fullmatch(r"load: [\d.]+ s\n", load)
    assert stopped == "interrupted during serve: the server has stopped\n"
    assert (json.loads(logged)["route"], MAYOR in logged) == ("/ask", False)


def test_a_port_that_is_taken_is_named(adapted_project: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        refused = run(adapted_project, "serve", "--port", port, status=1)
    assert (
        f"error: cannot listen on 127.0.0.1 port {port} (Address already in use)" in refused.stderr
    )
