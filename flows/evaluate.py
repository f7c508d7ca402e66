"""`prefect deployment run cmt/evaluate`: ask the stream's questions of the bank as it is."""

from typing import Annotated, Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from pydantic import Field

from cmt.common.storage import write_json
from flows.artifacts import EVALUATION_FILE, table
from flows.tasks import PARAMS, cmt_task, workspace


@cmt_task(name="evaluate")
def ask_questions(params: str, limit: int | None) -> dict[str, Any]:
    """Ask, show the scores as an artifact, and keep them in the state folder."""
    opened = workspace(params)
    evaluation = opened.evaluate(limit=limit)
    scores = evaluation.to_json()
    rows = [
        [row[name] for name in ("row", "n", "em", "em_prefix", "f1", "recall")]
        for row in scores["rows"]
    ]
    names = ["system", "questions", "EM", "EM prefix", "F1", "recall@K"]
    create_markdown_artifact(
        table(names, rows), key="evaluation", description="The stream's questions"
    )
    record = {"bank_digest": opened.project.active.bank().digest(), "limit": limit, **scores}
    write_json(opened.project.state / EVALUATION_FILE, record)
    return scores


@flow(name="cmt", flow_run_name="evaluate")
def evaluate(
    limit: Annotated[int, Field(ge=1)] | None = None, params: str = PARAMS
) -> dict[str, Any]:
    """Score all questions of the stream, or a seeded sample of `limit` questions, each as of its
    own date.
    """
    return ask_questions(params, limit)
