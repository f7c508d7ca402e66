"""Compressors in MLflow's model registry: every version can be served, and one of them is the
champion.

A version holds the weights as safetensors, their configuration and card, and the code that answers;
no pickles.
"""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING

from cmt.common.scratch import scratch_folder
from cmt.config import Params, TrackingParams, state_folder
from cmt.errors import NotFoundError
from cmt.modeling.champion import copy_compressor
from cmt.modeling.checkpoint import checkpoint_digest, seen_slices
from cmt.tracking._session import MlflowSession
from cmt.tracking.runs import STARTED_BY, training_run

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

# aliases: the version promoted last, the version added last, and the champion before the present
# one
CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
DECISION = "cmt.decision"  # tag of a version: the decision about it
EXAMPLE = {"question": "Who is the mayor of Port Ellery?", "as_of": "2031-02-15"}

# the imports of answering: serving a version elsewhere needs neither Prefect nor DVC
NEEDED = (
    *(
        "anyio",
        "filelock",
        "lancedb",
        "mlflow",
        "numpy",
        "prometheus-client",
        "pyarrow",
        "pydantic",
        "pyyaml",
    ),
    *("rich", "safetensors", "torch", "transformers", "typer"),
)


@dataclass(frozen=True)
class RegisteredModel:
    """A registered compressor."""

    version: str
    digest: str
    f1: float | None  # on held-out articles, 0–100; None when it was registered without scores
    held_out: str  # name of its questions; F1 on different questions is not compared
    aliases: tuple[str, ...] = ()
    decision: str = ""  # the decision about it, with the reason; "" before the decision
    run: str = ""  # the MLflow run of its training
    slices: str = ""  # the slices of the stream that it was trained on, as its card names them

    @property
    def champion(self) -> bool:
        """Whether it is the champion."""
        return CHAMPION in self.aliases


class Registry:
    """The registered model `tracking.registered_model` of one MLflow server or database."""

    def __init__(self, params: TrackingParams, root: Path) -> None:
        self.session, self.name = MlflowSession(params, root), params.registered_model

    def add(
        self,
        folder: Path,
        *,
        project: Path,
        params: Params,
        scores: Mapping[str, float | None],
        held_out: str,
    ) -> str:
        """Register the compressor in `folder` as a version that can be served, with `scores`, if
        any, on `held_out`.

        `project`: the params.yaml whose LM and bank a server of the version uses by default.
        Registering the same weights again updates the scores of their version. Returns the version.
        ServiceError when MLflow cannot be used.
        """
        digest = checkpoint_digest(folder)
        tags = {"cmt.digest": digest} | ({"cmt.held_out": held_out} if scores else {})
        if slices := seen_slices(folder):
            tags["cmt.slices"] = ", ".join(slices)
        tags |= {name: f"{value:.4g}" for name, value in scores.items() if value is not None}
        known = next((version for version in self.versions() if version.digest == digest), None)
        with self.session.translate_errors():
            if known is None:
                number = self._create(folder, project=project, params=params, tags=tags)
            else:
                number = known.version
                self._set_tags(known, tags)
            if known is None or not (known.aliases or known.decision):
                self.session.client.set_registered_model_alias(self.name, CHALLENGER, number)
        return number

    def versions(self) -> list[RegisteredModel]:
        """All versions, newest first; none without a database, which a listing does not create."""
        if not self.session.exists:
            return []
        with self.session.translate_errors():
            found = self.session.client.search_model_versions(
                f"name = '{self.name}'", order_by=["version_number DESC"]
            )
            aliases = self._aliases() if found else {}
        return [
            RegisteredModel(
                version=str(one.version),
                digest=one.tags.get("cmt.digest", ""),
                f1=float(one.tags["f1"]) if "f1" in one.tags else None,
                held_out=one.tags.get("cmt.held_out", ""),
                decision=one.tags.get(DECISION, ""),
                run=one.run_id or "",
                slices=one.tags.get("cmt.slices", ""),
                aliases=tuple(
                    sorted(
                        alias for alias, version in aliases.items() if version == str(one.version)
                    )
                ),
            )
            for one in found
        ]

    def version(self, name: str | None = None) -> RegisteredModel:
        """The version `name`, by default the newest. Raises NotFoundError if there is none."""
        versions = self.versions()
        found = next((known for known in versions if name in (None, known.version)), None)
        if found is None:
            names = (
                ", ".join(known.version for known in versions)
                or "none: `cmt registry add` one first"
            )
            raise NotFoundError(
                f"no version {name or ''} of {self.name} is registered; there are: {names}"
            )
        return found

    def download(self, version: RegisteredModel, folder: Path) -> Path:
        """Copy the compressor of a version to a folder below `folder`; returns it. Raises
        ServiceError.
        """
        from mlflow import artifacts

        with self.session.translate_errors():
            source = self.session.client.get_model_version(self.name, version.version).source
            uri = f"{source}/artifacts/compressor"
            return Path(
                artifacts.download_artifacts(
                    uri, dst_path=str(folder), tracking_uri=self.session.uri
                )
            )

    def started_by(self, version: RegisteredModel) -> str:
        """The event that started the training of a version; "" if none is known."""
        with self.session.translate_errors():
            tags = self.session.client.get_run(version.run).data.tags if version.run else {}
        return str(tags.get(STARTED_BY, ""))

    def set_champion(self, version: RegisteredModel, *, tags: Mapping[str, str]) -> None:
        """Give a version the alias `champion` and `tags`; the champion before it becomes
        `previous`.
        """
        with self.session.translate_errors():
            client, aliases = self.session.client, self._aliases()
            self._set_tags(version, tags)
            before = aliases.get(CHAMPION)
            if before not in (None, version.version):
                client.set_registered_model_alias(self.name, PREVIOUS, before)
            client.set_registered_model_alias(self.name, CHAMPION, version.version)
            if aliases.get(CHALLENGER) == version.version:
                client.delete_registered_model_alias(self.name, CHALLENGER)

    def refuse(self, version: RegisteredModel, *, tags: Mapping[str, str]) -> None:
        """Give a version `tags`, and take the alias `challenger` from it."""
        with self.session.translate_errors():
            self._set_tags(version, tags)
            if self._aliases().get(CHALLENGER) == version.version:  # a newer one may have it by now
                self.session.client.delete_registered_model_alias(self.name, CHALLENGER)

    def _set_tags(self, version: RegisteredModel, tags: Mapping[str, str]) -> None:
        for name, value in tags.items():
            self.session.client.set_model_version_tag(self.name, version.version, name, value)

    def _create(
        self, folder: Path, *, project: Path, params: Params, tags: Mapping[str, str]
    ) -> str:
        """Store the model as an artifact of its training's run, and register it."""
        from mlflow.exceptions import MlflowException

        run, artifact_path = training_run(self.session, params), f"model-{tags['cmt.digest'][:12]}"
        try:
            self.session.client.create_registered_model(self.name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        with scratch_folder(state_folder(params, self.session.root)) as scratch:
            _write_model(scratch / "model", folder, project.resolve())
            self.session.client.log_artifacts(
                run.info.run_id, str(scratch / "model"), artifact_path
            )
        source = f"{run.info.artifact_uri}/{artifact_path}"
        created = self.session.client.create_model_version(
            self.name, source, run.info.run_id, tags=dict(tags)
        )
        self.session.end(run, "FINISHED")  # the run of a shipped compressor starts here
        return str(created.version)

    def _aliases(self) -> dict[str, str]:
        """Alias → version."""
        found = self.session.client.get_registered_model(self.name).aliases
        return {str(alias): str(version) for alias, version in found.items()}


def _write_model(path: Path, folder: Path, project: Path) -> None:
    """Write the MLflow model of the compressor in `folder`: weights, code, signature, example,
    requirements.
    """
    import pandas as pd
    from mlflow import pyfunc

    package = Path(__file__).parents[1]
    weights = path.with_name("compressor")
    copy_compressor(folder, weights)
    os.environ.setdefault(
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false"
    )  # read when files are copied
    pyfunc.save_model(
        path,
        python_model=str(package / "serving/mlflow_model.py"),
        code_paths=[str(package)],
        artifacts={"compressor": str(weights)},
        model_config={"params": str(project)},
        signature=_signature(),
        # plain objects as column names: MLflow compares them in a way that pandas 4 refuses for
        # strings
        input_example=pd.DataFrame([EXAMPLE.values()], columns=pd.Index(EXAMPLE, dtype=object)),
        pip_requirements=[
            f"{name}=={installed_version(name).partition('+')[0]}" for name in NEEDED
        ],
    )
    shutil.rmtree(
        path / "code" / package.name / "shipped"
    )  # `artifacts` has the compressor of this version


def _signature() -> "ModelSignature":
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import Array, Object, Property

    text, real, integer = DataType.string, DataType.double, DataType.long
    span = Object(
        [Property("first", integer), Property("last", integer), Property("probability", real)]
    )
    texts = [Property(name, text) for name in ("doc_id", "published_at")]
    texts += [Property(name, text, required=False) for name in ("title", "text", "supersedes")]
    numbers = [Property(name, real) for name in ("similarity", "weight")]
    source = Object(
        [*texts, *numbers, Property("spans", Array(span)), Property("quote", span, required=False)]
    )
    answer = [ColSpec(text, name) for name in ("answer", "verdict")]
    answer += [ColSpec(DataType.boolean, "known"), ColSpec(real, "confidence")]
    return ModelSignature(
        inputs=Schema([ColSpec(text, "question"), ColSpec(text, "as_of", required=False)]),
        outputs=Schema([*answer, ColSpec(Array(source), "sources")]),
    )
