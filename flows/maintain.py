"""`prefect deployment run cmt/maintain`: indexes, files and old versions of the banks."""

from typing import Annotated, Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from pydantic import Field

from cmt.common.progress import NullProgress
from flows.artifacts import table
from flows.tasks import PARAMS, cmt_task, workspace

KEEP_DAYS = 90.0  # age of the versions that are dropped. Rollbacks of a quarter stay possible


@cmt_task(name="optimize")
def optimize_banks(params: str, keep_days: float | None) -> dict[str, Any]:
    """Optimize, and show the size of the bank as an artifact."""
    from cmt.rounds.care.maintenance import optimize

    stats = optimize(workspace(params).project, keep_days=keep_days, progress=NullProgress())
    rows = [
        [name.replace("_", " "), f"{value:,.4g}" if isinstance(value, float) else f"{value:,}"]
        for name, value in stats.items()
    ]
    create_markdown_artifact(
        table(["bank", ""], rows), key="maintain", description="The bank after maintenance"
    )
    return stats


@flow(name="cmt", flow_run_name="maintain")
def maintain(
    keep_days: Annotated[float, Field(ge=0)] | None = KEEP_DAYS, params: str = PARAMS
) -> dict[str, Any]:
    """Rebuild the indexes, compact the files and drop versions older than `keep_days` (None:
    none).
    """
    return optimize_banks(params, keep_days)
