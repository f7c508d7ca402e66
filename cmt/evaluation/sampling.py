"""Seeded samples of questions. Each call draws the same questions on every machine.

A sample by position depends on the number of rows and their order. A sample by hash does not: a
hash of the seed and of its own columns decides about each question, so most of the sample stays
when the table grows.
"""

import heapq
from collections.abc import Sequence
from random import Random
from typing import TypeVar

import pyarrow as pa

from cmt.common.arrow import rows_with, take
from cmt.common.digests import sha256_hex

Item = TypeVar("Item")


def draw(items: Sequence[Item], *, limit: int, seed: int) -> list[Item]:
    """At most `limit` of `items`, in the order of drawing; all items in their own order if `limit`
    is not smaller.
    """
    return Random(seed).sample(items, limit) if limit < len(items) else list(items)


def sample_by_position(questions: pa.Table, *, limit: int, seed: int) -> pa.Table:
    """At most `limit` rows of `questions`, in their order, drawn by position."""
    return take(questions, sorted(draw(range(questions.num_rows), limit=limit, seed=seed)))


def sample_on_documents(
    questions: pa.Table, documents: pa.Table, *, limit: int, seed: int
) -> pa.Table:
    """At most `limit` of the questions on `documents` (tables with `doc_id`), in their order, drawn
    by position.
    """
    on_documents = rows_with(questions, "doc_id", documents["doc_id"].to_pylist())
    return sample_by_position(on_documents, limit=limit, seed=seed)


def sample_by_hash(
    questions: pa.Table, *, limit: int, seed: int, columns: Sequence[str] = ("question_id",)
) -> pa.Table:
    """The `limit` rows with the lowest SHA-256 of seed and `columns` (strings), in the order of
    `questions`.
    """
    values = zip(*(questions[name].to_pylist() for name in columns), strict=True)
    hashes = [sha256_hex(str(seed), *row) for row in values]
    return take(
        questions, sorted(heapq.nsmallest(limit, range(len(hashes)), key=hashes.__getitem__))
    )
