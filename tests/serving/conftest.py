"""A real server on a free port over the tiny project, and clients of it."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from openai import OpenAI

from cmt.serving.app import create_app
from tests.helpers.paused import PausedServer
from tests.helpers.projects import open_workspace
from tests.helpers.servers import running, serving


@pytest.fixture(scope="session")
def project(adapted_project: Path) -> Path:
    """The tiny project after all its rounds; shared and read-only."""
    return adapted_project


@pytest.fixture(scope="module")
def url(project: Path) -> Iterator[str]:
    """The address of a server over `project`."""
    with serving(project) as address:
        yield address


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[httpx.Client]:
    """A client of the server at `url`."""
    with httpx.Client(base_url=url, timeout=30) as http_client:
        yield http_client


@pytest.fixture
def paused(project: Path) -> Iterator[PausedServer]:
    """A server that pauses while it generates answers of up to 12 tokens."""
    app = create_app(
        open_workspace(project, answering__max_new_tokens=12, selection__abstain_below=-1.0).project
    )
    with running(app) as address:
        yield PausedServer(address, app.state.batcher)


@pytest.fixture(scope="module")
def chat(url: str) -> Iterator[OpenAI]:
    """OpenAI's official client with its usual settings."""
    with OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as openai_client:
        yield openai_client
