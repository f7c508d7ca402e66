"""Recompression: the champion compresses the slices of the active bank into a bank of its own.

It takes one slice at a time, oldest first, in a round without questions; a rerun skips committed
slices. Each slice is compressed before the lock is taken, so that rounds with new documents hardly
wait. The active compressor adapts slices that arrive meanwhile; once its gate has accepted one, the
champion compresses it, too. Waiting and refused slices are left out, because these rounds have no
gate. When no slice is left, the new bank answers the questions on which the promotion was decided,
and the pointer moves, in one commit.
"""

import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass

from cmt.bank.rounds import Round
from cmt.common.progress import NullProgress, Progress
from cmt.common.systems import ScoresBySystem
from cmt.errors import RoundError
from cmt.evaluation.challenger import questions_of
from cmt.evaluation.evaluate import evaluate
from cmt.modeling.champion import Promoted, champion_folder, read_champion
from cmt.project import Project
from cmt.rounds._attempts import MAX_ATTEMPTS
from cmt.rounds._files import RoundFiles
from cmt.rounds.recovery import activate_if_complete, recover, updating
from cmt.rounds.runner import STEPS, RoundRunner

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recompression:
    """The outcome of a recompression."""

    compressor: str
    """Digest of the champion's weights and configuration."""
    slices: int
    """Slices that this run compressed; the others were in the bank before."""
    documents: int
    seconds: float
    moved: bool
    """Whether the pointer moved to the champion; False if the champion answered before."""


class SliceRunner(RoundRunner):
    """A round of a recompression: no canaries and no questions, and the pointer stays."""

    steps = [step for step in STEPS if step.method in ("upsert_memories", "evaluate", "decide")]
    recompresses = True

    def __init__(self, project: Project, slice_id: str, *, progress: Progress) -> None:
        super().__init__(project, slice_id, progress=progress)
        folder = self.files.folder
        name = f"{folder.name}@{project.compressor_digest[:12]}"
        self.files = RoundFiles(folder.with_name(name))

    def run(self) -> Round:
        """All steps; the lock is taken after the compression."""
        if len(self.attempts.ends()) < MAX_ATTEMPTS:
            self.attempts.begin()
            self.compress()
        with updating(self.project):
            round_ = super().run()
        if round_.state in ("committed", "refused") and not round_.already:
            shutil.rmtree(self.files.folder)
        return round_

    def begin(self) -> Round:
        """`RoundRunner.begin`, with the documents that the bank that answers set aside.

        Raises RoundError if that bank no longer has the slice.
        """
        answering = _answering_rounds(self.project).get((self.slice.slice_id, self.slice.digest))
        if answering is None:
            raise RoundError(
                f"slice {self.slice.slice_id} left the bank that answers while it was "
                "compressed: run `cmt recompress` again, which leaves it out"
            )
        seconds = self.files.seconds
        begun = super().begin()
        if begun.state == "started":
            self.files.note(**seconds)  # of the compression
            self.files.set_aside = answering.set_aside
        return begun

    def evaluate(self) -> ScoresBySystem:
        """It asks no question."""
        self.files.write_scores(0, {})
        return {}


def recompress(
    project: Project,
    *,
    progress: Progress | None = None,
    on_slice: Callable[[str, int], None] = lambda _slice_id, _left: None,
    sleep: Callable[[float], None] = time.sleep,
) -> Recompression:
    """Fill the champion's bank, check its answers, and let it answer; a part that was done before
    is not done again.

    `on_slice` is called with each slice and the number of those left. `sleep` waits some seconds:
    between two slices the process rests, so that it works `promotion.duty_cycle` of the time.
    Raises RoundError if no compressor was promoted, if a slice cannot be compressed, or if the
    answers are worse than those of its promotion; the bank before it goes on answering then.
    """
    progress, began = progress or NullProgress(), time.monotonic()
    named = read_champion(project.state)
    if named is None:
        raise RoundError("no compressor was promoted: run `cmt registry promote` first")
    # without canaries
    path = champion_folder(project.state, named.champion.digest)
    params = project.declared.with_values(
        compressor={"path": path}, gate={"canaries": 0, "min_f1": 0.0}
    )
    champion = Project(params, project.root, lm=project.lm)
    with updating(champion):
        recover(champion)  # it sets a lost pointer again
    slices = documents = 0
    while True:
        # 1. The slices.
        while pending := _pending(champion):
            started = time.monotonic()
            on_slice(pending[0], len(pending))
            round_ = SliceRunner(champion, pending[0], progress=progress).repeat()
            if round_.problem:
                raise RoundError(f"{round_.problem}; the bank before it goes on answering")
            slices = slices + (not round_.already)
            documents = documents + round_.documents * (not round_.already)
            sleep((time.monotonic() - started) * (1 / project.params.promotion.duty_cycle - 1))
        # 2. The check, and unless slices came meanwhile, the pointer.
        _check_answers(champion, named.champion, progress)
        with updating(champion):
            recover(champion)
            if not _pending(champion):
                moved = activate_if_complete(champion, checked=True)
                break
    return Recompression(
        named.champion.digest, slices, documents, round(time.monotonic() - began, 1), moved
    )


def _answering_rounds(project: Project) -> dict[tuple[str, str], Round]:
    """The committed rounds of the bank that answers, by slice and its digest; no other slice may
    become visible.
    """
    answering = project.active.pointer
    return {
        (round_.slice_id, round_.slice_digest): round_
        for round_ in project.history.all_rounds()
        if round_.compressor.startswith(answering) and round_.state == "committed"
    }


def _pending(champion: Project) -> list[str]:
    """The slices that the bank that answers has and the champion's lacks, oldest first, failed ones
    included.
    """
    answering, row_format = _answering_rounds(champion), champion.row_format
    committed = {
        round_.identity for round_ in champion.history.rounds() if round_.state == "committed"
    }
    return [
        slice_.slice_id
        for slice_ in champion.store.slices()
        if (slice_.slice_id, slice_.digest) in answering
        and (slice_.digest, champion.compressor_digest, row_format) not in committed
    ]


def _check_answers(champion: Project, promoted: Promoted, progress: Progress) -> None:
    """Raise RoundError if the questions that the champion was compared on have a lower F1 in its
    whole bank.

    A slice that is not in the bank cannot answer them.
    """
    banked = {
        round_.slice_id for round_ in champion.history.rounds() if round_.state == "committed"
    }
    if promoted.f1 is None or promoted.scored_slice not in banked:
        return
    questions = questions_of(champion, promoted.scored_slice)
    progress.stage("evaluate", len(questions))
    evaluation = evaluate(champion.answerer, questions, on_progress=progress.advance)
    f1 = evaluation.systems[0].scores.f1
    if f1 < promoted.f1 - champion.params.promotion.max_loss:
        raise RoundError(
            f"the complete bank of compressor {promoted.digest[:12]} answers the questions of "
            f"{promoted.scored_slice} with F1 {f1:.1f}, in the comparison it was "
            f"{promoted.f1:.1f}: the bank before it goes on answering; give the champion up with "
            "`cmt registry rollback`"
        )
