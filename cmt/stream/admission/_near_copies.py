"""Floods of near-copies: more than `stream.max_near_duplicates` documents of one slice with nearly
the same text.

Two texts are near-copies if they share at least 0.8 of their runs of five words (Jaccard). MinHash
finds the candidates (Broder 1997; 16 bands of 8 miss 5 % of the pairs at 0.8 and 0.01 % at 0.9),
and a comparison of the texts decides.
"""

from collections import defaultdict
from typing import Any

import pyarrow as pa
from rensa import RMinHash

from cmt.common.arrow import take
from cmt.stream.periods import slice_of_each
from cmt.text.shingles import NEARLY_EQUAL, shingles, words

_BANDS, _BAND = 16, 8
_BUCKET = 16  # documents to compare for one band: bounds the cost of a document


def excess_near_duplicates(documents: pa.Table, *, period: str | int, limit: int) -> dict[int, str]:
    """Row → why it is refused, of the rows beyond the first `limit` near-copies in a slice of
    `period`.

    Rows count by date, then in their order. A document that supersedes one of its near-copies
    replaces it. Equal texts of one source count once. `limit` 0: no limit.
    """
    if not limit:
        return {}
    columns = ("published_at", "doc_id", "source", "sha256")
    dates, doc_ids, sources, hashes = (documents[name].to_pylist() for name in columns)
    # 1. the rows of each slice by date, of equal texts of one source the first
    slices, seen = slice_of_each(documents, period=period), set[tuple[Any, ...]]()
    members = defaultdict[Any, list[int]](list)
    for row in sorted(range(documents.num_rows), key=dates.__getitem__):
        key = (slices[row], sources[row], hashes[row])
        if key not in seen:
            seen.add(key)
            members[slices[row]].append(row)
    # 2. the near-copies in each slice that can have too many
    refused = dict[int, str]()
    for rows in members.values():
        if len(rows) <= limit:
            continue
        for row, near in _excess_in_slice(take(documents, rows), limit).items():
            refused[rows[row]] = (
                f"nearly the same text as {doc_ids[rows[near]]!r} and others of its slice, which "
                f"takes {limit}; name "
                "the document that it supersedes, or raise stream.max_near_duplicates"
            )
    return refused


def _excess_in_slice(documents: pa.Table, limit: int) -> dict[int, int]:
    """Row → the first of at least `limit` rows before it that are its near-copies."""
    columns = ("doc_id", "supersedes", "text")
    doc_ids, supersedes, texts = (documents[name].to_pylist() for name in columns)
    excess: dict[int, int] = {}
    buckets = defaultdict[tuple[int, ...], list[int]](list)
    current: dict[str, int] = {}  # doc_id → row that was taken and is not superseded
    for row in range(documents.num_rows):
        # 1. candidates by MinHash, without what this row replaces
        runs = _runs(texts[row])
        bands, replaced = _bands(runs), {doc_ids[row], supersedes[row]}
        similar = set[int]().union(*(buckets[band] for band in bands))
        candidates = list[int]()
        for candidate in sorted(similar):
            name = doc_ids[candidate]
            if current.get(name) == candidate and name not in replaced:
                candidates.append(candidate)
        # 2. the near-copies among them, if they are enough
        if len(candidates) >= limit:
            near = _near_copies(runs, candidates, texts)
            if len(near) >= limit:
                excess[row] = near[0]
                continue
        # 3. otherwise take it
        current.pop(supersedes[row] or "", None)
        current[doc_ids[row]] = row
        for band in bands:
            if len(buckets[band]) == _BUCKET:  # drop the rows that were replaced since
                in_force = [
                    taken for taken in buckets[band] if current.get(doc_ids[taken]) == taken
                ]
                buckets[band] = in_force
            if len(buckets[band]) < _BUCKET:
                buckets[band].append(row)
    return excess


def _near_copies(runs: set[str], rows: list[int], texts: list[str]) -> list[int]:
    """The rows whose texts are near-copies of a text with these runs of words."""
    near = list[int]()
    for row in rows:
        runs_of_row = _runs(texts[row])
        if len(runs & runs_of_row) / len(runs | runs_of_row) >= NEARLY_EQUAL:
            near.append(row)
    return near


def _runs(text: str) -> set[str]:
    return shingles(words(text)) or {text}


def _bands(runs: set[str]) -> list[tuple[int, ...]]:
    """The MinHash of `runs` in bands; near-copies have a band in common."""
    sketch = RMinHash(num_perm=_BANDS * _BAND, seed=0)
    sketch.update(list(runs))  # in any order
    digest = sketch.digest()
    return [(band, *digest[band * _BAND : (band + 1) * _BAND]) for band in range(_BANDS)]
