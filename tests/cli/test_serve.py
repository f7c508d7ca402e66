"""`cmt serve` as a process: it announces itself while it answers."""

import json
import signal
import subprocess
import sys
from pathlib import Path

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
