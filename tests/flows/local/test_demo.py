"""`make demo` on a tiny project, with a real Prefect server and worker."""

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from cmt.workspace import open
from flows.local import demo
from flows.local.prefect import LocalPrefect, empty_database, local_prefect
from tests.helpers.projects import change_params

ROOT = Path(__file__).parents[3]
KEYS = [
    "slice",
    "documents",
    "rows",
    "questions",
    "em",
    "f1",
    "f1_low",
    "f1_high",
    "closed_f1",
    "rag_f1",
    "recall",
]
KEYS += ["adapt_seconds", "measure_seconds", "seconds"]


@pytest.fixture
def folder(
    tiny_workspace: Path,
    mlflow_database: Path,
    prefect_server: None,
    prefect_databases: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A clone: the tiny project, the flows and what Prefect reads, and an empty database of an
    earlier demo.
    """
    monkeypatch.setattr(demo, "ROOT", tiny_workspace)
    monkeypatch.setattr(demo, "HOME", tiny_workspace / ".prefect/demo")
    shutil.copytree(
        ROOT / "flows", tiny_workspace / "flows", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("prefect.yaml", "prefect.toml"):
        shutil.copy(ROOT / name, tiny_workspace)
    shutil.copy(mlflow_database, tiny_workspace / "mlflow.db")
    change_params(tiny_workspace, tracking={"enabled": True}, evaluation={"round_baselines": False})
    (tiny_workspace / ".prefect").mkdir()
    shutil.copy(empty_database(prefect_databases / "home"), tiny_workspace / ".prefect")
    monkeypatch.chdir(tiny_workspace)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv(
        "PREFECT_API_URL", "http://127.0.0.1:9/api"
    )  # the user's own, which the demo leaves alone
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    return tiny_workspace


@pytest.fixture
def scheduled_runs(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The flow runs that a schedule on the demo's server creates, once the demo is over."""
    found: list[dict[str, Any]] = []

    @contextmanager
    def with_schedule(**options: Any) -> Iterator[LocalPrefect]:
        with local_prefect(**options) as prefect:
            flow = prefect.request("POST", "flows/", {"name": "scheduled"})["id"]
            prefect.request(
                "POST", "deployments/", {"name": "once", "flow_id": flow}
            )  # without a work pool
            prefect.schedule("scheduled/once")
            yield prefect
            deadline = time.monotonic() + 60
            body = {"deployments": {"name": {"any_": ["once"]}}}
            while not found and time.monotonic() < deadline:
                found.extend(prefect.request("POST", "flow_runs/filter", body))
                time.sleep(0.2)

    monkeypatch.setattr(demo, "local_prefect", with_schedule)
    return found


def test_every_month_runs_through_the_deployment_once(
    folder: Path,
    scheduled_runs: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # 1. every round and the final scores
    demo.demo()
    first_words = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert first_words == ["slice", "2031-01/0001", "2031-02/0001", "all", "6", "bank"]
    first = json.loads((folder / "metrics/demo.json").read_text())
    assert [list(row) for row in first["rounds"]] == [KEYS, KEYS]
    assert [row["closed_f1"] is None for row in first["rounds"]] == [True, False]
    last = first["rounds"][-1]
    assert first["final"].items() >= {name: last[name] for name in ("closed_f1", "rag_f1")}.items()
    assert first["final"]["questions"] == 4
    assert [(row["slice"], row["documents"], row["rows"]) for row in first["rounds"]] == [
        ("2031-01/0001", 3, 3),
        ("2031-02/0001", 3, 6),
    ]
    # 2. they were flow runs of the deployment, and runs in MLflow
    workspace = open(params=folder / "params.yaml")
    assert first["bank_digest"] == workspace.project.active.stored().digest()
    assert all(round_.prefect_run for round_ in workspace.rounds())
    client = MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db")
    assert all(
        client.get_run(round_.mlflow_run).info.status == "FINISHED" for round_ in workspace.rounds()
    )
    # 3. a schedule starts a run, as in `make year`
    [scheduled] = scheduled_runs
    assert scheduled["auto_scheduled"] and scheduled["state_name"] in ("Scheduled", "Late")
    # 4. nothing is done twice, and no server is started
    monkeypatch.delattr(demo, "local_prefect")
    demo.demo()
    assert capsys.readouterr().out.count("already there") == 2
    second = json.loads((folder / "metrics/demo.json").read_text())
    assert (second["rounds"], second["bank_digest"]) == (first["rounds"], first["bank_digest"])
