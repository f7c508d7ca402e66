"""Floods of near-copies: more documents of one slice that say nearly the same than `stream.max_near_duplicates`.

Two texts are near-copies if at least 0.8 of their runs of five words are common (Jaccard): one word changed in fifty,
or any change of case or punctuation. Short reports on different things share few such runs. MinHash finds the
candidates (Broder 1997; 16 bands of 8 miss 5 % of the pairs at 0.8 and 0.01 % at 0.9), and their texts decide, so
nothing is taken for a near-copy by chance.
"""

from collections import defaultdict
from collections.abc import Hashable, Sequence

import pyarrow as pa

from cmt.stream.shingles import NEARLY_EQUAL, shingles, words

_BANDS, _BAND = 16, 8
_BUCKET = 16  # documents that are compared for one band: the cost of a document does not depend on their number
_SEED = 0


def crowded(documents: pa.Table, *, groups: Sequence[Hashable], most: int) -> dict[int, int]:
    """The rows of `documents` beyond the first `most` near-copies in a group, each with the row that it is nearest to.

    `groups`: the slice of each row. Rows count by date, then in their order. A document that supersedes one of its
    near-copies takes its place. Equal texts are not counted, they are duplicates. 0 for `most`: any number.
    """
    if not most:
        return {}
    members: defaultdict[Hashable, list[int]] = defaultdict(list)
    dates = documents["published_at"].to_pylist()
    for row in sorted(range(documents.num_rows), key=dates.__getitem__):
        members[groups[row]].append(row)
    columns = [documents[name].to_pylist() for name in ("doc_id", "supersedes", "text", "sha256")]
    found: dict[int, int] = {}
    for rows in members.values():
        found |= _crowded_rows(rows, *columns, most=most)
    return found


def _crowded_rows(
    rows: Sequence[int],
    doc_ids: Sequence[str],
    supersedes: Sequence[str | None],
    texts: Sequence[str],
    hashes: Sequence[str],
    *,
    most: int,
) -> dict[int, int]:
    found: dict[int, int] = {}
    buckets: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
    current: dict[str, int] = {}  # doc_id → row, of what is taken and not superseded
    seen: set[str] = set()
    for row in rows:
        if hashes[row] in seen:
            continue
        seen.add(hashes[row])
        # 1. candidates by MinHash
        runs = _runs(texts[row])
        bands = _bands(runs)
        for band in bands:
            buckets[band] = [other for other in buckets[band] if current.get(doc_ids[other]) == other]
        candidates = sorted({other for band in bands for other in buckets[band]})
        # 2. those that are near-copies and are not replaced by this row
        replaced = {doc_ids[row], supersedes[row]}
        others = [other for other in candidates if doc_ids[other] not in replaced]
        near = [other for other in others if _share(runs, _runs(texts[other])) >= NEARLY_EQUAL]
        if len(near) >= most:
            found[row] = near[0]
            continue
        # 3. take it
        current.pop(supersedes[row] or "", None)
        current[doc_ids[row]] = row
        for band in bands:
            if len(buckets[band]) < _BUCKET:
                buckets[band].append(row)
    return found


def _runs(text: str) -> set[str]:
    """The shingles of `text`; the text itself if it has no words."""
    return shingles(words(text)) or {text}


def _bands(runs: set[str]) -> list[tuple[int, ...]]:
    """The MinHash of `runs` in bands; near-copies have a band in common."""
    from rensa import RMinHash

    sketch = RMinHash(num_perm=_BANDS * _BAND, seed=_SEED)
    sketch.update(sorted(runs))
    digest = sketch.digest()
    return [(band, *digest[band * _BAND : (band + 1) * _BAND]) for band in range(_BANDS)]


def _share(runs: set[str], others: set[str]) -> float:
    """Jaccard similarity."""
    return len(runs & others) / len(runs | others)
