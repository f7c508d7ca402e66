"""The MLflow session on a real database: the experiment, its home, runs by key, and errors."""

import shutil
import sys
from pathlib import Path

import pytest

from cmt.config import TrackingParams
from cmt.errors import ServiceError
from cmt.tracking._session import MlflowSession


@pytest.fixture
def project(tmp_path: Path, mlflow_database: Path) -> Path:
    (tmp_path / "original").mkdir()
    shutil.copy(mlflow_database, tmp_path / "original/mlflow.db")
    return tmp_path / "original"


def session_of(root: Path) -> MlflowSession:
    return MlflowSession(TrackingParams(uri=f"sqlite:///{root}/mlflow.db"), root)


def test_the_experiment_opens_on_its_runs_and_stores_below_the_project(project: Path) -> None:
    session = session_of(project)
    experiment = session.client.get_experiment(session.experiment_id)
    assert (experiment.name, experiment.tags["mlflow.experimentKind"]) == (
        "cmt",
        "custom_model_development",
    )
    assert experiment.artifact_location == (project / "mlruns").as_uri()


def test_a_copied_project_does_not_write_into_the_original(
    project: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    original = session_of(project)
    original.run("training", tags={}, key="first")
    copy = session_of(Path(shutil.copytree(project, tmp_path / "copy")))
    experiment = copy.client.get_experiment(copy.experiment_id)
    assert experiment.name.startswith("cmt (copy ")
    assert experiment.artifact_location == (tmp_path / "copy/mlruns").as_uri()
    assert "outside this project" in caplog.text
    (tmp_path / "note.txt").write_text("a file")
    second = copy.run("training", tags={}, key="second")
    copy.client.log_artifact(second.info.run_id, str(tmp_path / "note.txt"))
    assert list((tmp_path / "copy/mlruns").rglob("note.txt")) and not list(
        project.rglob("note.txt")
    )


def test_a_missing_mlflow_and_a_missing_driver_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = MlflowSession(TrackingParams(uri="postgresql://ann@127.0.0.1/db"), tmp_path)
    with pytest.raises(ServiceError, match=r"cmt-memory\[postgres\]"), session.translate_errors():
        raise ModuleNotFoundError("No module named 'psycopg2'", name="psycopg2")
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with (
        pytest.raises(ServiceError, match=r"cmt-memory\[pipeline\].*tracking.enabled"),
        session.translate_errors(),
    ):
        session.client.search_experiments()


def test_an_error_of_the_caller_stays_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(KeyError), session_of(tmp_path).translate_errors():
        raise KeyError
