"""`make postgres`: a PostgreSQL server of this machine for Prefect and MLflow, which runs until Ctrl-C.

It listens on a Unix socket in its folder and on no network address. The data stay in the folder. An existing
server needs only the two addresses (docs/operations.md).
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from cmt.errors import CmtError, ServiceError

FOLDER = Path(__file__).parents[2] / "data/postgres"
DATABASES = ("prefect", "mlflow")
USER = "cmt"
_DEBIAN = Path("/usr/lib/postgresql")
_ROOT_RUNS_AS = "postgres"  # PostgreSQL refuses to run as root
_LONGEST_SOCKET = 107  # bytes of the path of a Unix socket, on Linux
_SOCKET = ".s.PGSQL.5432"


class Addresses(NamedTuple):
    """The databases of a server, as Prefect and MLflow want them named."""

    prefect: str
    """For PREFECT_SERVER_DATABASE_CONNECTION_URL."""
    mlflow: str
    """For MLFLOW_TRACKING_URI, or `tracking.uri`."""


@contextmanager
def local_postgres(folder: Path) -> Iterator[Addresses]:
    """A server whose data are in `folder`, with a database for each of DATABASES; it is stopped at the end.

    Raises ServiceError if PostgreSQL is not installed or does not start.
    """
    folder = folder.resolve()
    if len(os.fsencode(folder / _SOCKET)) > _LONGEST_SOCKET:
        raise ServiceError(f"the path {folder} is too long for PostgreSQL's socket: use a folder with a shorter one")
    binaries = _binaries()
    # 1. the data
    folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        try:
            shutil.chown(folder, _ROOT_RUNS_AS)
        except LookupError:
            raise ServiceError(
                f"PostgreSQL does not run as root, and there is no account {_ROOT_RUNS_AS}: create it"
            ) from None
    if not (folder / "PG_VERSION").exists():
        # the permissions of the folder protect the socket
        _run(
            folder, binaries / "initdb", "--pgdata", folder, "--username", USER, "--auth", "trust", "--encoding", "UTF8"
        )
    # 2. the server
    settings = f"-c listen_addresses='' -c unix_socket_directories='{folder}'"
    control = (binaries / "pg_ctl", "--pgdata", folder, "--wait")
    _run(folder, *control, "--log", folder / "log", "--options", settings, "start")
    # 3. the databases
    connection = ("--host", folder, "--username", USER)
    try:
        query = ("--no-align", "--tuples-only", "--command", "SELECT datname FROM pg_database")
        existing = _run(folder, binaries / "psql", *connection, "--dbname", "postgres", *query).split()
        for name in DATABASES:
            if name not in existing:
                _run(folder, binaries / "createdb", *connection, name)
        yield Addresses(*(f"postgresql+{driver}://{USER}@/{name}?host={folder}" for driver, name in _DRIVERS))
    finally:
        _run(folder, *control, "--mode", "fast", "stop")


_DRIVERS = tuple(zip(("asyncpg", "psycopg"), DATABASES, strict=True))


def _binaries() -> Path:
    """The folder of PostgreSQL's programs: of the PATH, or the newest that Debian keeps beside it."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    versions = [folder for folder in _DEBIAN.glob("*/bin") if (folder / "initdb").exists()]
    if not versions:
        raise ServiceError(
            "PostgreSQL is not installed: there is no initdb (Debian: apt-get install postgresql, macOS: brew install "
            "postgresql)"
        )
    return max(versions, key=lambda folder: int(folder.parent.name))


def _run(folder: Path, *command: Path | str) -> str:
    """What a program of PostgreSQL prints. Raises ServiceError if it fails."""
    account = _ROOT_RUNS_AS if os.geteuid() == 0 else None
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    # a file, because the server keeps its standard output open
    with (folder.parent / f"{folder.name}.out").open("w+b") as output:
        done = subprocess.run(  # noqa: S603 - fixed arguments
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            user=account, group=account, extra_groups=[] if account else None, check=False,
        )  # fmt: skip
        output.seek(0)
        printed = output.read().decode(errors="replace").strip()
    Path(output.name).unlink()
    if done.returncode:
        raise ServiceError(f"{Path(command[0]).name} failed in {folder}: {printed}")
    return printed


def main() -> int:
    """Run the server until it is interrupted; the exit status."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        with local_postgres(FOLDER) as addresses:
            print(f"export PREFECT_SERVER_DATABASE_CONNECTION_URL='{addresses.prefect}'")
            print(f"export MLFLOW_TRACKING_URI='{addresses.mlflow}'")
            print("PostgreSQL runs until Ctrl-C", flush=True)
            signal.pause()
    except CmtError as error:
        print(f"postgres: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass  # the intended end
    return 0


if __name__ == "__main__":
    sys.exit(main())
