"""A Prefect server for the tests of the flows, and a project whose rounds they run."""

import atexit
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

HOME = mkdtemp(prefix="cmt-prefect-")
atexit.register(shutil.rmtree, HOME, ignore_errors=True)
# read when Prefect is imported, which the modules beside this one do: the user's own Prefect home
# stays as it is
os.environ |= {
    "PREFECT_HOME": HOME,
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",  # the tests call cmt outside flows too
    "DO_NOT_TRACK": "true",
}

import pytest  # noqa: E402

from cmt.workspace import Workspace, open  # noqa: E402
from flows.local.prefect import LocalPrefect, copy_database, empty_database  # noqa: E402
from tests.helpers.projects import change_params  # noqa: E402


@pytest.fixture(scope="session")
def prefect_databases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the empty database that the first Prefect server leaves to the next one."""
    return tmp_path_factory.mktemp("databases")


@pytest.fixture(scope="session")
def prefect_server(prefect_databases: Path) -> Iterator[None]:
    """The server of the flows that a test calls in this process."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    home = prefect_databases / "home"
    home.mkdir()
    server = LocalPrefect(root=home, home=home)
    try:
        server.start_server()
        copy_database(home / "prefect.db", empty_database(home))
        with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{server.port}/api"}):
            yield
    finally:
        server.stop()


@pytest.fixture
def project(tiny_workspace: Path, prefect_server: None) -> Path:
    """The params.yaml of the tiny project with its two months ingested; its rounds ask no
    question.
    """
    params = tiny_workspace / "params.yaml"
    evaluation = {"round_baselines": False, "questions": 0, "earlier_questions": 0}
    change_params(tiny_workspace, evaluation=evaluation, gate={"canaries": 0})
    open(params=params).ingest()
    return params


@pytest.fixture
def workspace(project: Path) -> Workspace:
    """The project, opened apart from the flows."""
    return open(params=project)
