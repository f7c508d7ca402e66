"""The gate: whether a round may be committed, by its canaries and by the scores of its questions."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cmt.bank.ledger import Judgement
from cmt.common.text import plain
from cmt.config import GateParams
from cmt.evaluation.canary import Canary, Outcome

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
    """Judge a round by its asked `canaries` and the F1 (0–100) of its questions, None if it had none.

    Documents that harm canaries were set aside before; a canary that is still harmed needs too many to be.
    """
    # 1. Canaries that documents of the slice turn wrong, with what was set aside left out.
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


def why_set_aside(document: Mapping[str, Any], canaries: Sequence[Canary]) -> str:
    """Why a round left `document` (DOCUMENT_SCHEMA) out of the bank, in one line with what to do if it is true."""
    doc_id, source = document["doc_id"], document["source"]
    harmed = [canary for canary in canaries if doc_id in canary.set_aside]
    changes = "; ".join(_change(canary, canary.turned) for canary in harmed[:_NAMED])
    targets = sorted({canary.doc_id for canary in harmed})
    owners = sorted({canary.source for canary in harmed})
    return (
        f"set aside: it turns {len(harmed)} canar{'ies' if len(harmed) != 1 else 'y'} wrong and updates none of their "
        f"documents: {changes}. If it is a true change, give its source authority: add "
        f"{json.dumps({source: owners}, ensure_ascii=False)} to stream.authority, declare what it supersedes (add "
        f'"supersedes": {json.dumps(targets[0] if targets else "", ensure_ascii=False)}), and ingest it again; sources '
        "that often change each other's facts belong in stream.peers"
    )


def _harm(harmed: Sequence[Canary], *, asked: int) -> str:
    """The harmed canaries with their answers and the documents responsible, and what to do."""
    named = [f"{_change(canary, canary.now)} because of {_listed(canary.harmed_by)}" for canary in harmed[:_NAMED]]
    more = f"; and {len(harmed) - _NAMED} more, see canaries.parquet" if len(harmed) > _NAMED else ""
    return (
        f"{len(harmed)} of {asked} canaries turned wrong through too many documents to leave them out: "
        f"{'; '.join(named)}{more}. Take these documents out of their file, or raise gate.max_set_aside; if they are "
        "true, give their source authority (stream.authority, stream.peers), or accept the whole slice: "
        f"`cmt --set gate.max_harmed={len(harmed)} update`"
    )


def _change(canary: Canary, turned: Outcome | None) -> str:
    before, now = (_quoted(outcome.answer if outcome else "") for outcome in (canary.without, turned))
    return f"{_quoted(canary.question)} was {before}, is {now}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(plain, names[:_NAMED])) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")


def _quoted(text: str) -> str:
    line = plain(text) or "not in memory"
    return f'"{line if len(line) <= _CHARACTERS else line[:_CHARACTERS] + "…"}"'
