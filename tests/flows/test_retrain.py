"""Train, evaluate and register a tiny compressor as one flow run."""

import json
import shutil
from pathlib import Path

from mlflow import MlflowClient

from cmt.modeling.checkpoint import checkpoint_digest
from cmt.workspace import open
from flows.retrain import retrain
from tests.helpers.lamps import write_lamps
from tests.helpers.projects import change_params


def test_a_compressor_is_trained_measured_and_registered(
    project: Path, mlflow_database: Path
) -> None:
    lamps = write_lamps(project.parent, ["Ann", "Bea", "Cyd", "Dot", "Eve", "Fay"])
    train = {**lamps, "save_steps": 2, "steps_per_update": 2}
    change_params(project.parent, train=train, tracking={"enabled": True})
    shutil.copy(mlflow_database, project.parent / "mlflow.db")
    assert retrain(limit=2, params=str(project)) == "1"
    params = open(params=project).params
    log = json.loads((params.train.output / "log.json").read_text())
    assert [entry["step"] for entry in log if "train_loss" in entry] == [
        2
    ]  # four steps, two in an update
    client = MlflowClient(tracking_uri=params.tracking.uri)
    version = client.get_model_version("cmt", "1")
    assert version.tags["cmt.decision"].startswith(("promoted: F1", "refused: F1"))
    assert version.tags["cmt.digest"] == checkpoint_digest(params.train.output)
    assert version.run_id
    run = client.get_run(version.run_id)
    assert run.info.status == "FINISHED"
    assert {"train/train_loss", "heldout/f1", "heldout/recall"} <= run.data.metrics.keys()
