"""`prefect deployment run cmt/retrain`: train a compressor, evaluate it on held-out articles,
register it.
"""

from pathlib import Path
from typing import Annotated

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from pydantic import Field

from cmt.workspace import Workspace, open
from flows.artifacts import table
from flows.challenger import decide_on_challenger
from flows.tasks import PARAMS, cmt_task, workspace

Scores = dict[str, float | None]


def training_workspace(params: str) -> Workspace:
    """The project; a training on the stream starts from the compressor in use, unless `train.start`
    names another.
    """
    opened = workspace(params)
    if not opened.params.train.from_stream or opened.params.train.start:
        return opened
    return open(params=params, overrides={"train.start": str(opened.params.compressor.path)})


@cmt_task(name="train and evaluate")
def train(params: str, limit: int) -> tuple[str, Scores]:
    """Train, or resume from the last checkpoint; returns the compressor's folder and its held-out
    scores.
    """
    folder, scored = training_workspace(params).train(questions=limit)
    scores = scored.by_name()
    create_markdown_artifact(
        table(["", ""], [*scores.items()]),
        key="held-out",
        description=f"The compressor in {folder}",
    )
    return str(folder), scores


@cmt_task(name="register")
def register(params: str, folder: str, scores: Scores, limit: int, started_by: str) -> str | None:
    """Register the compressor in MLflow as the challenger; its version, None when tracking is
    off.
    """
    from cmt.evaluation.held_out import held_out_name

    opened = training_workspace(params)
    if not opened.params.tracking.enabled:
        return None
    held_out = held_out_name(opened.params, questions=limit)
    version = opened.project.registry.add(
        Path(folder), project=Path(params), params=opened.params, scores=scores, held_out=held_out
    )
    opened.project.tracker.finish_training(
        params=opened.params, scores=scores, started_by=started_by
    )
    return version


@flow(name="cmt", flow_run_name="retrain")
def retrain(
    limit: Annotated[int, Field(ge=1)] = 500, started_by: str = "", params: str = PARAMS
) -> str | None:
    """Train, evaluate, register, and promote if it is better on the stream; returns the version in
    the registry.

    `limit`: number of questions of the held-out evaluation. `started_by`: the event that started
    it, recorded in MLflow. Trains on the data of the section `train`; run `cmt data pull` first. If
    no slice follows the training slices, the next round of `cmt/online-update` decides.
    """
    folder, scores = train(params, limit)
    version = register(params, folder, scores, limit, started_by)
    if version is not None:
        decide_on_challenger(params)
    return version
