"""A PostgreSQL server for the tests, on a Unix socket; PostgreSQL has to be installed."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

_DEBIAN = Path("/usr/lib/postgresql")
_ROOT_RUNS_AS = "postgres"  # PostgreSQL refuses to run as root


class Addresses(NamedTuple):
    """The databases of a server."""

    prefect: str
    """For PREFECT_SERVER_DATABASE_CONNECTION_URL."""
    mlflow: str
    """For `tracking.uri`."""


@contextmanager
def local_postgres(folder: Path) -> Iterator[Addresses]:
    """A server whose data stay in `folder`, with a database for Prefect and one for MLflow."""
    binaries = _binaries()
    # 1. the data; the permissions of the folder protect the socket
    folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        shutil.chown(folder, _ROOT_RUNS_AS)
    if not (folder / "PG_VERSION").exists():
        _run(
            folder,
            binaries / "initdb",
            "--pgdata",
            folder,
            "--username",
            "cmt",
            "--auth",
            "trust",
            "--encoding",
            "UTF8",
        )
    # 2. the server
    settings = f"-c listen_addresses='' -c unix_socket_directories='{folder}'"
    control = (binaries / "pg_ctl", "--pgdata", folder, "--wait")
    _run(folder, *control, "--log", folder / "log", "--options", settings, "start")
    # 3. the databases
    connection = ("--host", folder, "--username", "cmt")
    try:
        query = ("--no-align", "--tuples-only", "--command", "SELECT datname FROM pg_database")
        existing = _run(
            folder, binaries / "psql", *connection, "--dbname", "postgres", *query
        ).split()
        for name in Addresses._fields:
            if name not in existing:
                _run(folder, binaries / "createdb", *connection, name)
        host = f"host={folder}"
        yield Addresses(
            f"postgresql+asyncpg://cmt@/prefect?{host}", f"postgresql+psycopg://cmt@/mlflow?{host}"
        )
    finally:
        _run(folder, *control, "--mode", "fast", "stop")


def _binaries() -> Path:
    """The folder of PostgreSQL's programs: of the PATH, or the newest that Debian keeps beside
    it.
    """
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    return max(_DEBIAN.glob("*/bin"), key=lambda folder: int(folder.parent.name))


def _run(folder: Path, *command: Path | str) -> str:
    """The output of a program of PostgreSQL. Raises CalledProcessError if it fails."""
    account = _ROOT_RUNS_AS if os.geteuid() == 0 else None
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    # a file, because the server keeps its standard output open
    with (folder.parent / f"{folder.name}.out").open("w+b") as output:
        subprocess.run(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=output,
            stderr=subprocess.STDOUT,
            user=account, group=account, extra_groups=[] if account else None, check=True,
        )  # fmt: skip
        output.seek(0)
        return output.read().decode()
