"""Which memories a question gets: nearest keys and fitting words, as of a date (method §7)."""

import math
from datetime import datetime
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cmt.bank import Bank
from cmt.config import SelectionParams
from cmt.memory.model import MemoryModel
from cmt.words import scores

Key = NDArray[np.float32]
Row = dict[str, Any]


class Found(NamedTuple):
    """The memories that a question gets."""

    rows: list[Row]
    """Rows of the bank, each with its `prior`."""
    lead: float = 0.0
    """By how much log-probability the first is ahead of the best that was left out, or of the last, where none was."""
    margin: float = math.inf
    """By how much log-probability the selection is ahead of another one."""


CANDIDATES = 200  # nearest keys of a bank without text whose sketches are searched for the question's words


def select(
    bank: Bank,
    model: MemoryModel,
    how: SelectionParams,
    *,
    question: str,
    key: Key,
    as_of: datetime | None,
) -> Found:
    """The K memories with the highest log-probability `prior`, best first.

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
        return Found([])
    words = scores(question, [row["words"] for row in rows]) if by_sketch else [row["bm25"] for row in rows]
    most = max(words) or 1.0
    temperature = model.temperature.item()
    logits = [
        temperature * row["similarity"] + how.full_text_weight * word / most
        for row, word in zip(rows, words, strict=True)
    ]
    total = float(np.logaddexp.reduce(logits))
    ranked = sorted(zip(logits, rows, strict=True), key=lambda pair: (-pair[0], pair[1]["memory_id"]))
    leads = [score - after for (score, _), (after, _) in pairwise(ranked[: how.top_k + 1])]
    if model.aggregator is not None:  # the order among the chosen makes no difference to it
        leads = leads[how.top_k - 1 :]
    chosen = [row | {"prior": score - total} for score, row in ranked[: how.top_k]]
    lead = ranked[0][0] - ranked[: how.top_k + 1][-1][0]
    return Found(chosen, lead, min(leads, default=math.inf))
