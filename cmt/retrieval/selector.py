"""Which memories a question gets: nearest keys and fitting words, as of a date (method §7)."""

import math
from datetime import datetime
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cmt.bank.bank import Bank
from cmt.bank.lexical import sketch_scores
from cmt.config import SelectionParams
from cmt.modeling.model import MemoryModel

Key = NDArray[np.float32]
Row = dict[str, Any]


class Selection(NamedTuple):
    """The memories that a question gets."""

    rows: list[Row]
    """Rows of the bank, each with its `prior`."""
    lead: float = 0.0
    """By how much log-probability the first is ahead of the RIVALth, or of the last where there are fewer."""
    margin: float = math.inf
    """By how much log-probability the selection is ahead of another one."""


LEAD_RANK = 5  # place of the memory that the first one is compared with, to tell how sure the selection is
CANDIDATES = 200  # nearest keys of a bank without text whose sketches are searched for the question's words


def select_memories(
    bank: Bank,
    model: MemoryModel,
    how: SelectionParams,
    *,
    question: str,
    key: Key,
    as_of: datetime | None,
) -> Selection:
    """The memories with the highest log-probability `prior`, best first: at most K, none too far behind the first.

    log-softmax over the candidates of temperature · cosine + weight · words / most words, where words are BM25 over the
    kept text, or, without text, over the sketches of the nearest memories.
    """
    by_words = bool(how.full_text_weight)
    by_sketch = by_words and "words" in bank.schema.names
    found = bank.search(
        key=key,
        text=question if by_words and not by_sketch else None,
        k=CANDIDATES if by_sketch else 2 * how.top_k,
        as_of=as_of,
    )
    rows = found.to_pylist()
    if not rows:
        return Selection([])
    words = sketch_scores(question, [row["words"] for row in rows]) if by_sketch else [row["bm25"] for row in rows]
    most = max(words) or 1.0
    temperature = model.temperature.item()
    logits = [
        temperature * row["similarity"] + how.full_text_weight * word / most
        for row, word in zip(rows, words, strict=True)
    ]
    total = float(np.logaddexp.reduce(logits))
    ranked = sorted(zip(logits, rows, strict=True), key=lambda pair: (-pair[0], pair[1]["memory_id"]))
    best, first = ranked[0][0], ranked[: how.top_k]
    chosen = [row | {"prior": score - total} for score, row in first if best - score <= how.reach]
    turns = [score - after for (score, _), (after, _) in pairwise(ranked[: len(chosen) + 1])]
    if model.aggregator is not None:  # the order among the chosen makes no difference to it
        turns = turns[len(chosen) - 1 :]
    turns += [abs(best - score - how.reach) for score, _ in first[1:]]
    return Selection(chosen, best - ranked[:LEAD_RANK][-1][0], min(turns, default=math.inf))
