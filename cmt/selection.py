"""Which memories a question gets: nearest keys and fitting words, as of a date (method §7)."""

import math
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from cmt.bank import Bank
from cmt.config import SelectionParams
from cmt.memory.memories import channels
from cmt.memory.model import MemoryModel

Key = NDArray[np.float32]
Row = dict[str, Any]


class Found(NamedTuple):
    """The memories that a question gets."""

    rows: list[Row]
    """Rows of the bank, each with its `prior`."""
    margin: float = math.inf
    """By how much log-probability the selection is ahead of another one."""


CANDIDATES = 200  # nearest keys of a bank without text whose content is searched for the question's words


def select(
    bank: Bank,
    model: MemoryModel,
    how: SelectionParams,
    *,
    question: str,
    tokens: Sequence[int],
    key: Key,
    as_of: datetime | None,
    keep_text: bool,
) -> Found:
    """The K memories with the highest log-probability `prior`, best first.

    log-softmax over the candidates of temperature · cosine + weight · words / most words, where words are BM25 over the
    kept text, or, without text, what the content channel of the nearest memories holds of the question.
    """
    by_words = bool(how.full_text_weight)
    by_content = by_words and not keep_text
    found = bank.search(
        key=key,
        text=question if by_words and keep_text else None,
        k=CANDIDATES if by_content else 2 * how.top_k,
        as_of=as_of,
    )
    rows = found.to_pylist()
    if not rows:
        return Found([])
    words = content_scores(model, tokens, rows, bank.schema) if by_content else [row["bm25"] for row in rows]
    most = max(words) or 1.0
    temperature = model.temperature.item()
    scores = [
        temperature * row["similarity"] + how.full_text_weight * word / most
        for row, word in zip(rows, words, strict=True)
    ]
    total = float(np.logaddexp.reduce(scores))
    ranked = sorted(zip(scores, rows, strict=True), key=lambda pair: (-pair[0], pair[1]["memory_id"]))
    leads = [score - after for (score, _), (after, _) in pairwise(ranked[: how.top_k + 1])]
    if model.aggregator is not None:  # the order among the chosen makes no difference to it
        leads = leads[how.top_k - 1 :]
    return Found([row | {"prior": score - total} for score, row in ranked[: how.top_k]], min(leads, default=math.inf))


def content_scores(model: MemoryModel, tokens: Sequence[int], rows: Sequence[Row], schema: pa.Schema) -> list[float]:
    """Sum over the question's tokens that a memory holds of log(rows / rows that hold the token)."""
    vectors = [channels(model, row, schema)[1] for row in rows]
    if not tokens or not len(vectors[0]):
        return [0.0] * len(rows)
    windows = model.content.holds(sorted(set(tokens)), torch.cat(vectors))  # (T, all windows)
    parts = torch.split(windows, [len(part) for part in vectors], 1)
    holds = torch.stack([part.any(1) for part in parts])  # (rows, T)
    rarity = (len(rows) / holds.sum(0).clamp(min=1)).log()
    scores: list[float] = (holds * rarity).sum(1).tolist()
    return scores
