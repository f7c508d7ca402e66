"""Asking the canaries after a slice was banked, and finding the harmed ones."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa

from cmt.common.progress import OnProgress
from cmt.evaluation.canary import RIGHT, Canary, Outcome, contradicts
from cmt.evaluation.contradiction import contradicted
from cmt.evaluation.metrics import f1

if TYPE_CHECKING:
    from cmt.answering.answerer import Answerer


def ask(
    answerer: "Answerer",
    canaries: Sequence[Canary],
    rows: pa.Table,
    texts: Mapping[str, str],
    *,
    on_progress: OnProgress | None = None,
) -> list[Canary]:
    """Ask `canaries` as of now and mark the ones that the slice harms; `rows` are its banked memories.

    `texts`: the documents of the slice by doc_id. A canary is harmed by the document that its changed answer comes from
    if that document contradicts its own (`contradicted`); otherwise the error is attributed to the reader. A question
    that was never answered right shows nothing, and leaves.
    """
    # 1. Ask all of them.
    now = _outcomes(answerer, canaries, on_progress)
    # 2. Ask once more, without the slice, what one of its documents answers wrong.
    new_ids = set(rows["doc_id"].to_pylist())
    doubtful = [
        canary for canary, outcome in zip(canaries, now, strict=True) if not outcome.right and outcome.doc_id in new_ids
    ]
    bank = answerer.bank
    without_slice = answerer.with_params(bank=bank.excluding(bank.excluded_doc_ids | new_ids))
    outcomes = _outcomes(without_slice, doubtful, None)
    without = {canary.question_id: outcome for canary, outcome in zip(doubtful, outcomes, strict=True)}
    # 3. Keep the best outcome of each.
    asked = []
    for canary, outcome in zip(canaries, now, strict=True):
        other = without.get(canary.question_id)
        asked.append(replace(canary, best=_best(canary.best, outcome, other), now=outcome, without=other))
    # 4. Mark what the slice harms.
    harmed = contradicted(answerer, [canary for canary in asked if canary.regressed], rows, texts)
    return [
        replace(canary, harmed_by=canary.source) if canary.question_id in harmed else canary
        for canary in asked
        if canary.best and canary.best.right
    ]


def _outcomes(answerer: "Answerer", canaries: Sequence[Canary], on_progress: OnProgress | None) -> list[Outcome]:
    """The outcome of each canary in the bank as it is."""
    questions = [canary.question for canary in canaries]
    answers = answerer.answer(questions, as_of=[None] * len(questions), on_progress=on_progress)
    outcomes = []
    for canary, answer in zip(canaries, answers, strict=True):
        text = answer.text if answer.known else ""
        score = f1(text, canary.references)
        right = score >= RIGHT and not contradicts(text, canary.references)
        sources = sorted(answer.sources, key=lambda source: source.quote is None)  # the quoted one first
        outcomes.append(Outcome(text, score, right, sources[0].doc_id if sources else None))
    return outcomes


def _best(*outcomes: Outcome | None) -> Outcome | None:
    """The outcome with the highest F1, right ones first; of equal ones the first."""
    return max(filter(None, outcomes), key=lambda outcome: (outcome.right, outcome.f1), default=None)
