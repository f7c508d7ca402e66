"""The gate: whether a round may be committed, by its canaries and by the scores of its questions.

Its reasons hold ids and counts: ledger, MLflow and Prefect keep them, where no purge looks for
texts.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cmt.bank.rounds import CANARIES, Judgement, Round, round_folder
from cmt.config import GateParams
from cmt.evaluation.gate.canary import Canary, Outcome
from cmt.evaluation.gate.storage import read_canaries
from cmt.text.display import counted, plain

FEWEST = 10
"""Smallest number of canaries whose mean F1 is compared; with fewer, a single canary moves the mean
too far.
"""
_NAMED = 3  # harmed canaries that a reason names
_CHARACTERS = 80  # of a question or an answer in a line


def judge(
    gate: GateParams, *, canaries: Sequence[Canary], f1: float | None
) -> tuple[Judgement, str]:
    """Judge a round by its asked `canaries` and the F1 (0–100) of its questions, None if it had
    none.

    Returns the judgement, and why the round is refused, in one line with what to do; "" if it is
    not. Documents that harm canaries were set aside before; a canary that is still harmed would
    need more of them set aside than `gate.max_set_aside`.
    """
    # 1. Canaries that documents of the slice harm, with what was set aside left out.
    harmed = [canary for canary in canaries if canary.harmed_by]
    if len(harmed) > gate.max_harmed:
        return "refused", _why_harmed(harmed, canaries)
    # 2. The mean F1 of the canaries, against the best outcome of each.
    if len(canaries) >= FEWEST:
        best = _mean_f1([canary.best for canary in canaries])
        now = _mean_f1([canary.now for canary in canaries])
        if best - now > gate.max_f1_drop:
            reason = f"F1 of the {len(canaries)} canaries fell from {best:.1f} to {now:.1f}"
            return "refused", f"{reason}, by more than gate.max_f1_drop {gate.max_f1_drop:g}"
    # 3. The questions of the round.
    if f1 is not None and f1 < gate.min_f1:
        return "refused", f"F1 {f1:.1f} is below gate.min_f1 {gate.min_f1:g}"
    judged = canaries or (f1 is not None and gate.min_f1)
    return "passed" if judged else "not judged", ""


def _why_harmed(harmed: Sequence[Canary], canaries: Sequence[Canary]) -> str:
    causes = list(dict.fromkeys(doc_id for canary in harmed for doc_id in canary.harmed_by))
    return (
        f"{len(harmed)} of {len(canaries)} canaries are wrong because of "
        f"{counted(len(causes), 'document')}, more than gate.max_set_aside allows: "
        f"{_questions(harmed)} because of {_listed(causes)}. Take "
        "these documents out of their file, or raise gate.max_set_aside; if they are true, give "
        "their source authority (stream.authority, stream.peers), or accept the whole slice: "
        f"`cmt --set gate.max_harmed={len(harmed)} update`"
    )


def _mean_f1(outcomes: Sequence[Outcome | None]) -> float:
    """The mean F1 (0–100); a canary that was not asked has not changed."""
    f1 = [1.0 if outcome is None else outcome.f1 for outcome in outcomes]
    return 100 * sum(f1) / len(f1)


def why_set_aside(document: Mapping[str, Any], canaries: Sequence[Canary]) -> str:
    """Why a round left `document` (DOCUMENT_SCHEMA) out of the bank, in one line with what to do if
    it is true.
    """
    doc_id, source = document["doc_id"], document["source"]
    harmed = [canary for canary in canaries if doc_id in canary.set_aside]
    targets = sorted({canary.doc_id for canary in harmed})
    owners = sorted({canary.source for canary in harmed})
    noun = "canary" if len(harmed) == 1 else "canaries"
    authority = json.dumps({source: owners}, ensure_ascii=False)
    target = json.dumps(targets[0] if targets else "", ensure_ascii=False)
    return (
        f"set aside: it makes {len(harmed)} {noun} wrong and updates none of their documents: "
        f"{_questions(harmed)}. If it is a true change, give its source authority: add "
        f"{authority} to stream.authority, declare what it supersedes (add "
        f'"supersedes": {target}), and ingest it again; sources that often change each other\'s '
        "facts belong in stream.peers"
    )


def changed_answers(state: Path, round_: Round) -> list[str]:
    """A line for each canary that `round_` harmed: its question, the answer before and now, the
    documents responsible.

    Read from the files of the round in the folder `state`, which a purge cleans; empty if they are
    gone.
    """
    lines = []
    for canary in read_canaries(round_folder(state, round_.slice_id) / CANARIES) or []:
        if causes := canary.set_aside or canary.harmed_by:
            before, now = canary.before, canary.flipped if canary.set_aside else canary.now
            was, becomes = (_quoted(outcome.answer if outcome else "") for outcome in (before, now))
            question = _quoted(canary.question)
            lines.append(f"{question} was {was}, is {becomes} because of {_listed(causes)}")
    return lines


def _questions(canaries: Sequence[Canary]) -> str:
    """The first canaries by their ids, and where their texts are."""
    named = _listed([f"{canary.question_id} about {canary.doc_id}" for canary in canaries])
    return f"{named} (`cmt lineage ROUND` has the answers)"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(plain, names[:_NAMED])) + (
        f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    )


def _quoted(text: str) -> str:
    line = plain(text) or "not in memory"
    return f'"{line if len(line) <= _CHARACTERS else line[:_CHARACTERS] + "…"}"'
