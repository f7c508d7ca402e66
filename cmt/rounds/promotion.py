"""Promotion: a registered compressor becomes the champion, and the way back.

The file that names the champion (`cmt.modeling.champion`) is written before the aliases in MLflow:
it is what commands read. The bank before it answers until `cmt.rounds.recompression` has filled the
champion's.
"""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock

from cmt.common.progress import Progress
from cmt.common.scratch import scratch_folder
from cmt.common.storage import write_json
from cmt.errors import RoundError
from cmt.evaluation.challenger import compare_with_challenger
from cmt.evaluation.challenger_decision import Figures, decide
from cmt.modeling.champion import (
    Champion,
    Promoted,
    champion_folder,
    keep_compressor,
    read_champion,
    write_champion,
)
from cmt.modeling.checkpoint import checkpoint_digest, digest_in_use
from cmt.project import Project
from cmt.rounds.recovery import updating
from cmt.tracking.registry import DECISION, RegisteredModel

log = logging.getLogger(__name__)

DECISION_FILE = "decision.json"
"""In the state folder: the last decision on a challenger, with its figures."""
_LOCK = "promotion.lock"


@dataclass(frozen=True)
class Promotion:
    """The outcome of an attempt to promote a version."""

    version: str
    promoted: bool
    reason: str
    figures: Figures | None = None
    """None if nothing was compared: there was no other compressor."""


def promote_version(
    project: Project,
    version: str | None = None,
    *,
    slice_id: str | None = None,
    progress: Progress | None = None,
) -> Promotion:
    """Compare a version of the registry (default: the newest) with the compressor in use, and
    promote it if it wins.

    A version of the compressor in use becomes the champion without a comparison. `slice_id`: the
    slice that decides. Raises what `compare_with_challenger` raises, NotFoundError on an unknown
    version, and ServiceError without MLflow. Of two promotions at once, one waits.
    """
    registry = project.registry
    challenger = registry.version(version)
    with FileLock(project.state / _LOCK):
        project.active.reload_if_promoted()
        named = read_champion(project.state)
        in_use = checkpoint_digest(project.params.compressor.path)
        if challenger.digest in (in_use, named and named.champion.digest):
            if challenger.champion:
                return Promotion(
                    challenger.version,
                    False,
                    f"version {challenger.version} is the champion already",
                )
            is_in_use = challenger.digest == in_use
            reason = f"it is the {'compressor in use' if is_in_use else 'champion already'}"
            registry.set_champion(challenger, tags={DECISION: f"promoted: {reason}"})
            return Promotion(challenger.version, True, reason)
        with scratch_folder(project.state) as scratch:
            folder = registry.download(challenger, scratch)
            # 1. The comparison.
            figures = compare_with_challenger(project, folder, slice_id=slice_id, progress=progress)
            promoted, reason = decide(figures, project.params.promotion)
            tags = figures.to_tags() | {
                DECISION: f"{'promoted' if promoted else 'refused'}: {reason}"
            }
            record = {"version": challenger.version, "promoted": promoted, "reason": reason}
            write_json(project.state / DECISION_FILE, record | {"figures": figures.to_json()})
            if not promoted:
                registry.refuse(challenger, tags=tags)
                return Promotion(challenger.version, False, reason, figures)
            # 2. The file, then the aliases.
            _name_champion(project, folder, challenger, figures)
        registry.set_champion(challenger, tags=tags)
        return Promotion(challenger.version, True, reason, figures)


def roll_back_promotion(project: Project) -> Promotion:
    """Make the champion's predecessor the champion again; `recompress` then adapts the slices that
    came since.

    A rollback that was interrupted before `recompress` moved the pointer is continued, not
    reversed. Raises RoundError if no compressor was promoted.
    """
    with FileLock(project.state / _LOCK), updating(project):
        named = read_champion(project.state)
        if named is None:
            raise RoundError(
                "no compressor was promoted, so there is none to go back to: "
                "see `cmt registry list`"
            )
        if not (
            named.going_back and project.active.pointer == named.previous.bank
        ):  # else it was interrupted
            named = Champion(replace(named.previous, f1=None), named.champion, going_back=True)
            write_champion(project.state, named)
    reason = f"rolled back from {named.previous.digest[:12]}"
    if project.params.tracking.enabled:
        registry = project.registry
        version_of = {version.digest: version for version in registry.versions()}
        if version := version_of.get(named.champion.digest):
            registry.set_champion(version, tags={DECISION: reason})
    return Promotion(named.champion.version, True, reason)


def _name_champion(
    project: Project, folder: Path, challenger: RegisteredModel, figures: Figures
) -> None:
    """Keep both compressors and write the file that names them."""
    state, window = project.state, project.params.compressor.window
    in_use = project.params.compressor.path
    named = read_champion(state)
    kept = [named.champion, named.previous] if named else []
    digest = checkpoint_digest(in_use)
    version = next(
        (earlier.version for earlier in kept if earlier.digest == digest),
        "",
    )
    previous = Promoted(digest, digest_in_use(in_use, window=window)[:12], version)
    promoted = Promoted(
        challenger.digest,
        digest_in_use(folder, window=window)[:12],
        challenger.version,
        figures.slice_id,
        figures.challenger.f1,
    )
    with updating(project):
        keep_compressor(state, in_use)
        keep_compressor(state, folder)
        write_champion(state, Champion(promoted, previous))
    log.info(
        "compressor %s is the champion, kept in %s",
        promoted.digest[:12],
        champion_folder(state, promoted.digest),
    )
