"""Asking the canaries after a slice was banked, and leaving out the documents that harm them."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from cmt.answering.answerer import Answerer
from cmt.common.progress import OnProgress
from cmt.config import GateParams
from cmt.evaluation.gate.canary import Canary, Outcome
from cmt.evaluation.gate.harm import NewSlice, explain, replies
from cmt.retrieval.selector import Selection

# times that documents are set aside: after one of them is left out, another one may harm the same
# canary
REPEATS = 4


def ask(
    answerer: Answerer,
    canaries: Sequence[Canary],
    new: NewSlice,
    *,
    gate: GateParams,
    leave_out: Callable[[Collection[str]], None],
    on_progress: OnProgress | None = None,
) -> list[Canary]:
    """Ask `canaries` as of now; returns the canaries that the next round keeps.

    If more than `gate.max_harmed` are harmed, `leave_out` is called with the documents to leave out
    of the bank, and the harmed canaries are asked again, REPEATS times at most. If that takes more
    than `gate.max_set_aside` documents, the canaries stay harmed. A canary that was never answered
    right, or whose reference is in doubt, is dropped.
    """
    asked = {canary.question_id: canary for canary in _asked(answerer, canaries, new, on_progress)}
    set_aside: set[str] = set()
    for _ in range(REPEATS):
        harmed = [canary for canary in asked.values() if canary.harmed_by]
        wanted = set_aside.union(*(canary.harmed_by for canary in harmed))
        if len(harmed) <= gate.max_harmed or len(wanted) > gate.max_set_aside:
            break
        set_aside = wanted
        leave_out(set_aside)
        doubtful = [_without_harm(canary) for canary in harmed]
        again = _asked(answerer, doubtful, new.without(set_aside), None)
        asked |= {canary.question_id: canary for canary in again}
    return [canary for canary in asked.values() if _stays(canary)]


def _without_harm(canary: Canary) -> Canary:
    """`canary` after what harmed it was set aside."""
    left_out = canary.set_aside + canary.harmed_by
    return replace(canary, harmed_by=(), set_aside=left_out, flipped=canary.flipped or canary.now)


def _stays(canary: Canary) -> bool:
    return canary.now is None or (canary.best is not None and canary.best.right)


def _asked(
    answerer: Answerer, canaries: Sequence[Canary], new: NewSlice, on_progress: OnProgress | None
) -> list[Canary]:
    """Ask `canaries`; each gets its present outcome and, if the slice flipped it, the documents
    that did.

    The slice cannot harm a canary for which none of its documents is selected. Such a canary keeps
    the outcome of the round before if that rests on the same memories, and is not asked at all if
    it has none and is not `fixed`.
    """
    # 1. Search, and ask what the slice may have changed.
    found = answerer.select([canary.question for canary in canaries], as_of=[None] * len(canaries))
    selected, selections = [], []
    for canary, selection in zip(canaries, found, strict=True):
        if _to_ask(answerer, canary, selection, new):
            selected.append(canary)
            selections.append(selection)
    if on_progress:
        on_progress(len(canaries) - len(selected))
    now = replies(answerer, selected, selections=selections, on_progress=on_progress)
    # 2. Ask once more, without the slice, what one of its documents may have flipped.
    doubtful = []
    for canary, reply in zip(selected, now, strict=True):
        if not (reply.outcome.right or new.documents.keys().isdisjoint(reply.selected)):
            doubtful.append(canary)
    without_slice = replies(answerer, doubtful, without=new.documents) if doubtful else []
    before = dict[str, Outcome]()
    for canary, reply in zip(doubtful, without_slice, strict=True):
        before[canary.question_id] = reply.outcome
    # 3. Keep the best outcome of each, and explain what the slice flipped.
    asked = {canary.question_id: canary for canary in canaries}
    for canary, selection, reply in zip(selected, selections, now, strict=True):
        earlier = before.get(canary.question_id, canary.before)
        outcomes = [outcome for outcome in (canary.best, reply.outcome, earlier) if outcome]
        best = max(outcomes, key=lambda outcome: (outcome.right, outcome.f1))  # the first of equals
        canary = replace(canary, best=best, now=reply.outcome, before=earlier)
        canary = replace(canary, selection=selection.digest)
        if canary.regressed:
            canary = explain(answerer, canary, reply, new)
        asked[canary.question_id] = canary
    return list(asked.values())


def _to_ask(answerer: Answerer, canary: Canary, selection: Selection, new: NewSlice) -> bool:
    """Whether the slice may have changed the answer to `canary`, which is given from
    `selection`.
    """
    read = {row[name] for row in selection.rows for name in ("doc_id", "supersedes")}
    if not new.documents.keys().isdisjoint(read):
        return True
    if not canary.now:
        return canary.fixed
    return not answerer.confidence_is_probability or canary.selection != selection.digest
