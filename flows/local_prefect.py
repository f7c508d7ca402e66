"""A Prefect server and a worker of one's own, gone when they are no longer needed.

They listen on a free port of 127.0.0.1 and keep their state and logs in one folder, which is made anew: nothing of the
user's own Prefect is read or written, and what a killed predecessor left cannot hold anything up.
"""

import http.client
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from cmt.cli.output import console
from cmt.common.text import plain
from cmt.errors import RoundError, ServiceError

START_SECONDS, STOP_SECONDS = 180, 20
LOG_LINES = 40
_TROUBLE = re.compile(r"\| (WARNING|ERROR|CRITICAL) +\|")


class Services:
    """What runs, and what it is asked to do; `home` has a log for each by its name."""

    def __init__(self, *, root: Path, home: Path, environment: Mapping[str, str]) -> None:
        self.root, self.home, self.environment = root, home, environment
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        """`prefect` with `arguments`, in a process group of its own."""
        with (self.home / f"{name}.log").open("wb") as log:
            self.running[name] = subprocess.Popen(  # noqa: S603 - arguments of our own
                [sys.executable, "-m", "prefect", *arguments],
                cwd=self.root,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self.running[name]

    def call(self, name: str, *arguments: str) -> None:
        """`prefect` with `arguments`, to its end. ServiceError when it fails, or server or worker end meanwhile."""
        process = self.start(name, *arguments)
        with spinner() as show:
            while process.poll() is None:
                self.check("server", "worker")
                show(next(reversed(self._log(name)), "").rpartition(" * ")[2])  # of an event: what it is about
                time.sleep(0.1)
        del self.running[name]
        if process.returncode:
            raise ServiceError(f"prefect {shlex.join(arguments)} failed:\n{self._tail(name)}")

    def check(self, *names: str) -> None:
        """ServiceError when one of `names` was started and has ended."""
        for name in names:
            process = self.running.get(name)
            if process is not None and process.poll() is not None:
                raise ServiceError(f"the Prefect {name} ended by itself:\n{self._tail(name)}")

    def run(self, deployment: str, slice_id: str) -> None:
        """One flow run of `deployment`, watched to its end. RoundError with its last log lines unless it completes."""
        # with its own command it stays in the worker's process group, and no second process prepares it
        command = shlex.join([sys.executable, "-m", "prefect.engine"])
        settings = ["--job-variable", f"command={command}", "--job-variable", f"working_dir={self.root}"]
        before = len(self._log("worker"))
        try:
            self.call("run", "deployment", "run", deployment, "--param", f"slice={slice_id}", "--watch", *settings)
        except ServiceError as error:
            said = [line for line in self._log("worker")[before:] if _TROUBLE.search(line)]
            lines = [f"the flow run of {slice_id} did not complete", *(said or [str(error)])]
            raise RoundError("\n".join([*lines, f"more in {self.home / 'worker.log'}"])) from None

    def wait(self, port: int) -> None:
        """Until the server answers. ServiceError when it ends or takes too long."""
        give_up = time.monotonic() + START_SECONDS
        while not _healthy(port):
            self.check("server")
            if time.monotonic() > give_up:
                raise ServiceError(f"no Prefect server after {START_SECONDS} s:\n{self._tail('server')}")
            time.sleep(0.1)

    def stop(self) -> None:
        """End everything that was started and all below it, the latest first: politely, then by force."""
        for process in reversed(self.running.values()):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _log(self, name: str) -> list[str]:
        return (self.home / f"{name}.log").read_text(encoding="utf-8", errors="replace").splitlines()

    def _tail(self, name: str) -> str:
        return "\n".join(self._log(name)[-LOG_LINES:])


@contextmanager
def services(*, root: Path, home: Path) -> Iterator[Services]:
    """A server with the deployments of `root`'s prefect.yaml and a worker that serves them."""
    shutil.rmtree(home, ignore_errors=True)  # a flow run that was killed would still be Running there
    home.mkdir(parents=True)
    port = _free_port()
    made = Services(root=root, home=home, environment=_environment(home, port))
    try:
        made.start("server", "server", "start", "--host", "127.0.0.1", "--port", str(port))
        made.wait(port)
        made.call("pool", "work-pool", "create", "cmt", "--type", "process")
        made.start("worker", "worker", "start", "--pool", "cmt", "--type", "process", "--name", "demo")
        made.call("deploy", "--no-prompt", "deploy", "--all")
        yield made
    finally:
        kept = signal.signal(signal.SIGINT, signal.SIG_IGN)  # an impatient second Ctrl-C would leave orphans
        made.stop()
        signal.signal(signal.SIGINT, kept)


@contextmanager
def spinner() -> Iterator[Callable[[str], None]]:
    """Shows on a terminal that something is going on; call it with what."""
    screen = console(stderr=True)
    columns = SpinnerColumn(), TimeElapsedColumn(), TextColumn("{task.description}", markup=False)
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as progress:
        task = progress.add_task("")
        yield lambda text: progress.update(task, description=plain(text)[: screen.width - 20])


def _environment(home: Path, port: int) -> dict[str, str]:
    """This process's environment with nothing of the user's own Prefect or MLflow in it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}
    direct = ",".join(filter(None, [os.environ.get("NO_PROXY", os.environ.get("no_proxy", "")), "127.0.0.1"]))
    return kept | {
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "DO_NOT_TRACK": "true",
        "NO_PROXY": direct,
        "no_proxy": direct,
        "COLUMNS": "160",
        "PYTHONUNBUFFERED": "1",
    }


def _healthy(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/api/health")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port
