"""The gate: whether a round may be committed, by its canaries and by the scores of its questions."""

from collections.abc import Sequence
from typing import NamedTuple

from cmt.bank.ledger import Judgement
from cmt.common.text import plain
from cmt.config import GateParams
from cmt.evaluation.canary import Canary

FEWEST = 10
"""Smallest number of canaries whose mean F1 is compared; with fewer, a single canary moves the mean too far."""
_NAMED = 3  # harmed canaries that a reason names
_CHARACTERS = 80  # of a question or an answer in a reason


class Decision(NamedTuple):
    """The decision of the gate on a round."""

    judgement: Judgement
    reason: str = ""
    """Why the round is refused, in one line with what to do; "" if it is not."""


def judge(gate: GateParams, *, canaries: Sequence[Canary], f1: float | None) -> Decision:
    """Judge a round by its asked `canaries` and the F1 (0–100) of its questions, None if it had none."""
    # 1. Canaries that the documents of the slice turned wrong.
    harmed = [canary for canary in canaries if canary.harmed_by]
    if len(harmed) > gate.max_harmed:
        return Decision("refused", _harm(harmed, asked=len(canaries)))
    # 2. The mean F1 of the canaries, against the best outcome of each.
    if len(canaries) >= FEWEST:
        best = 100 * sum(canary.best.f1 for canary in canaries if canary.best) / len(canaries)
        now = 100 * sum(canary.now.f1 for canary in canaries if canary.now) / len(canaries)
        if best - now > gate.max_f1_drop:
            reason = f"F1 of the {len(canaries)} canaries fell from {best:.1f} to {now:.1f}"
            return Decision("refused", f"{reason}, by more than gate.max_f1_drop {gate.max_f1_drop:g}")
    # 3. The questions of the round.
    if f1 is not None and f1 < gate.min_f1:
        return Decision("refused", f"F1 {f1:.1f} is below gate.min_f1 {gate.min_f1:g}")
    judged = canaries or (f1 is not None and gate.min_f1)
    return Decision("passed" if judged else "not judged")


def _harm(harmed: Sequence[Canary], *, asked: int) -> str:
    """The harmed canaries with their answers and the documents responsible, and what to do."""
    changes = []
    for canary in harmed[:_NAMED]:
        before, now = (_quoted(outcome.answer if outcome else "") for outcome in (canary.best, canary.now))
        changes.append(f"{_quoted(canary.question)} was {before}, is {now} because of {canary.harmed_by}")
    more = f"; and {len(harmed) - _NAMED} more, see canaries.parquet" if len(harmed) > _NAMED else ""
    documents = sorted({str(canary.harmed_by) for canary in harmed})
    return (
        f"{len(harmed)} of {asked} canaries turned wrong through documents that do not update theirs: "
        f"{'; '.join(changes)}{more}. "
        f"Leave out what is false with `cmt forget {plain(documents[0])}` and update again, or accept the slice with "
        f"`cmt --set gate.max_harmed={len(harmed)} update`"
    )


def _quoted(text: str) -> str:
    line = plain(text) or "not in memory"
    return f'"{line if len(line) <= _CHARACTERS else line[:_CHARACTERS] + "…"}"'
