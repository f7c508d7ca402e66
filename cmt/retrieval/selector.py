"""Selection of memories for a question: keys and words, as of a date (docs/method.md#selection)."""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cmt.bank.bank import Bank
from cmt.bank.changes import Change
from cmt.bank.lexical import sketch_scores
from cmt.common.digests import sha256_hex
from cmt.config import SelectionParams
from cmt.modeling.model import MemoryModel

CANDIDATES = 200  # nearest keys whose sketches are scored in a bank without text

Key = NDArray[np.float32]  # (p,)


class Selection(NamedTuple):
    """The memories that were selected for a question."""

    rows: list[dict[str, Any]]  # rows of a search of the bank with their `prior`, best first
    margin: float = math.inf  # smallest change in log-probability that alters the selection
    # the recorded changes that name a document of the rows, rejected ones included
    changes: tuple[Change, ...] = ()

    @property
    def digest(self) -> str:
        """Identity of everything that an answer from the selection depends on."""
        names = ("memory_id", "published_at", "supersedes", "text")
        rows = (
            " ".join([*(str(row[name]) for name in names), f"{row['prior']:.6f}"])
            for row in self.rows
        )
        return sha256_hex(
            *sorted(rows), *sorted(f"{change.id} {change.state}" for change in self.changes)
        )[:16]


def select_memories(
    bank: Bank,
    model: MemoryModel,
    selection: SelectionParams,
    *,
    question: str,
    key: Key,
    as_of: datetime | None,
    past: bool = False,
) -> Selection:
    """Select at most `top_k` memories within `max_logprob_gap` of the first, by log-probability
    (`prior`).

    prior = log-softmax over the candidates of temperature · cosine + full_text_weight · words /
    max(words), where `words` is the BM25 score of the text or, in a bank without text, of the
    sketches of the nearest memories. `key` (p,): search key of the question. `as_of`: only memories
    visible at this date; None: now. `past`: also those superseded by then.
    """
    # 1. Search the candidates.
    by_words = bool(selection.full_text_weight)
    by_sketch = by_words and "words" in bank.schema.names
    candidates = bank.search(
        key=key,
        text=question if by_words and not by_sketch else None,
        k=CANDIDATES if by_sketch else 2 * selection.top_k,
        as_of=as_of,
        past=past,
    )
    rows = candidates.to_pylist()
    if not rows:
        return Selection([])
    # 2. Rank them by log-probability.
    logits = log_scores(rows, question, selection, temperature=model.temperature.item())
    total = float(np.logaddexp.reduce(logits))
    ranked = sorted(
        zip(logits, rows, strict=True), key=lambda pair: (-pair[0], pair[1]["memory_id"])
    )
    # 3. Select the first ones.
    best, first = ranked[0][0], ranked[: selection.top_k]
    selected = [
        {**row, "prior": logit - total}
        for logit, row in first
        if best - logit <= selection.max_logprob_gap
    ]
    # 4. The margin: gaps between neighbouring ranks, and distances from `max_logprob_gap`.
    gaps = [
        logit - following for (logit, _), (following, _) in pairwise(ranked[: len(selected) + 1])
    ]
    if model.aggregator is not None:  # ψ does not depend on the order of the selected memories
        gaps = gaps[len(selected) - 1 :]
    gaps += [abs(best - logit - selection.max_logprob_gap) for logit, _ in first[1:]]
    return Selection(selected, min(gaps, default=math.inf))


def log_scores(
    rows: Sequence[Mapping[str, Any]],
    question: str,
    selection: SelectionParams,
    *,
    temperature: float,
) -> list[float]:
    """temperature · cosine + full_text_weight · words / max(words) of each row."""
    if selection.full_text_weight and "words" in rows[0]:
        words = sketch_scores(question, [row["words"] for row in rows])
    else:
        words = [row["bm25"] for row in rows]
    best = max(words) or 1.0
    logits = []
    for row, word in zip(rows, words, strict=True):
        of_words = selection.full_text_weight * word / best
        logits.append(temperature * row["similarity"] + of_words)
    return logits
