"""`prefect deployment run cmt/backfill`: an archive of documents, slice by slice, with its
progress.
"""

import logging
import time
from datetime import timedelta
from typing import Annotated, cast
from uuid import UUID

from prefect import flow
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from pydantic import Field

from cmt.errors import RoundError
from cmt.rounds import recovery
from flows.online_update import ingest, one_round
from flows.tasks import PARAMS, workspace

log = logging.getLogger("cmt.flows")


@flow(name="cmt", flow_run_name="backfill")
def backfill(
    source: Annotated[str, Field(min_length=1)], publisher: str | None = None, params: str = PARAMS
) -> int:
    """Adapt all documents of `source`, a path in the project; returns the number of adapted
    documents.

    Each pending slice gets its own round, so a kill loses the work on one slice at most, and the
    next run continues. A refused or failed round does not stop the others, but fails the flow run
    at the end. `publisher`: see `Workspace.ingest`.
    """
    ingest(params, source, publisher)
    pending = workspace(params).pending()
    sizes = {
        slice_.slice_id: slice_.n_documents for slice_ in workspace(params).project.store.slices()
    }
    total, tried, adapted, refused = sum(sizes[slice_id] for slice_id in pending), 0, 0, list[str]()
    progress = cast(
        UUID, create_progress_artifact(0.0, key="backfill", description=f"{total:,} documents")
    )
    started = time.monotonic()
    for slice_id in pending:
        with recovery.updating(workspace(params).project):
            state = one_round(params, slice_id)
        tried += sizes[slice_id]
        if state in ("committed", "already"):
            adapted += sizes[slice_id]
        else:
            refused.append(slice_id)
        description = f"{adapted:,} of {total:,} documents"
        if tried:  # a slice may have only questions
            rate = tried / (time.monotonic() - started)
            left = timedelta(seconds=round((total - tried) / rate))
            description += f", {rate:.1f} a second, {left} left"
            update_progress_artifact(progress, 100 * adapted / total, description=description)
        log.info(description)
    if refused:
        reason = (
            f"{len(refused)} of {len(pending)} rounds were refused or failed: {', '.join(refused)}"
        )
        raise RoundError(f"{reason}; `cmt rounds` shows why")
    return adapted
