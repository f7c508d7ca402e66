"""`prefect deployment run cmt/retrain`: train a compressor, evaluate it on held-out articles, register it."""

from pathlib import Path
from typing import Annotated

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from pydantic import Field

from cmt.errors import ConfigError
from flows.artifacts import promotion_report, scores_report
from flows.tasks import cmt_task, workspace

Scores = dict[str, float | None]


@cmt_task(name="train and evaluate")
def train(params: str, limit: int) -> tuple[str, Scores]:
    """Train, or resume from the last checkpoint; returns the compressor's folder and its held-out scores."""
    from cmt.bank.ledger import flat_scores

    folder, scored = workspace(params).train(questions=limit)
    scores = flat_scores([scored.to_json()])
    create_markdown_artifact(scores_report(scores), key="held-out", description=f"The compressor in {folder}")
    return str(folder), scores


@cmt_task(name="register")
def register(params: str, folder: str, scores: Scores, limit: int) -> str | None:
    """Register the compressor in MLflow as the challenger; its version, None when tracking is off."""
    from cmt.evaluation.held_out import held_out_name
    from cmt.tracking.registry import Registry

    opened = workspace(params)
    if not opened.params.tracking.enabled:
        return None
    registry = Registry(opened.params.tracking, opened.root)
    held_out = held_out_name(opened.params, questions=limit)
    version = registry.add(Path(folder), project=Path(params), params=opened.params, scores=scores, held_out=held_out)
    opened.tracker.finish_training(params=opened.params, scores=scores)
    return version


@cmt_task(name="promote")
def promote(params: str, version: str) -> bool:
    """Compare the version with the compressor in use on the newest slice; returns whether it is the champion now."""
    from cmt.rounds.promotion import Promotion, promote_version

    try:
        promotion = promote_version(workspace(params), version)
    except ConfigError as error:  # there is nothing to compare on; the version stays the challenger
        promotion = Promotion(version, False, str(error))
    create_markdown_artifact(promotion_report(promotion), key="promotion", description=f"Version {version}")
    return promotion.promoted


@flow(name="cmt", flow_run_name="retrain")
def retrain(limit: Annotated[int, Field(ge=1)] = 500, params: str = "params.yaml") -> str | None:
    """Train, evaluate, register, and promote if it is better on the stream; returns the version in the registry.

    `limit`: questions of the held-out evaluation. The training data is `train.source` or `train.mix`; run
    `cmt data pull` first.
    """
    folder, scores = train(params, limit)
    version = register(params, folder, scores, limit)
    if version is not None:
        promote(params, version)
    return version
