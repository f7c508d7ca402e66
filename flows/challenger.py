"""The decision on a challenger, taken by `cmt/retrain` and `cmt/online-update` once a newer slice
has questions.
"""

import logging

from prefect.artifacts import create_markdown_artifact

from cmt.errors import NotFoundError
from flows.artifacts import promotion_report
from flows.events import emit_promotion
from flows.tasks import cmt_task, workspace

log = logging.getLogger("cmt.flows")


@cmt_task(name="decide on the challenger")
def decide_on_challenger(params: str) -> None:
    """Compare the challenger, if there is one, with the compressor in use.

    It waits for its decision if no slice with questions follows its training slices yet.
    """
    from cmt.rounds.promotion import promote_version
    from cmt.tracking.registry import CHALLENGER

    opened = workspace(params)
    if not opened.params.tracking.enabled:
        return
    challenger = next(
        (
            version
            for version in opened.project.registry.versions()
            if CHALLENGER in version.aliases
        ),
        None,
    )
    if challenger is None:
        return
    try:
        promotion = promote_version(opened.project, challenger.version)
    except NotFoundError as error:
        log.info("version %s waits for its decision: %s", challenger.version, error)
        return
    description = f"Version {challenger.version}"
    create_markdown_artifact(promotion_report(promotion), key="promotion", description=description)
    log.info("version %s: %s", challenger.version, promotion.reason)
    if promotion.promoted and promotion.figures:  # else it answers already
        emit_promotion(promotion)
