"""`prefect deployment run cmt/evaluate`: the stream's questions, asked of the bank as it is."""

from typing import Annotated, Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from pydantic import Field

from flows.artifacts import evaluation_report
from flows.tasks import step, workspace


@step(name="evaluate")
def ask_all(params: str, limit: int | None) -> dict[str, Any]:
    """Ask, and show the scores as an artifact."""
    found = workspace(params).evaluate(limit=limit)
    create_markdown_artifact(evaluation_report(found), key="evaluation", description="The stream's questions")
    return found.to_json()


@flow(name="cmt", flow_run_name="evaluate")
def evaluate(limit: Annotated[int, Field(ge=1)] | None = None, params: str = "params.yaml") -> dict[str, Any]:
    """Scores on all questions of the stream, or on a seeded sample of `limit`, each as of its own date."""
    return ask_all(params, limit)
