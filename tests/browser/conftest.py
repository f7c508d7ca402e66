"""Headless Chromium and a server for it. Not part of `make test`: run these tests with `make
browser`.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome

import cmt
from cmt.serving.app import create_app
from cmt.serving.tokens import TokenFile
from tests.helpers.chromium import SIZES, missing, started
from tests.helpers.projects import adapt
from tests.helpers.servers import running, serving


@pytest.fixture(scope="session", autouse=True)
def chromium() -> None:
    """End the run with a message if Chromium is not installed."""
    if missing():
        pytest.exit(missing(), returncode=1)


@pytest.fixture(scope="session")
def url(tiny_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server over the tiny project and one document whose fields contain
    markup.
    """
    folder = Path(shutil.copytree(tiny_project, tmp_path_factory.mktemp("browsed") / "project"))
    hostile = {
        "doc_id": "&lt;img src=x onerror=alert(1)>",
        "published_at": "2031-01-25T07:00:00Z",
        # readers leave out tags, and keep escaped ones as text
        "title": "&lt;script>alert(1)&lt;/script> 🦆",
        "text": "The duck &lt;b onmouseover=alert(1)>said&lt;/b> quack & left.",
    }
    with (folder / "news/documents.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(hostile) + "\n")
    with serving(adapt(folder)) as address:
        yield address


@pytest.fixture(scope="session")
def guarded(
    adapted_project: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str]]:
    """The address of a server with tokens, and a token."""
    file = TokenFile(tmp_path_factory.mktemp("tokens") / "tokens.json")
    secret = file.add("ann", scope="ask")
    overrides = {"serving.token_file": str(file.path)}
    with running(
        create_app(cmt.open(params=adapted_project / "params.yaml", overrides=overrides).project)
    ) as address:
        yield address, secret


@pytest.fixture(params=SIZES)
def browser(request: pytest.FixtureRequest) -> Iterator[Chrome]:
    """Chromium with the window of a desktop and of a phone."""
    with started(request.param) as chrome:
        yield chrome
