"""`make demo` on a tiny project: a real server and worker, and no process left behind."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from filelock import FileLock
from mlflow import MlflowClient

from cmt.workspace import open

ROOT = Path(__file__).parents[3]
KEYS = ["slice", "documents", "rows", "questions", "em", "f1", "f1_low", "f1_high", "closed_f1", "rag_f1", "recall"]
KEYS += ["adapt_seconds", "measure_seconds", "seconds"]


@pytest.fixture(scope="module")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the first demo leaves in `.prefect` for later ones: a migrated database with nothing in it."""
    return tmp_path_factory.mktemp("databases")


@pytest.fixture
def folder(tiny_workspace: Path, mlflow_database: Path, databases: Path) -> Iterator[Path]:
    """A clone: the tiny project, the flows and what Prefect reads, and an empty database of an earlier demo."""
    shutil.copytree(ROOT / "flows", tiny_workspace / "flows", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("prefect.yaml", "prefect.toml"):
        shutil.copy(ROOT / name, tiny_workspace)
    shutil.copy(mlflow_database, tiny_workspace / "mlflow.db")
    set_params(tiny_workspace, tracking={"enabled": True}, evaluation={"round_baselines": False})
    shutil.copytree(databases, tiny_workspace / ".prefect")
    yield tiny_workspace
    for database in (tiny_workspace / ".prefect").glob("empty-*.db"):
        shutil.copy(database, databases)


def set_params(folder: Path, **sections: object) -> None:
    import yaml

    raw = yaml.safe_load((folder / "params.yaml").read_text())
    (folder / "params.yaml").write_text(yaml.safe_dump(raw | sections))


@pytest.fixture
def start(folder: Path) -> Callable[[], subprocess.Popen[str]]:
    """Start the demo, with a Prefect and an MLflow of the user's own in the environment."""
    own = {"PREFECT_API_URL": "http://127.0.0.1:9/api", "MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}

    def run() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "flows.local.demo"],
            cwd=folder,
            env=os.environ | own | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return run


def finished(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    output, errors = process.communicate()
    return process.returncode, output, errors


def processes_in(folder: Path) -> list[str]:
    """Command lines of the processes whose working directory is in a folder."""
    commands = []
    for process in psutil.process_iter(["cwd", "status", "cmdline"]):
        place = process.info["cwd"]
        if place and Path(place).is_relative_to(folder) and process.info["status"] != psutil.STATUS_ZOMBIE:
            commands.append(" ".join(process.info["cmdline"] or []))
    return commands


def test_every_month_runs_through_the_deployment_once(folder: Path, start: Callable[[], subprocess.Popen[str]]) -> None:
    status, output, errors = finished(start())
    assert status == 0, errors
    first_words = [line.split()[0] for line in output.splitlines()]
    assert first_words == ["slice", "2031-01/0001", "2031-02/0001", "all", "6", "bank"]
    assert processes_in(folder) == []
    first = json.loads((folder / "metrics" / "demo.json").read_text())
    assert [list(row) for row in first["rounds"]] == [KEYS, KEYS]
    assert [row["closed_f1"] is None for row in first["rounds"]] == [True, False]
    assert [first["rounds"][-1][name] for name in ("closed_f1", "rag_f1")] == [
        first["final"][name] for name in ("closed_f1", "rag_f1")
    ]
    assert first["final"]["questions"] == 4
    assert [(row["slice"], row["documents"], row["rows"]) for row in first["rounds"]] == [
        ("2031-01/0001", 3, 3),
        ("2031-02/0001", 3, 6),
    ]
    workspace = open(params=folder / "params.yaml")
    assert first["bank_digest"] == workspace.stored_bank.digest()
    assert all(round_.prefect_run for round_ in workspace.rounds())
    client = MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db")
    assert all(client.get_run(round_.mlflow_run).info.status == "FINISHED" for round_ in workspace.rounds())

    (folder / ".prefect" / "demo" / "server.log").unlink()
    status, output, errors = finished(start())
    assert status == 0, errors
    assert output.count("already there") == 2
    assert not (folder / ".prefect" / "demo" / "server.log").exists()  # no server was started
    second = json.loads((folder / "metrics" / "demo.json").read_text())
    assert (second["rounds"], second["bank_digest"]) == (first["rounds"], first["bank_digest"])


def test_a_flow_run_that_fails_ends_the_demo_with_its_log(
    folder: Path, start: Callable[[], subprocess.Popen[str]]
) -> None:
    set_params(folder, gate={"min_f1": 100.0})
    status, _, errors = finished(start())
    assert status == 1
    assert "error: the flow run of cmt/online-update did not complete" in errors
    assert "below gate.min_f1" in errors
    assert processes_in(folder) == []


def test_an_interrupted_demo_leaves_nothing_running(folder: Path, start: Callable[[], subprocess.Popen[str]]) -> None:
    process = start()
    log = folder / ".prefect" / "demo" / "worker.log"
    while not (log.exists() and "begin" in log.read_text()):  # a flow run is in its first task
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    status, _, errors = finished(process)
    assert status == 130, errors
    assert processes_in(folder) == []


def test_a_second_demo_in_the_same_folder_is_refused(folder: Path, start: Callable[[], subprocess.Popen[str]]) -> None:
    with FileLock(folder / ".prefect" / "demo.lock"):
        status, _, errors = finished(start())
    assert status == 1
    assert "another demo is running in this folder" in errors
