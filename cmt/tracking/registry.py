"""Compressors in MLflow's model registry: every version can be served, and one of them is the champion.

A version holds weights as safetensors, their design, their card, and the code that answers with them; no pickles.
"""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version as installed
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from cmt.config import Params
from cmt.errors import ConfigError
from cmt.tracking.runs import Tracker

if TYPE_CHECKING:
    pass

NAME, CHAMPION = "cmt", "champion"
EXAMPLE = {"question": "Who is the mayor of Port Ellery?", "as_of": "2031-02-15"}

# what answering imports, so that whoever serves a version elsewhere installs no Prefect and no DVC
NEEDED = (
    *("anyio", "filelock", "lancedb", "mlflow", "numpy", "peft", "prometheus-client", "pyarrow", "pydantic", "pyyaml"),
    *("rich", "safetensors", "torch", "transformers", "typer"),
)


@dataclass(frozen=True)
class Version:
    """A registered compressor."""

    version: str
    digest: str
    f1: float | None
    """On held-out articles, 0–100; None when it was registered without."""
    held_out: str
    """What it was measured on; F1 on different ones are not compared."""
    champion: bool


@dataclass(frozen=True)
class Promotion:
    """What became of a version that was to be the champion."""

    version: str
    promoted: bool
    reason: str


class Registry(Tracker):
    """The registered model `cmt` of one MLflow server or database."""

    def add(
        self, folder: Path, *, project: Path, params: Params, scores: Mapping[str, float | None], held_out: str
    ) -> str:
        """The compressor in `folder` as a version that can be served, with what it scores on `held_out`.

        `project`: the params.yaml whose LM and bank a server of it uses unless it is told another. The same weights
        again give the version that they have, with the new scores. ServiceError when MLflow cannot be used.
        """
        from cmt.modeling.checkpoint import checkpoint_digest

        digest = checkpoint_digest(folder)
        tags = {"cmt.digest": digest, "cmt.held_out": held_out}
        tags |= {name: f"{value:.4g}" for name, value in scores.items() if value is not None}
        there = next((known.version for known in self.versions() if known.digest == digest), None)
        with self._explained():
            if there is None:
                return self._create(folder, project=project, params=params, place=f"model-{digest[:12]}", tags=tags)
            for name, value in tags.items():
                self._client.set_model_version_tag(NAME, there, name, value)
        return there

    def versions(self) -> list[Version]:
        """All versions, the newest first."""
        with self._explained():
            found = self._client.search_model_versions(f"name = '{NAME}'", order_by=["version_number DESC"])
            champion = self._champion() if found else None
        return [_version(each, champion) for each in found]

    def promote(self, version: str | None = None) -> Promotion:
        """Make a version (default: the newest) the champion if it beats the present one.

        It does when there is none, or when its F1 on the same held-out questions is higher. ConfigError on a version
        that is not there.
        """
        there = self.versions()
        wanted = next((each for each in there if version in (None, each.version)), None)
        if wanted is None:
            names = ", ".join(each.version for each in there) or "none: `cmt registry add` one first"
            raise ConfigError(f"no version {version or ''} of {NAME} is registered; there are: {names}")
        promoted, reason = beats(wanted, next((each for each in there if each.champion), None))
        if promoted:
            with self._explained():
                self._client.set_registered_model_alias(NAME, CHAMPION, wanted.version)
        return Promotion(wanted.version, promoted, reason)

    def _create(self, folder: Path, *, project: Path, params: Params, place: str, tags: Mapping[str, str]) -> str:
        training = self._training(params)
        run = training.info
        self._make_name()
        with TemporaryDirectory() as scratch:
            _write(Path(scratch) / "model", folder, project.resolve())
            self._client.log_artifacts(run.run_id, str(Path(scratch) / "model"), place)
        made = self._client.create_model_version(NAME, f"{run.artifact_uri}/{place}", run.run_id, tags=tags)
        self._end(training, "FINISHED")  # that of a shipped compressor begins here
        return str(made.version)

    def _champion(self) -> str | None:
        version = self._client.get_registered_model(NAME).aliases.get(CHAMPION)
        return None if version is None else str(version)

    def _make_name(self) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(NAME)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise


def beats(challenger: Version, champion: Version | None) -> tuple[bool, str]:
    """Whether `challenger` is to take the place of `champion`, and why."""
    if challenger.f1 is None:
        return False, f"version {challenger.version} has no held-out F1"
    if champion is None:
        return True, f"F1 {challenger.f1:.1f}, and there was no champion"
    if challenger.version == champion.version:
        return False, f"version {champion.version} is the champion already"
    scores = f"F1 {challenger.f1:.1f} against {champion.f1 or 0.0:.1f} of version {champion.version}"
    if challenger.held_out != champion.held_out:
        sets = f"{challenger.held_out} against {champion.held_out}"
        return False, f"{scores}, but on {sets}: not to be compared before `cmt registry add` measures either again"
    return challenger.f1 > (champion.f1 or 0.0), scores


def _write(path: Path, folder: Path, project: Path) -> None:
    """The model of the compressor in `folder` at `path`: weights, code, signature, example, requirements."""
    import pandas as pd
    from mlflow import pyfunc

    from cmt.modeling.checkpoint import CONFIG, WEIGHTS

    package = Path(__file__).parents[1]
    weights = path.with_name("compressor")
    weights.mkdir()
    for name in (WEIGHTS, CONFIG, "card.md"):
        if (folder / name).exists():  # the card comes with training alone
            shutil.copy(folder / name, weights)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # read when it copies
    pyfunc.save_model(
        path,
        python_model=str(package / "serving/mlflow_model.py"),
        code_paths=[str(package)],
        artifacts={"compressor": str(weights)},
        model_config={"params": str(project)},
        signature=_signature(),
        # plain objects for names: MLflow compares them in a way that pandas 4 refuses for strings
        input_example=pd.DataFrame([EXAMPLE.values()], columns=pd.Index(EXAMPLE, dtype=object)),
        pip_requirements=[f"{name}=={installed(name).partition('+')[0]}" for name in NEEDED],
    )


def _signature() -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import Array, Object, Property

    text, real, whole = DataType.string, DataType.double, DataType.long
    span = Object([Property("first", whole), Property("last", whole), Property("probability", real)])
    texts = [Property(name, text) for name in ("doc_id", "published_at")]
    texts += [Property(name, text, required=False) for name in ("title", "text", "supersedes")]
    numbers = [Property(name, real) for name in ("similarity", "weight")]
    source = Object([*texts, *numbers, Property("spans", Array(span)), Property("quote", span, required=False)])
    answer = [ColSpec(text, "answer"), ColSpec(DataType.boolean, "known"), ColSpec(real, "confidence")]
    return ModelSignature(
        inputs=Schema([ColSpec(text, "question"), ColSpec(text, "as_of", required=False)]),
        outputs=Schema([*answer, ColSpec(Array(source), "sources")]),
    )


def _version(found: Any, champion: str | None) -> Version:
    tags, f1 = found.tags, found.tags.get("f1")
    return Version(
        version=str(found.version),
        digest=tags.get("cmt.digest", ""),
        f1=float(f1) if f1 is not None else None,
        held_out=tags.get("cmt.held_out", ""),
        champion=str(found.version) == champion,
    )
