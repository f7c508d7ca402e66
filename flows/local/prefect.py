"""A temporary Prefect server and worker, stopped when they are no longer needed.

They listen on a free port of 127.0.0.1 and keep their state and logs in one folder, which is
created anew: the user's own Prefect profile and database are neither read nor written. Pools and
flow runs are requested over HTTP, because importing `prefect.client` takes 2.4 s of one core, ten
times as long as this module, and reads the user's profile.
"""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.client import BAD_REQUEST, SERVICE_UNAVAILABLE, HTTPConnection, HTTPException
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import uuid4

from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from cmt.cli.output import console, write_line
from cmt.errors import RoundError, ServiceError
from cmt.text.display import plain

REQUEST_SECONDS, READ_SECONDS, STOP_SECONDS = 180, 20, 20
START_SECONDS = 120  # longest time until a schedule or trigger starts a run
LOG_LINES = 40
_POLL_SECONDS = 0.2
_WATCH_SECONDS = 1.0  # the server answers on a core that the flow run needs
_SCHEDULER_SECONDS = 5
_FINAL_STATES = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
_WARNING_OR_WORSE = re.compile(r"\| (WARNING|ERROR|CRITICAL) +\|")


class LocalPrefect:
    """The Prefect processes of one folder and the requests to their server.

    `root`: working directory of every process. `home`: folder of the database and of one log a
    process. `variables`: more environment variables of the processes.
    """

    def __init__(
        self, *, root: Path, home: Path, variables: Mapping[str, str] | None = None
    ) -> None:
        self.root, self.home, self.port = root, home, free_port()
        self.environment = _environment(home, self.port) | dict(variables or {})
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start `prefect` with `arguments` in a process group of its own; its log is
        `<name>.log`.
        """
        with (self.home / f"{name}.log").open("wb") as log:
            self.running[name] = subprocess.Popen(  # noqa: S603 - fixed arguments
                [sys.executable, "-m", "prefect", *arguments],
                cwd=self.root,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self.running[name]

    def start_server(self) -> None:
        """Start the server and wait until it answers. ServiceError when it ends or takes too
        long.
        """
        self.start("server", "server", "start", "--host", "127.0.0.1", "--port", str(self.port))
        self.request("GET", "health")

    def start_worker(self, name: str, *, pool: str) -> None:
        """Create the work pool `pool` of processes, and start a worker that takes its flow runs."""
        self.request(
            "POST", "work_pools/", {"name": pool, "type": "process"}
        )  # the worker adds its template
        self.start(name, "worker", "start", "--pool", pool, "--type", "process", "--name", name)

    def call(self, name: str, *arguments: str) -> None:
        """Run `prefect` with `arguments`. ServiceError when it fails, or when server or worker end
        meanwhile.
        """
        process = self.start(name, *arguments)
        with spinner() as show:
            show(f"prefect {shlex.join(arguments)}")
            while process.poll() is None:
                self.check()
                time.sleep(_POLL_SECONDS)
        del self.running[name]
        if process.returncode:
            raise ServiceError(f"prefect {shlex.join(arguments)} failed:\n{self._tail(name)}")

    def deploy(self) -> None:
        """Create the deployments, once more if the server was too busy (status 503). Raises
        ServiceError.
        """
        arguments = "deploy", "--no-prompt", "deploy", "--all"
        try:
            self.call(*arguments)
        except ServiceError as error:
            if str(SERVICE_UNAVAILABLE) not in str(error):
                raise
            write_line("the Prefect server was busy (503): deploying once more", stderr=True)
            self.call(*arguments)

    def check(self) -> None:
        """ServiceError when the server or the worker was started and has ended."""
        for name in ("server", "worker"):
            process = self.running.get(name)
            if process is not None and process.poll() is not None:
                raise ServiceError(f"the Prefect {name} ended unexpectedly:\n{self._tail(name)}")

    def run(
        self, deployment: str, *, on_poll: Callable[[], None] | None = None, **parameters: object
    ) -> None:
        """Run `deployment` with `parameters` and watch it to its end; `on_poll` is called while it
        runs.

        RoundError with the warnings and errors of its log unless it completes, ServiceError when
        server or worker end.
        """
        # `python -m prefect.engine` directly: the run stays in the worker's process group and
        # starts one process less
        command = shlex.join([sys.executable, "-m", "prefect.engine"])
        body = {
            "parameters": parameters,
            "job_variables": {"command": command, "working_dir": str(self.root)},
            "idempotency_key": uuid4().hex,  # a repeated request creates no second flow run
        }
        first_line = len(self._log("worker"))
        identifier = self.request("GET", f"deployments/name/{deployment}")["id"]
        run = self.request("POST", f"deployments/{identifier}/create_flow_run", body)
        self._watch(deployment, run, first_line=first_line, on_poll=on_poll)

    def schedule(self, deployment: str, **parameters: object) -> None:
        """Give `deployment` a schedule whose first run, with `parameters`, is in a moment; the next
        is years away.
        """
        identifier = self.request("GET", f"deployments/name/{deployment}")["id"]
        first = datetime.now(UTC) + timedelta(
            seconds=3 * _SCHEDULER_SECONDS
        )  # the scheduler creates no past runs
        schedule = {"interval": 10 * 365 * 86_400, "anchor_date": first.isoformat()}
        body = [{"active": True, "schedule": schedule, "parameters": parameters}]
        self.request("POST", f"deployments/{identifier}/schedules", body)

    def await_run(self, deployment: str) -> None:
        """Watch the newest run that a schedule or trigger starts. Raises as `run`, and ServiceError
        if none starts.
        """
        deadline = time.monotonic() + START_SECONDS
        body = {
            "deployments": {"name": {"any_": [deployment.partition("/")[2]]}},
            "flow_runs": {"state": {"name": {"not_any_": ["Scheduled"]}}},
            "sort": "START_TIME_DESC",
            "limit": 1,
        }
        while not (found := self.request("POST", "flow_runs/filter", body)):
            if time.monotonic() > deadline:
                raise ServiceError(
                    f"no schedule or trigger started {deployment} in {START_SECONDS} s: see "
                    f"{self.home}"
                )
            self.check()
            time.sleep(_POLL_SECONDS)
        self._watch(deployment, found[0], first_line=len(self._log("worker")))

    def _watch(
        self,
        deployment: str,
        run: dict[str, Any],
        *,
        first_line: int,
        on_poll: Callable[[], None] | None = None,
    ) -> None:
        """Watch a flow run to its end; its log begins at `first_line` of the worker's."""
        with spinner() as show:
            while run["state_type"] not in _FINAL_STATES:
                self.check()
                show(
                    [run["state_name"], *self._log("worker")[first_line:]][-1].rpartition(" | ")[2]
                )
                if on_poll:
                    on_poll()
                time.sleep(_WATCH_SECONDS)
                run = self.request("GET", f"flow_runs/{run['id']}")
        if run["state_type"] != "COMPLETED":
            problems = [
                line for line in self._log("worker")[first_line:] if _WARNING_OR_WORSE.search(line)
            ]
            problems = problems or [f"{run['state_name']}: {run['state']['message']}"]
            lines = [f"the flow run of {deployment} did not complete", *problems]
            raise RoundError("\n".join([*lines, f"more in {self.home / 'worker.log'}"]))

    def request(self, method: str, path: str, body: object = None) -> Any:
        """The JSON that the server's API answers; repeated while it is unavailable, as at its
        start.

        ServiceError when the server refuses or stays unavailable, or when it or the worker ends.
        """
        deadline = time.monotonic() + REQUEST_SECONDS
        # any other request may have been carried out
        timeout = READ_SECONDS if method == "GET" else REQUEST_SECONDS
        while True:
            connection = HTTPConnection("127.0.0.1", self.port, timeout=timeout)
            try:
                connection.request(
                    method,
                    f"/api/{path}",
                    json.dumps(body or {}),
                    {"Content-Type": "application/json"},
                )
                response = connection.getresponse()
                status, answer = response.status, response.read().decode(errors="replace")
            except (OSError, HTTPException) as error:
                status, answer = SERVICE_UNAVAILABLE, repr(error)
            finally:
                connection.close()
            if status < BAD_REQUEST:
                return json.loads(answer)
            self.check()
            if status != SERVICE_UNAVAILABLE or time.monotonic() > deadline:
                raise ServiceError(
                    f"the Prefect server answers {method} {path} with {status}: {answer}"
                )
            time.sleep(_POLL_SECONDS)

    def stop(self) -> None:
        """Stop every process that was started and its children, latest first: SIGTERM, then
        SIGKILL.
        """
        for process in reversed(self.running.values()):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _log(self, name: str) -> list[str]:
        return (
            (self.home / f"{name}.log").read_text(encoding="utf-8", errors="replace").splitlines()
        )

    def _tail(self, name: str) -> str:
        return "\n".join(self._log(name)[-LOG_LINES:])


@contextmanager
def local_prefect(*, root: Path, home: Path, params: Path | None = None) -> Iterator[LocalPrefect]:
    """A server with the deployments of `root`'s prefect.yaml, and a worker that runs them.

    `params`: their params.yaml; default: the one in `root`.
    """
    shutil.rmtree(
        home, ignore_errors=True
    )  # a flow run that was killed would stay Running in the old database
    home.mkdir(parents=True)
    prefect = LocalPrefect(
        root=root, home=home, variables={"CMT_PARAMS": str(params)} if params else None
    )
    empty = empty_database(home)
    if empty.exists():
        shutil.copy(empty, home / "prefect.db")
    try:
        prefect.start_server()
        if not empty.exists():
            copy_database(home / "prefect.db", empty)
        prefect.start_worker("worker", pool="cmt")
        prefect.deploy()
        yield prefect
    finally:
        previous = signal.signal(
            signal.SIGINT, signal.SIG_IGN
        )  # a second Ctrl-C would leave orphans
        prefect.stop()
        signal.signal(signal.SIGINT, previous)


@contextmanager
def spinner() -> Iterator[Callable[[str], None]]:
    """A spinner with the elapsed time on a terminal; call the result with the text to show."""
    screen = console(stderr=True)
    columns = SpinnerColumn(), TimeElapsedColumn(), TextColumn("{task.description}", markup=False)
    with Progress(
        *columns, console=screen, transient=True, disable=not screen.is_terminal
    ) as progress:
        task = progress.add_task("")
        yield lambda text: progress.update(task, description=plain(text)[: screen.width - 20])


def free_port() -> int:
    """A port of 127.0.0.1 on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _environment(home: Path, port: int) -> dict[str, str]:
    """This process's environment without the user's own Prefect and MLflow settings."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PREFECT_", "MLFLOW_"))
    }
    no_proxy = ",".join(
        filter(None, [os.environ.get("NO_PROXY", os.environ.get("no_proxy", "")), "127.0.0.1"])
    )
    return inherited | {
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": str(_SCHEDULER_SECONDS),
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "DO_NOT_TRACK": "true",
        "NO_PROXY": no_proxy,
        "no_proxy": no_proxy,
        "COLUMNS": "160",
        "PYTHONUNBUFFERED": "1",
    }


def empty_database(home: Path) -> Path:
    """Where the first server of a Prefect version leaves its database for later ones, to which it
    saves migrations.
    """
    return home.parent / f"empty-{version('prefect')}.db"


def copy_database(source: Path, target: Path) -> None:
    """Copy a SQLite database that may be in use; `target` appears only when it is complete."""
    part = target.with_suffix(".part")
    with closing(sqlite3.connect(source)) as reader, closing(sqlite3.connect(part)) as writer:
        reader.backup(writer)
    part.replace(target)
