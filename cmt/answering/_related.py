"""Memories that may state another value of the same fact, in addition to the selected ones."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmt.answering.judge import same_fact
from cmt.bank.bank import Bank
from cmt.bank.changes import Change
from cmt.bank.memory_ids import memory_id
from cmt.retrieval.selector import Selection

ChangesOf = Callable[[set[str] | None], list[Change]]
"""Ids of documents (None: all) → the recorded changes that name one of them, rejected ones
included.
"""
MayChange = Callable[[str | None, str | None], bool]
"""Two sources → whether a later document of the first may change what a document of the second
states.
"""

MOST_ADDED = 2  # memories that are read in addition to the selected ones
NEIGHBOURS = 12  # memories like the first one that are searched by key, and by words


def anyone(source: str | None, other: str | None) -> bool:
    """The `MayChange` of sources that are all trusted."""
    return True


def no_changes(doc_ids: set[str] | None) -> list[Change]:
    """The `ChangesOf` of a bank without a ledger."""
    return []


def add_related(
    selection: Selection,
    bank: Bank,
    changes_of: ChangesOf,
    *,
    question: str,
    key: NDArray[np.float32],
    as_of: datetime | None,
    may_change: MayChange,
) -> Selection:
    """`selection` with at most MOST_ADDED related memories, as far as visible at `as_of`.

    1. Add the other ends of recorded changes.
    2. Add later memories most like the first one, by key and words, that may be about the same
       fact and whose sources may change it.

    A memory gets the log-probability of the selected one that it is compared with.
    """
    if not selection.rows:
        return selection
    selected = {(row["doc_id"], row["published_at"]): row for row in selection.rows}
    changes = changes_of({doc_id for doc_id, _ in selected})
    # 1. the other ends of recorded changes
    priors = _other_ends(selected, changes)
    related: list[dict[str, Any]] = []
    if priors:
        related = bank.memories(set(priors), key=key, as_of=as_of).to_pylist()[:MOST_ADDED]
    # 2. the later memories like the first one
    first = selection.rows[0]
    if len(related) < MOST_ADDED and first["text"]:
        taken = {doc_id for doc_id, _ in selected} | {row["doc_id"] for row in related}
        for row in bank.later(first["memory_id"], key=key, k=NEIGHBOURS, as_of=as_of).to_pylist():
            if row["doc_id"] in taken or not may_change(row["source"], first["source"]):
                continue
            if same_fact(question, first, row) != "no":
                taken.add(row["doc_id"])
                priors[row["memory_id"]] = first["prior"]
                related.append(row)
    added = [{**row, "prior": priors[row["memory_id"]]} for row in related[:MOST_ADDED]]
    return selection._replace(rows=[*selection.rows, *added], changes=tuple(changes))


def _other_ends(
    selected: dict[tuple[str, datetime], dict[str, Any]], changes: list[Change]
) -> dict[str, float]:
    """memory_id of the other end of each recorded change → log-probability of its selected end."""
    priors: dict[str, float] = {}
    for change in changes:
        if change.state != "found":
            continue
        for end, other_end in ((change.old, change.new), (change.new, change.old)):
            row = selected.get((end.doc_id, end.published_at))
            if not row or (other_end.doc_id, other_end.published_at) in selected:
                continue
            for version in (None, other_end.published_at):
                priors.setdefault(
                    memory_id(other_end.doc_id, other_end.chunk, version), row["prior"]
                )
    return priors
