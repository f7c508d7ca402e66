"""A Prefect server for the tests of the flows, and a project whose rounds they run."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

# read when Prefect is imported, which the modules beside this one do: the home of whoever runs the tests stays as it is
HOME = mkdtemp(prefix="cmt-prefect-")
os.environ |= {
    "PREFECT_HOME": HOME,
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",  # the tests call cmt outside flows too
    "DO_NOT_TRACK": "true",
}

import pytest  # noqa: E402
import yaml  # noqa: E402

from cmt.workspace import Workspace, open  # noqa: E402


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=240):
        yield
    shutil.rmtree(HOME, ignore_errors=True)


@pytest.fixture
def project(tiny_workspace: Path, prefect_server: None) -> Path:
    """The tiny project with its two months ingested; what it returns is the params.yaml."""
    params = tiny_workspace / "params.yaml"
    open(params=params).ingest()
    return params


@pytest.fixture
def workspace(project: Path) -> Workspace:
    """The project as somebody else opens it."""
    return open(params=project)


@pytest.fixture
def change(project: Path) -> Callable[..., None]:
    """Set values of the project's params.yaml by section."""

    def set_(**sections: dict[str, Any]) -> None:
        raw = yaml.safe_load(project.read_text())
        for name, values in sections.items():
            raw[name] = raw.get(name, {}) | values
        project.write_text(yaml.safe_dump(raw))

    return set_
