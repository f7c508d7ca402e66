"""What MLflow holds after rounds, trainings and registrations, read back with its own client from a
real database.
"""

import shutil
import socket
import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from multiprocessing.synchronize import Barrier
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow import MlflowClient

from cmt.bank.rounds import Round
from cmt.config import Params, SourceParams, TrackingParams, load_params
from cmt.errors import ServiceError
from cmt.tracking._payload import round_metrics
from cmt.tracking.runs import Tracker
from tests.helpers.processes import CONTEXT, started
from tests.helpers.rounds import ROUND

SCORES: dict[str, dict[str, float | None]] = {
    "cmt": {
        "em": 40.0,
        "em_prefix": 50.0,
        "f1": 55.5,
        "f1_low": 50.0,
        "f1_high": 60.0,
        "recall": 0.95,
    },
    "closed": {
        "em": 1.0,
        "em_prefix": 2.0,
        "f1": 3.5,
        "f1_low": 2.0,
        "f1_high": 4.0,
        "recall": None,
    },
}
FIRST = replace(
    ROUND,
    state="committed",
    version_after=2,
    bank_digest="b" * 64,
    documents=40,
    rows=42,
    scores=SCORES,
    seconds={"compress": 3.25, "bank": 0.5},
    tokens_per_second=812.5,
    calibration={"slope": 0.75, "shift": 1.25, "answers": 60},
    dtype="bfloat16",
    git_commit="a" * 40 + "+",
    prefect_run="flow-run",
    started_at="2031-02-01T06:00:00+00:00",
    finished_at="2031-02-01T06:01:00+00:00",
)
SECOND = replace(
    FIRST, round_id="2031-02/0001", slice_id="2031-02/0001", number=2, slice_digest="t" * 64
)


@pytest.fixture
def project(tmp_path: Path, mlflow_database: Path) -> Params:
    (tmp_path / "params.yaml").write_text("stream:\n  path: data/news\n")
    shutil.copy(mlflow_database, tmp_path / "mlflow.db")
    return load_params(tmp_path / "params.yaml")


@pytest.fixture
def tracker(project: Params, tmp_path: Path) -> Tracker:
    return Tracker(project.tracking, tmp_path)


@pytest.fixture
def client(project: Params) -> MlflowClient:
    return MlflowClient(tracking_uri=project.tracking.uri)


def log(tracker: Tracker, round_: Round, params: Params, *artifacts: Path) -> str:
    return tracker.log_round(round_, params=params, history=[FIRST, round_], artifacts=artifacts)


def runs(client: MlflowClient, condition: str = "") -> list[Any]:
    experiment = client.get_experiment_by_name("cmt")
    return list(
        client.search_runs(
            [experiment.experiment_id], condition, order_by=["attributes.start_time"]
        )
    )


def test_the_run_of_a_stream_is_named_after_its_sources(
    tracker: Tracker, project: Params, client: MlflowClient
) -> None:
    posts = SourceParams(name="posts", kind="folder", address="posts")
    own = project.model_copy(update={"sources": (posts,)})
    child = client.get_run(log(tracker, FIRST, own))
    parent = client.get_run(child.data.tags["mlflow.parentRunId"])
    assert parent.info.run_name == "posts (data/news)"


def test_a_round_becomes_a_child_of_its_stream_with_metrics_tags_and_files(
    tracker: Tracker, project: Params, client: MlflowClient, tmp_path: Path
) -> None:
    answers = tmp_path / "answers.parquet"
    answers.write_bytes(b"PAR1")
    child = client.get_run(log(tracker, FIRST, project, answers, tmp_path / "gone.parquet"))
    # 1. the runs
    parent = client.get_run(child.data.tags["mlflow.parentRunId"])
    assert child.info.run_name == "round-0001 2031-01/0001"
    assert (parent.info.run_name, parent.data.tags["cmt.bank"]) == (
        "courier (data/news)",
        "data/bank",
    )
    assert (child.info.status, parent.info.status) == ("FINISHED", "FINISHED")
    assert child.info.end_time - child.info.start_time == 60_000
    # 2. what they record
    assert child.data.metrics == parent.data.metrics == round_metrics(FIRST)
    tags = {
        "cmt.round": "2031-01/0001",
        "cmt.version_after": "2",
        "mlflow.source.git.commit": "a" * 40,
    }
    assert tags.items() <= child.data.tags.items()
    assert (child.data.params["selection.top_k"], child.data.params["seed"]) == ("8", "0")
    log(tracker, FIRST, project)
    again = client.get_run(child.info.run_id).inputs.dataset_inputs
    assert [one.dataset.name for one in again] == ["2031-01/0001"]
    assert FIRST.slice_digest.startswith(again[0].dataset.digest)
    # 3. their files, below the project
    assert {file.path for file in client.list_artifacts(child.info.run_id)} == {"answers.parquet"}
    assert (
        next((tmp_path / "mlruns").rglob(f"{child.info.run_id}/**/answers.parquet")).read_bytes()
        == b"PAR1"
    )


def test_a_round_is_one_run_until_it_runs_again_or_with_other_settings(
    tracker: Tracker, project: Params, client: MlflowClient, tmp_path: Path
) -> None:
    # 1. Logging a round again changes its run and doubles nothing.
    first = log(tracker, FIRST, project)
    assert log(Tracker(project.tracking, tmp_path), replace(FIRST, rows=43), project) == first
    assert len(runs(client)) == 2
    assert len(client.get_metric_history(first, "qa/f1")) == 1
    # 2. A rollback ends it.
    tracker.mark_rolled_back(
        [replace(FIRST, state="rolled_back", reason="rollback of 2031-01/0001", mlflow_run=first)]
    )
    found = client.get_run(first)
    assert (found.info.status, found.data.tags["cmt.state"]) == ("KILLED", "rolled_back")
    assert found.data.tags["cmt.reason"] == "rollback of 2031-01/0001"
    # 3. The repeated round, and the round with other settings, are other runs.
    again = log(tracker, replace(FIRST, started_at="2031-02-02T06:00:00+00:00"), project)
    other = log(tracker, replace(FIRST, params_digest="q" * 64), project)
    assert len({first, again, other}) == 3
    assert [len(client.get_metric_history(run, "qa/f1")) for run in (first, again, other)] == [
        1,
        1,
        1,
    ]
    assert len(runs(client, "tags.`cmt.round` = '2031-01/0001'")) == 3


def test_the_parent_has_the_curve_of_all_rounds(
    tracker: Tracker, project: Params, client: MlflowClient
) -> None:
    log(tracker, FIRST, project)
    child = client.get_run(
        log(
            tracker, replace(SECOND, scores=SCORES | {"cmt": SCORES["cmt"] | {"f1": 60.0}}), project
        )
    )
    history = client.get_metric_history(child.data.tags["mlflow.parentRunId"], "qa/f1")
    assert [(point.step, point.value) for point in history] == [(1, 55.5), (2, 60.0)]
    assert len(runs(client)) == 3


def test_a_refused_round_without_questions_is_a_failed_run_with_counts(
    tracker: Tracker, project: Params, client: MlflowClient
) -> None:
    silent = replace(FIRST, scores={}, state="refused", reason="too few")
    run = tracker.log_round(silent, params=project, history=[silent], artifacts=[])
    found = client.get_run(run)
    assert (found.info.status, found.data.tags["cmt.reason"]) == ("FAILED", "too few")
    assert found.data.metrics["counts/documents"] == 40
    assert client.list_artifacts(run) == []


def test_the_environment_comes_before_the_parameters(
    project: Params, mlflow_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = Path(shutil.copy(mlflow_database, tmp_path / "elsewhere.db"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{elsewhere}")
    run = log(Tracker(project.tracking, tmp_path), FIRST, project)
    assert MlflowClient(tracking_uri=f"sqlite:///{elsewhere}").get_run(run).info.run_id == run


def test_an_unreachable_server_is_an_error_within_seconds(project: Params, tmp_path: Path) -> None:
    with socket.socket() as taken:  # bound, and nothing listens
        taken.bind(("127.0.0.1", 0))
        uri = f"http://ann:secret@127.0.0.1:{taken.getsockname()[1]}"
        started = time.monotonic()
        with pytest.raises(
            ServiceError, match=r"MLflow at http://\*\*\*@127\.0\.0\.1:\d+ cannot be used"
        ) as caught:
            log(Tracker(TrackingParams(uri=uri), tmp_path), FIRST, project)
        assert time.monotonic() - started < 10
    assert "secret" not in str(caught.value)


def test_a_database_that_cannot_be_used_is_an_error(
    tracker: Tracker, project: Params, tmp_path: Path
) -> None:
    (tmp_path / "mlflow.db").write_text("no database at all, but long enough to be one" * 20)
    with pytest.raises(ServiceError, match="file is not a database"):
        log(tracker, FIRST, project)
    with pytest.raises(ServiceError, match=r"mlflow\.db/mlflow\.db cannot be used"):
        log(
            Tracker(TrackingParams(uri=f"sqlite:///{tmp_path}/mlflow.db/mlflow.db"), tmp_path),
            FIRST,
            project,
        )


def track_first(folder: Path, barrier: "Barrier") -> None:
    """Log FIRST to the project in `folder` as soon as all have passed the barrier."""
    params = load_params(folder / "params.yaml")
    barrier.wait(120)
    Tracker(params.tracking, folder).log_round(FIRST, params=params, history=[FIRST], artifacts=[])


def test_two_first_uses_at_once_after_a_killed_one_leave_one_good_database(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").touch()
    with closing(sqlite3.connect(tmp_path / "mlflow.db.partial")) as half_made:
        half_made.execute("CREATE TABLE experiments (experiment_id INTEGER)")
        half_made.commit()
    barrier = CONTEXT.Barrier(2)
    with started(track_first, tmp_path, barrier):
        track_first(tmp_path, barrier)
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    assert [run.data.tags["cmt.round"] for run in runs(client, "tags.`cmt.round` LIKE '2031%'")]
    assert not (tmp_path / "mlflow.db.partial").exists()


def test_a_training_leaves_its_curves_and_held_out_scores_in_one_run(
    tracker: Tracker, project: Params, client: MlflowClient
) -> None:
    for step in (5, 10):  # each as after a restart
        curves = tracker.log_training(project)
        state = SimpleNamespace(global_step=step, is_world_process_zero=True)
        curves.on_train_begin(None, state, None)
        curves.on_log(
            None, state, None, logs={"loss": 10.0 / step, "note": "no number"}, model=None
        )
        curves.on_train_end(None, state, None)
    [run] = runs(client)
    assert run.info.status == "FINISHED"
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert [(point.step, point.value) for point in history] == [(5, 2.0), (10, 1.0)]
    tracker.finish_training(params=project, scores={"f1": 51.25, "recall": None})
    [run] = runs(client)
    assert (run.info.status, run.data.metrics["heldout/f1"]) == ("FINISHED", 51.25)
    assert "heldout/recall" not in run.data.metrics


def test_a_training_continues_without_mlflow(
    project: Params, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    curves = Tracker(
        TrackingParams(uri=f"sqlite:///{tmp_path}/file/mlflow.db"), tmp_path
    ).log_training(project)
    state = SimpleNamespace(global_step=5, is_world_process_zero=True)
    curves.on_train_begin(None, state, None)
    curves.on_log(None, state, None, logs={"loss": 1.0})
    curves.on_train_end(None, state, None)
    assert "cannot be used" in caplog.text
