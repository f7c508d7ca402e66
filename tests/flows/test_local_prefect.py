"""What the command line says when there is no server, and how processes of the demo are ended."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from cmt.errors import ServiceError
from flows.local_prefect import Services

ROOT = Path(__file__).parents[2]


def test_without_a_server_a_deployment_run_fails_and_says_so(tmp_path: Path) -> None:
    shutil.copy(ROOT / "prefect.toml", tmp_path)
    env = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    with socket.socket() as taken:  # bound, and nobody listens: whatever runs on 4200 here stays out of it
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
def made(tmp_path: Path) -> Services:
    return Services(root=tmp_path, home=tmp_path, environment=os.environ | {"PREFECT_HOME": str(tmp_path)})


def test_a_command_that_fails_is_said_with_its_last_lines(made: Services) -> None:
    with pytest.raises(ServiceError, match=r"prefect no-such-command failed:\n(.|\n)*no-such-command"):
        made.call("x", "no-such-command")
    assert made.running == {}


def test_everything_below_a_process_ends_with_it(made: Services) -> None:
    script = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)'])"
    process = subprocess.Popen([sys.executable, "-c", script], start_new_session=True)
    made.running["nest"] = process
    while not (below := psutil.Process(process.pid).children()):
        time.sleep(0.05)
    made.stop()
    assert process.returncode == -signal.SIGTERM
    while below[0].is_running() and below[0].status() != psutil.STATUS_ZOMBIE:  # reaped by nobody in a container
        time.sleep(0.05)
