"""MLflow, and only here: one parent run a stream, one child run a round, the compressor in the registry.

Runs are found by a key made from what they record, and points carry the round's own date and number: recording a round
again changes its run and doubles nothing. One that runs again after a rollback is another run.
"""

import logging
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from filelock import FileLock

from cmt.common.digests import sha256_hex
from cmt.config import Params, TrackingParams
from cmt.errors import ServiceError
from cmt.tracking.payload import draw_curve, flat_params, lineage, round_metrics

if TYPE_CHECKING:
    from transformers import TrainerCallback

    from cmt.bank.ledger import Round

log = logging.getLogger(__name__)

# read by MLflow when it is imported or used; whoever sets them keeps what they set
_QUIET_AND_QUICK = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # MLflow takes DO_NOT_TRACK=1 for a no
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # its default goes on for four minutes
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "8",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # where `--json` writes nothing but JSON
}
_STATUS = {"started": "RUNNING", "committed": "FINISHED", "refused": "FAILED"}
_LOCK_SECONDS = 120.0


class Tracker:
    """Writes to one experiment of one MLflow server or database; connects when first used."""

    def __init__(self, params: TrackingParams, root: Path) -> None:
        self.uri = os.environ.get("MLFLOW_TRACKING_URI") or params.uri
        self.experiment, self.root = params.experiment, root

    def log_round(
        self, round_: "Round", *, params: Params, history: "Sequence[Round]", artifacts: Sequence[Path]
    ) -> str:
        """Record a round as a child of its stream's run; returns the child's id.

        `history`: the ledger, for the curve; of `artifacts` those that exist are copied. ServiceError within seconds
        when MLflow cannot be reached or written.
        """
        stream = _relative(params.stream.path, self.root)
        about = {"cmt.stream": stream, "cmt.bank.bank": _relative(params.bank.uri, self.root)}
        points = round_metrics(round_)
        with self._explained():
            parent = self._run(stream, tags=about, key=sha256_hex("stream", *about.values()))
            child = self._run(
                f"round-{round_.number:04d} {round_.slice_id}",
                tags={"mlflow.parentRunId": parent.info.run_id},
                key=sha256_hex(
                    *("round", parent.info.run_id, round_.round_id, *round_.identity, round_.params_digest),
                    round_.started_at,
                ),
                started=round_.started_at,
            )
            self._log(child, points, step=round_.number, at=round_.finished_at, params=params, tags=lineage(round_))
            self._log(parent, points, step=round_.number, at=round_.finished_at)
            with TemporaryDirectory() as folder:
                curve = draw_curve([r for r in history if r.number <= round_.number], Path(folder) / "curve.png")
                self._attach(child, [*artifacts, curve])
                self._attach(parent, [curve])
            self._end(child, _STATUS.get(round_.state, "KILLED"), round_.finished_at)
            self._end(parent, "FINISHED", round_.finished_at)
        return str(child.info.run_id)

    def take_back(self, rounds: "Sequence[Round]") -> None:
        """Say in the runs of `rounds`, where they have one, what became of them. ServiceError as for `log_round`."""
        with self._explained():
            for round_ in rounds:
                if round_.mlflow_run:
                    run = self._client.get_run(round_.mlflow_run)
                    self._log(run, {}, step=round_.number, tags=lineage(round_))
                    self._end(run, _STATUS.get(round_.state, "KILLED"), round_.finished_at)

    def log_training(self, params: Params) -> "TrainerCallback":
        """A callback for `cmt.training.train` that writes its curves; a resumed training goes on in the same run.

        An MLflow that cannot be reached is a warning: it never stops a training.
        """
        from transformers import TrainerCallback

        tracker = self

        class Curves(TrainerCallback):  # type: ignore[misc]
            run: Any = None

            def on_train_begin(self, *_: Any, **__: Any) -> None:
                with _forgiven(), tracker._explained():
                    self.run = tracker._training(params)
                    tracker._client.update_run(self.run.info.run_id, status="RUNNING")

            def on_log(self, _: Any, state: Any, __: Any, logs: dict[str, Any] | None = None, **___: Any) -> None:
                if not (self.run and state.is_world_process_zero):
                    return
                points = {f"train/{name}": float(v) for name, v in (logs or {}).items() if isinstance(v, int | float)}
                with _forgiven(), tracker._explained():
                    tracker._log(self.run, points, step=state.global_step)

            def on_train_end(self, *_: Any, **__: Any) -> None:
                if self.run:
                    with _forgiven(), tracker._explained():
                        tracker._end(self.run, "FINISHED")

        return Curves()

    def finish_training(self, *, params: Params, scores: Mapping[str, float | None]) -> None:
        """End the run of the training of `params` with its held-out `scores`. ServiceError when MLflow is not there."""
        with self._explained():
            run = self._training(params)
            self._log(run, {f"heldout/{name}": value for name, value in scores.items() if value is not None}, step=0)
            self._end(run, "FINISHED")

    @cached_property
    def _client(self) -> Any:
        for name, value in _QUIET_AND_QUICK.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        if self.uri.startswith("sqlite:///"):
            _prepare_database(Path(self.uri.removeprefix("sqlite:///")), MlflowClient)
        return MlflowClient(tracking_uri=self.uri)

    @cached_property
    def _experiment_id(self) -> str:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(self.experiment)
        if found is None:
            # fixed for ever at creation; a server keeps artifacts where it wants
            location = None if self.uri.startswith("http") else (self.root / "mlruns").as_uri()
            try:
                return str(self._client.create_experiment(self.experiment, artifact_location=location))
            except MlflowException:  # made by another process in the meantime, or the next line says what is wrong
                found = self._client.get_experiment_by_name(self.experiment)
                if found is None:
                    raise
        return str(found.experiment_id)

    def _training(self, params: Params) -> Any:
        trained = params.digest("seed", "lm", "compressor", "aggregator", "alignment", "objective", "train")
        return self._run("training", tags={"cmt.params_digest": trained}, key=sha256_hex("training", trained))

    def _run(self, name: str, *, tags: dict[str, str], key: str, started: str = "") -> Any:
        """The run with that key, made when there is none."""
        found = self._client.search_runs([self._experiment_id], f"tags.`cmt.key` = '{key}'", max_results=1)
        if found:
            return found[0]
        return self._client.create_run(
            self._experiment_id, start_time=_milliseconds(started), tags=tags | {"cmt.key": key}, run_name=name
        )

    def _log(
        self,
        run: Any,
        points: Mapping[str, float],
        *,
        step: int,
        at: str = "",
        params: Params | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        from mlflow.entities import Metric, Param, RunTag

        # a parameter of a run cannot change: what an earlier attempt wrote stays
        values = {key: v for key, v in (flat_params(params) if params else {}).items() if key not in run.data.params}
        self._client.log_batch(
            run.info.run_id,
            metrics=[Metric(name, value, _milliseconds(at), step) for name, value in points.items()],
            params=[Param(name, value) for name, value in values.items()],
            tags=[RunTag(name, value) for name, value in (tags or {}).items()],
        )

    def _attach(self, run: Any, files: Sequence[Path | None], folder: str | None = None) -> None:
        for file in files:
            if file is not None and file.exists():
                self._client.log_artifact(run.info.run_id, str(file), folder)

    def _end(self, run: Any, status: str, at: str = "") -> None:
        self._client.set_terminated(run.info.run_id, status, _milliseconds(at))

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Failures of MLflow, of its database or of the disk as a ServiceError."""
        try:
            yield
        except Exception as error:
            from mlflow.exceptions import MlflowException
            from sqlalchemy.exc import SQLAlchemyError

            if not isinstance(error, MlflowException | SQLAlchemyError | sqlite3.Error | OSError):
                raise
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            said = f"MLflow at {self.uri} cannot be used ({reason[:300]})"
            user, at, _ = urlsplit(self.uri).netloc.rpartition("@")
            raise ServiceError(
                f"{said.replace(user + at, '') if user else said}: start or mend it, "  # a password is for nobody
                "or set tracking.uri, the environment's MLFLOW_TRACKING_URI, or tracking.enabled to false"
            ) from None


def _prepare_database(path: Path, client: Any) -> None:
    """Make and migrate the database at `path` unless it is there.

    Two first uses at once, or a kill during one, would leave a database that MLflow never accepts again: so it is made
    under another name, by one process, and moved into place.
    """
    if path.exists():
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            connection.execute("PRAGMA schema_version")  # what MLflow would try again for minutes
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock", timeout=_LOCK_SECONDS):
        if not path.exists():
            partial = path.with_name(f"{path.name}.partial")
            partial.unlink(missing_ok=True)
            client(tracking_uri=f"sqlite:///{partial}").search_experiments(max_results=1)
            os.replace(partial, path)


@contextmanager
def _forgiven() -> Iterator[None]:
    try:
        yield
    except ServiceError as error:
        log.warning("%s", error)


def _relative(place: Path | str, root: Path) -> str:
    """`place` below `root`, so that a project that moves is still the same."""
    path = Path(place)
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(place)


def _milliseconds(moment: str) -> int:
    when = datetime.fromisoformat(moment).timestamp() if moment else datetime.now().timestamp()
    return int(when * 1000)
