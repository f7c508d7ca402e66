"""`prefect deployment run cmt/recompress`: fill the bank of the champion, check its answers, make
it active.
"""

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from flows.artifacts import table
from flows.tasks import PARAMS, cmt_task, workspace


@cmt_task(name="recompress")
def fill(params: str) -> bool:
    """Fill the bank and move the pointer; returns whether the champion took over."""
    from cmt.rounds.recompression import recompress

    result = recompress(workspace(params).project)
    rows = [[name, f"{getattr(result, name):,}"] for name in ("slices", "documents", "seconds")]
    description = f"Compressor {result.compressor[:12]}"
    create_markdown_artifact(table(["", ""], rows), key="recompress", description=description)
    return result.moved


@flow(name="cmt", flow_run_name="recompress")
def recompress(params: str = PARAMS) -> bool:
    """Recompress all slices with the champion while its predecessor answers; True if the champion
    took over.

    The next run continues a killed one.
    """
    return fill(params)
