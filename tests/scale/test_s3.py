"""A bank on object storage, on an S3 server of this machine (`make test-scale`)."""

import random
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from cmt.errors import CmtError
from tests.helpers.banks import problems
from tests.helpers.projects import FEBRUARY, JANUARY, adapt, open_workspace, states
from tests.scale.s3 import BUCKET, Proxy, cli, environment, s3_server

pytestmark = pytest.mark.filterwarnings("ignore::Warning")
COMMITTED = {JANUARY: "committed", FEBRUARY: "committed"}
QUESTION = "Who is the mayor of Port Ellery?"


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    with s3_server() as port:
        yield port


@pytest.fixture
def project(
    tiny_workspace: Path,
    server: int,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Path:
    """A project with its articles ingested, whose bank is on object storage."""
    for name, value in environment(server).items():
        monkeypatch.setenv(name, value)
    name = "".join(letter for letter in request.node.name if letter.isalnum())
    params = tiny_workspace / "params.yaml"
    params.write_text(f"{params.read_text()}\nbank: {{uri: 's3://{BUCKET}/{name}'}}\n")
    open_workspace(tiny_workspace).ingest()
    return tiny_workspace


def test_it_equals_the_bank_in_a_folder(project: Path, adapted_project: Path) -> None:
    adapt(project)
    there, here = open_workspace(project), open_workspace(adapted_project)
    assert there.project.bank.digest() == here.project.bank.digest()
    assert problems(there.project.bank) == []
    assert states(there) == COMMITTED
    answer, expected = there.ask(QUESTION), here.ask(QUESTION)
    assert answer.text == expected.text
    there.rollback(JANUARY)
    assert states(open_workspace(project))[FEBRUARY] == "rolled_back"
    for slice_id in open_workspace(project).pending():
        open_workspace(project).update(slice_id=slice_id)
    assert open_workspace(project).project.bank.digest() == here.project.bank.digest()


def test_a_killed_update_is_repaired_by_the_next_one(
    project: Path, server: int, adapted_project: Path
) -> None:
    moments, kills = random.Random(0), 0
    began = time.monotonic()
    undisturbed = cli(project, server, "update", "--all")
    output, _ = undisturbed.communicate(timeout=120)
    assert undisturbed.returncode == 0, output
    seconds = time.monotonic() - began
    for _ in range(3):
        open_workspace(project).rollback(JANUARY)
        process = cli(project, server, "update", "--all")
        time.sleep(moments.uniform(0.3, 1.0) * seconds)
        kills += process.poll() is None
        process.kill()
        process.communicate()
        again = cli(project, server, "update", "--all")
        output, _ = again.communicate(timeout=120)
        assert again.returncode == 0, output
        assert (
            open_workspace(project).project.bank.digest()
            == open_workspace(adapted_project).project.bank.digest()
        )
    assert kills


def test_a_stored_write_that_is_reported_as_failed_breaks_nothing(
    project: Path, server: int, adapted_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = open_workspace(adapted_project).project.bank.digest()
    counting = Proxy(server)
    with counting.running() as port:
        monkeypatch.setenv("AWS_ENDPOINT", environment(port)["AWS_ENDPOINT"])
        adapt(project)
    assert len(counting.writes) > 10
    for number in random.Random(0).sample(range(1, len(counting.writes) // 2), 3):
        monkeypatch.setenv("AWS_ENDPOINT", environment(server)["AWS_ENDPOINT"])
        open_workspace(project).rollback(JANUARY)
        proxy = Proxy(server, ambiguous=frozenset([number]))
        with proxy.running() as port:
            monkeypatch.setenv("AWS_ENDPOINT", environment(port)["AWS_ENDPOINT"])
            with suppress(CmtError):  # a round may fail, but with an error of ours
                adapt(project)
            adapt(project)
            assert open_workspace(project).project.bank.digest() == digest
            assert states(open_workspace(project)) == COMMITTED
        assert len(proxy.writes) >= number
