"""One experiment of one MLflow server or database: runs found by key, metrics, tags and artifacts.

A run is found by a key made from what it records, so recording the same thing again updates its
run.
"""

import json
import logging
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from filelock import FileLock

from cmt.common.digests import sha256_hex
from cmt.common.imports import missing_extra
from cmt.common.secrets import mask_secrets
from cmt.config import TrackingParams
from cmt.errors import ServiceError
from cmt.text.display import first_line

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run

log = logging.getLogger(__name__)

# read by MLflow when it is imported or used; values that are set already win
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # MLflow does not accept DO_NOT_TRACK=1
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # the default retries for four minutes
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "8",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # `--json` prints nothing but JSON
}
# lets MLflow's UI open the experiment on its runs instead of asking for its kind
_KIND = {"mlflow.experimentKind": "custom_model_development"}
_LOCK_SECONDS = 120.0
_SQLITE = "sqlite:///"
_INSTALL = (
    "install the driver of this address (for postgresql+psycopg://… that is `pip install "
    "'cmt-memory[postgres]'`; "
    "a plain postgresql:// needs psycopg2)"
)


class MlflowSession:
    """A connection that opens on first use. `translate_errors` turns every failure of MLflow into a
    ServiceError.
    """

    def __init__(self, params: TrackingParams, root: Path) -> None:
        self.uri = os.environ.get("MLFLOW_TRACKING_URI") or params.uri
        self.root, self._experiment = root, params.experiment

    @property
    def exists(self) -> bool:
        """Whether there is something to read: False only for a local database that was not created
        yet.
        """
        return not self.uri.startswith(_SQLITE) or Path(self.uri.removeprefix(_SQLITE)).exists()

    @cached_property
    def client(self) -> "MlflowClient":
        """MLflow's own client; a local database is created and migrated first."""
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        # it also logs the traceback of each exception that `translate_errors` reports in a line
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
        if self.uri.startswith(_SQLITE):
            _prepare_database(Path(self.uri.removeprefix(_SQLITE)), MlflowClient)
        return MlflowClient(tracking_uri=self.uri)

    @cached_property
    def experiment_id(self) -> str:
        """The experiment of `tracking.experiment`, created when there is none.

        An experiment keeps the artifact folder that it was created with. In a copy of a project
        that would be the original's folder, so a copy uses an experiment of its own.
        """
        location = None if self.uri.startswith("http") else (self.root / "mlruns").as_uri()
        found = self._find_or_create(self._experiment, location)
        stored = urlsplit(found.artifact_location)
        folder = Path(unquote(stored.path) if stored.scheme else stored.path)
        outside = stored.scheme in ("", "file") and not folder.is_relative_to(self.root)
        if location is not None and outside:
            name = f"{self._experiment} ({self.root.name} {sha256_hex(str(self.root))[:6]})"
            log.warning(
                "experiment %r stores its artifacts in %s, outside this project: using "
                "experiment %r",
                *(self._experiment, mask_secrets(found.artifact_location), name),
            )
            found = self._find_or_create(name, location)
        return str(found.experiment_id)

    def run(self, name: str, *, tags: Mapping[str, str], key: str, started: str = "") -> "Run":
        """The run with this key, created when there is none."""
        found = self.client.search_runs(
            [self.experiment_id], f"tags.`cmt.key` = '{key}'", max_results=1
        )
        if found:
            return found[0]
        return self.client.create_run(
            self.experiment_id,
            start_time=_milliseconds(started),
            tags={**tags, "cmt.key": key},
            run_name=name,
        )

    def log(
        self,
        run: "Run",
        metrics: Mapping[str, float],
        *,
        step: int,
        at: str = "",
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Write metrics, parameters and tags of a run in one batch."""
        from mlflow.entities import Metric, Param, RunTag

        # a parameter of a run is immutable: what an earlier attempt wrote stays
        new_params = {
            name: value for name, value in (params or {}).items() if name not in run.data.params
        }
        self.client.log_batch(
            run.info.run_id,
            metrics=[
                Metric(name, value, _milliseconds(at), step) for name, value in metrics.items()
            ],
            params=[Param(name, value) for name, value in new_params.items()],
            tags=[RunTag(name, value) for name, value in (tags or {}).items()],
        )

    def log_dataset(self, run: "Run", *, name: str, digest: str, folder: str) -> None:
        """Name the slice that a run read, in MLflow's column "Dataset"."""
        from mlflow.entities import Dataset, DatasetInput
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        source = json.dumps({"uri": folder})
        dataset = Dataset(name=name, digest=digest[:32], source_type="local", source=source)
        inputs = [DatasetInput(dataset, tags=[])]
        try:
            self.client.log_inputs(run.info.run_id, datasets=inputs)
        except (MlflowException, SQLAlchemyError):  # another process has just written this slice
            self.client.log_inputs(run.info.run_id, datasets=inputs)

    def end(self, run: "Run", status: str, at: str = "") -> None:
        """Set the run's status and end time."""
        self.client.set_terminated(run.info.run_id, status, _milliseconds(at))

    @contextmanager
    def translate_errors(self) -> Iterator[None]:
        """Turn failures of MLflow, of its database or of the disk, and a missing driver, into a
        ServiceError.
        """
        try:
            yield
        except ModuleNotFoundError as error:
            remedy = missing_extra(error) or _INSTALL
            raise ServiceError(
                f"MLflow at {self.uri} cannot be used ({error}): {remedy}, or set "
                "tracking.enabled to false"
            ) from None
        except Exception as error:
            from mlflow.exceptions import MlflowException
            from sqlalchemy.exc import SQLAlchemyError

            if not isinstance(error, MlflowException | SQLAlchemyError | sqlite3.Error | OSError):
                raise
            # masked before it is cut: a cut address may lack the `@` by which its password is found
            reason = mask_secrets(first_line(error))
            raise ServiceError(
                f"MLflow at {self.uri} cannot be used ({reason[:300]}): start or repair it, "
                "or set tracking.uri, the environment's MLFLOW_TRACKING_URI, or "
                "tracking.enabled to false"
            ) from None

    @contextmanager
    def log_errors(self) -> Iterator[None]:
        """As `translate_errors`, but a failure is logged as a warning: tracking never stops a
        training.
        """
        try:
            with self.translate_errors():
                yield
        except ServiceError as error:
            log.warning("%s", error)

    def _find_or_create(self, name: str, location: str | None) -> "Experiment":
        from mlflow.exceptions import MlflowException

        if found := self.client.get_experiment_by_name(name):
            return found
        try:
            created = self.client.create_experiment(name, artifact_location=location, tags=_KIND)
        except MlflowException:
            if found := self.client.get_experiment_by_name(name):  # another process has created it
                return found
            raise
        return self.client.get_experiment(created)


def _prepare_database(path: Path, client: type) -> None:
    """Create and migrate the database at `path` unless it exists.

    Two first uses at once, or a kill during one, leave a database that MLflow never accepts again.
    So one process creates it under another name and moves it into place.
    """
    if path.exists():
        with closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        ) as connection:
            connection.execute(
                "PRAGMA schema_version"
            )  # fails at once where MLflow would retry for minutes
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock", timeout=_LOCK_SECONDS):
        if not path.exists():
            partial = path.with_name(f"{path.name}.partial")
            partial.unlink(missing_ok=True)
            client(tracking_uri=f"{_SQLITE}{partial}").search_experiments(max_results=1)
            os.replace(partial, path)


def _milliseconds(moment: str) -> int:
    when = datetime.fromisoformat(moment).timestamp() if moment else datetime.now().timestamp()
    return int(when * 1000)
