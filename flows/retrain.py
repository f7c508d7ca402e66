"""`prefect deployment run cmt/retrain`: train a compressor, evaluate it on articles it never saw, register it."""

from pathlib import Path
from typing import Annotated

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from pydantic import Field

from cmt.bank.ledger import flat_scores
from cmt.evaluation.held_out import held_out_name
from cmt.tracking.registry import Registry
from flows.artifacts import scores_report
from flows.tasks import step, workspace

Scores = dict[str, float | None]


@step(name="train and evaluate")
def train(params: str, limit: int) -> tuple[str, Scores]:
    """Train, or go on from the last checkpoint; the compressor's folder and its scores on held-out articles."""
    folder, scored = workspace(params).train(questions=limit)
    scores = flat_scores([scored.to_json()])
    create_markdown_artifact(scores_report(scores), key="held-out", description=f"The compressor in {folder}")
    return str(folder), scores


@step(name="register")
def register(params: str, folder: str, scores: Scores, limit: int) -> str | None:
    """The compressor in MLflow's registry, the champion if it is better; its version, None when tracking is off."""
    w = workspace(params)
    if not w.params.tracking.enabled:
        return None
    registry = Registry(w.params.tracking, w.root)
    asked = held_out_name(w.params, questions=limit)
    version = registry.add(Path(folder), project=Path(params), params=w.params, scores=scores, held_out=asked)
    registry.finish_training(params=w.params, scores=scores)
    print(registry.promote(version).reason)
    return version


@flow(name="cmt", flow_run_name="retrain")
def retrain(limit: Annotated[int, Field(ge=1)] = 500, params: str = "params.yaml") -> str | None:
    """Train → evaluate → register → promote if it is better; the version in the registry.

    `limit`: questions of the held-out evaluation. The training data is `train.source`, pulled before with
    `cmt data pull`.
    """
    folder, scores = train(params, limit)
    return register(params, folder, scores, limit)
