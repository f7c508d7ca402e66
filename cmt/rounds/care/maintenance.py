"""Looking after the banks of all compressors: indexes, files, and old versions."""

from datetime import timedelta

from cmt.bank.bank import open_banks
from cmt.bank.tables import FOREVER
from cmt.common.progress import Progress
from cmt.project import Project
from cmt.rounds.recovery import recover, updating


def optimize(
    project: Project, *, keep_days: float | None, progress: Progress
) -> dict[str, int | float]:
    """Rebuild the indexes and compact the files of all banks; returns `Bank.stats` of the one in
    use.

    `keep_days`: also drop versions older than this, which no rollback can restore afterwards; None
    drops none. The time grows with the banks, and rounds wait for it.
    """
    with updating(project):
        progress.stage("optimize")
        keep = FOREVER
        if keep_days is not None:
            recover(project)  # an interrupted round needs a version that may be dropped
            keep = max(timedelta(days=min(keep_days, FOREVER.days)), timedelta(milliseconds=1))
        for bank in open_banks(project.bank_location):
            bank.optimize(keep=keep)
        return project.active.stored().stats()
