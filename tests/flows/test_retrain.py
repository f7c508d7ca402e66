"""Train, evaluate and register a tiny compressor as one flow run."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from cmt.modeling.checkpoint import checkpoint_digest
from cmt.workspace import Workspace, open
from flows.retrain import retrain

PEOPLE = ["Ann", "Bea", "Cyd", "Dot", "Eve", "Fay"]


def paragraph(place: int, name: str) -> dict[str, object]:
    context = f"The keeper of lamp {place} is {name}."
    answers = [{"text": name, "answer_start": context.index(name)}]
    return {"context": context, "qas": [{"id": name, "question": f"Who keeps lamp {place}?", "answers": answers}]}


@pytest.fixture
def lamps(project: Path, change: Callable[..., None], mlflow_database: Path) -> Workspace:
    """Six articles to train on, in SQuAD's layout, and a database for the run."""
    articles = [{"title": f"Lamp {i}", "paragraphs": [paragraph(i, name)]} for i, name in enumerate(PEOPLE)]
    data = project.parent / "data" / "train"
    data.mkdir(parents=True)
    (data / "lamps.json").write_text(json.dumps({"version": "1.1", "data": articles}))
    shutil.copy(mlflow_database, project.parent / "mlflow.db")
    change(
        train={
            "source": "path:lamps.json",
            "questions": 8,
            "paragraphs": 2,
            "validation_articles": 2,
            "bf16": False,
            "save_steps": 2,
        },
        tracking={"enabled": True},
    )
    return open(params=project)


def test_two_processes_train_one_compressor(project: Path, lamps: Workspace, change: Callable[..., None]) -> None:
    change(train={"processes": 2, "steps_per_update": 2})
    workspace = open(params=project)
    folder, scores = workspace.train(questions=2)
    assert checkpoint_digest(folder)
    assert scores.scores.n == 2
    log = json.loads((folder / "log.json").read_text())
    assert [entry["step"] for entry in log if "train_loss" in entry] == [2]  # four steps, two in an update
    (run,) = MlflowClient(tracking_uri=workspace.params.tracking.uri).search_runs(["1"])
    assert "train/train_loss" in run.data.metrics


def test_a_compressor_is_trained_measured_and_registered(project: Path, lamps: Workspace) -> None:
    assert retrain(limit=2, params=str(project)) == "1"
    client = MlflowClient(tracking_uri=lamps.params.tracking.uri)
    version = client.get_model_version("cmt", "1")
    assert str(version.version) == "1"
    assert version.tags["cmt.decision"].startswith(("promoted: F1", "refused: F1"))
    assert version.tags["cmt.digest"] == checkpoint_digest(lamps.params.train.output)
    assert version.run_id
    run = client.get_run(version.run_id)
    assert run.info.status == "FINISHED"
    assert {"train/train_loss", "heldout/f1", "heldout/recall"} <= run.data.metrics.keys()
