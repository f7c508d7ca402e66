"""Prefect and MLflow on PostgreSQL, and two workers in two work pools with one bank (`make
test-scale`).
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest
import yaml

from flows.local.prefect import LocalPrefect
from tests.helpers.projects import FEBRUARY, JANUARY, open_workspace, states
from tests.helpers.sources import Project
from tests.scale.postgres import Addresses, local_postgres
from tests.sources.test_sync import follow_database

ROOT = Path(__file__).parents[2]
POOLS = {"worker": "cmt", "second": "second"}
"""Name of each worker → its work pool."""

pytestmark = pytest.mark.filterwarnings("ignore::Warning")


@pytest.fixture(scope="module")
def addresses() -> Iterator[Addresses]:
    # not below pytest's folder, which the user that PostgreSQL runs as may not enter if root runs
    # the tests
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        with local_postgres(Path(folder, "data")) as found:
            yield found
        with local_postgres(Path(folder, "data")) as again:  # keeps its data
            assert again == found
            assert _count(again.prefect, "SELECT count(*) FROM flow_run") > 0


@pytest.fixture
def project(tiny_workspace: Path, addresses: Addresses) -> Path:
    """The tiny project with its articles ingested, and MLflow on PostgreSQL."""
    params = tiny_workspace / "params.yaml"
    sections = yaml.safe_load(params.read_text()) | {
        "tracking": {"enabled": True, "uri": addresses.mlflow}
    }
    params.write_text(yaml.safe_dump(sections))
    open_workspace(tiny_workspace).ingest()
    return tiny_workspace


@pytest.fixture
def prefect(project: Path, addresses: Addresses, tmp_path: Path) -> Iterator[LocalPrefect]:
    """A server on PostgreSQL, and two workers, each with a pool and a deployment of its own."""
    home = tmp_path / "prefect"
    home.mkdir()
    variables = {
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": addresses.prefect,
        "CMT_PARAMS": str(project / "params.yaml"),
    }
    running = LocalPrefect(root=ROOT, home=home, variables=variables)
    try:
        running.start_server()
        for worker, pool in POOLS.items():
            running.start_worker(worker, pool=pool)
        running.call("deploy", "--no-prompt", "deploy", "--name", "online-update")
        second = ("flows/online_update.py:online_update", "--name", "second", "--pool", "second")
        running.call("deploy second", "--no-prompt", "deploy", *second)
        yield running
    finally:
        running.stop()


@pytest.mark.timeout(600)
def test_two_workers_update_one_bank_in_turn(
    prefect: LocalPrefect, project: Path, addresses: Addresses, adapted_project: Path
) -> None:
    # 1. both adapt what is pending, at the same time
    with ThreadPoolExecutor() as pool:
        runs = [
            pool.submit(prefect.run, deployment)
            for deployment in ("cmt/online-update", "cmt/second")
        ]
        for run in runs:
            run.result()
    # 2. every slice was adapted once, and the bank is that of one process
    workspace = open_workspace(project)
    assert states(workspace) == {JANUARY: "committed", FEBRUARY: "committed"}
    assert workspace.project.bank.digest() == open_workspace(adapted_project).project.bank.digest()
    assert workspace.project.bank.audit().problems == []
    # 3. both services kept their records in PostgreSQL
    assert (
        _count(addresses.prefect, "SELECT count(*) FROM flow_run WHERE state_type = 'COMPLETED'")
        == 2
    )
    rounds = "SELECT count(*) FROM tags WHERE key = 'cmt.key'"
    assert _count(addresses.mlflow, rounds) >= 2
    assert not (project / "mlflow.db").exists()


def _count(address: str, query: str) -> int:
    url = "postgresql://" + address.partition("://")[2]
    with psycopg.connect(url) as connection:
        row = connection.execute(query).fetchone()
    return int(row[0]) if row else 0


@pytest.mark.parametrize("updated_at", [None, "changed"])
def test_a_sync_follows_a_table(
    addresses: Addresses, tmp_path: Path, updated_at: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGUSER", "cmt")  # `sources` refuses a user in the address
    follow_database(
        Project(tmp_path / "project"), addresses.mlflow.replace("cmt@", ""), updated_at, monkeypatch
    )
