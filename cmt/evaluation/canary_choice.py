"""Choosing the canaries of a round, before its memories are banked.

A part of the canaries is a fixed sample. The others are questions on the documents nearest to the new ones, because an
attack aims at one fact.
"""

import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import zip_longest
from operator import itemgetter
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cmt.bank.schema import key_matrix, memory_id
from cmt.common.arrow import rows_with
from cmt.common.digests import sha256_hex
from cmt.evaluation.canary import Canary, words_of
from cmt.evaluation.made_questions import made_questions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cmt.answering.answerer import Answerer
    from cmt.bank.bank import Bank
    from cmt.stream.store import Slice, SliceStore

STANDING = 4
"""One in STANDING canaries belongs to the fixed sample."""
NEIGHBOURS = 8
"""Earlier memories nearest to each new one whose questions are candidates."""
POOL = 5
"""Candidates whose keys are compared with the new memories, for each canary."""


def choose(
    *,
    store: "SliceStore",
    answerer: "Answerer",
    slice_: "Slice",
    rows: pa.Table,
    kept: Sequence[Canary],
    unseen: Sequence[str],
    refused: Callable[[], Sequence["Slice"]],
    limit: int,
) -> list[Canary]:
    """At most `limit` canaries for the round of `slice_`, whose memories are `rows`, before they are banked.

    `kept`: the canaries of the round before. `unseen`: ids of the slices that were committed since. `refused`: lists
    the refused slices, the earliest first. Reads the slices `unseen` and those of the memories nearest to `rows`, and
    refused ones only if a document of `slice_` supersedes one that is not banked.
    """
    documents = store.documents(slice_)
    updated = _updated(store, answerer.bank, documents, refused)
    # 1. The fixed sample: of the canaries of the round before and the questions of the slices committed since.
    drawn = heapq.nsmallest(limit, (canary for name in unseen for canary in _canaries_of(store, name)), key=_rank)
    pool = {canary.question_id: canary for canary in (*drawn, *kept)}
    banked = _banked(answerer.bank, {canary.doc_id for canary in pool.values()} - updated)
    current = set(banked.filter(pc.is_null(banked["superseded_at"]))["doc_id"].to_pylist())
    candidates = [canary for canary in pool.values() if canary.doc_id in current]
    standing = heapq.nsmallest(limit // STANDING, candidates, key=_rank)
    chosen = {canary.question_id: canary for canary in standing}
    # 2. Questions near the new documents.
    for canary in _canaries_near(store, answerer, documents, rows, updated, limit=POOL * limit):
        if len(chosen) == limit:
            break
        chosen.setdefault(canary.question_id, pool.get(canary.question_id, canary))
    return list(chosen.values())


def _updated(
    store: "SliceStore", bank: "Bank", documents: pa.Table, refused: Callable[[], Sequence["Slice"]]
) -> set[str]:
    """Ids of `documents` and of the documents that they update.

    These are the superseded ones, and where a superseded one was refused, hence is not banked, the one before it.
    """
    superseded = set(documents["supersedes"].to_pylist()) - {None}
    updated = {*documents["doc_id"].to_pylist(), *superseded}
    missing = superseded.difference(_banked(bank, superseded)["doc_id"].to_pylist()) if superseded else superseded
    for slice_ in reversed(refused()) if missing else ():
        for row in reversed(store.documents(slice_).select(["doc_id", "supersedes"]).to_pylist()):
            if row["doc_id"] in missing and row["supersedes"]:
                missing.add(row["supersedes"])
    return updated | missing


def _banked(bank: "Bank", doc_ids: set[str]) -> pa.Table:
    """A row for each of `doc_ids` that the bank has: `doc_id` and `superseded_at`."""
    return bank.rows(["memory_id", "doc_id", "superseded_at"], {memory_id(doc_id, 0) for doc_id in doc_ids})


def _canaries_near(
    store: "SliceStore", answerer: "Answerer", documents: pa.Table, rows: pa.Table, updated: set[str], *, limit: int
) -> Iterator[Canary]:
    """Questions on the documents nearest to `rows`, the likeliest to select a new document first.

    Every document has its first question before any has its second. At most `limit` questions are encoded.
    """
    # 1. The earlier documents near each new memory, and their questions.
    keys = key_matrix(rows["key"])  # (n, p)
    of_slice, beside = _near_documents(answerer.bank, keys, updated)
    canaries = [canary for name in sorted(of_slice) for canary in _canaries_on(store, name, of_slice[name])]
    # 2. The `limit` questions that share most with a new memory near their document.
    shares = _word_shares(canaries, beside, documents, rows)
    best_shares = ((max(share.values()), index) for index, share in enumerate(shares) if any(share.values()))
    fitting = [index for _, index in heapq.nlargest(limit, best_shares)]
    if not fitting:
        return
    # 3. The logit of the selection for the best of these new memories.
    question_keys = answerer.keys([canaries[index].question for index in fitting])  # (m, p)
    unit_questions, unit_keys = (
        part / np.linalg.norm(part.astype(np.float64), axis=-1, keepdims=True) for part in (question_keys, keys)
    )
    cosines = unit_questions @ unit_keys.T  # (m, n)
    temperature, weight = float(answerer.model.temperature.detach()), answerer.params.selection.full_text_weight
    by_document: dict[str, list[tuple[float, str, Canary]]] = defaultdict(list)
    for index, cosine in zip(fitting, cosines, strict=True):
        canary = canaries[index]
        logit = max(temperature * cosine[row] + weight * share for row, share in shares[index].items())
        by_document[canary.doc_id].append((-logit, _rank(canary), canary))
    # 4. The documents in turn.
    order = itemgetter(0, 1)
    for turn in zip_longest(*(sorted(entries, key=order) for entries in by_document.values())):
        yield from (canary for *_, canary in sorted(filter(None, turn), key=order))


def _near_documents(
    bank: "Bank", keys: "NDArray[np.float32]", updated: set[str]
) -> tuple[dict[str, set[str]], dict[str, set[int]]]:
    """The documents near `keys` (n, p), `updated` ones left out: by slice, and with the rows of `keys` near each."""
    nearest = bank.nearest(keys, k=NEIGHBOURS)  # memory_id → rows of `keys`
    of_slice: dict[str, set[str]] = defaultdict(set)
    beside: dict[str, set[int]] = defaultdict(set)
    for memory in bank.rows(["memory_id", "doc_id", "slice_id"], set(nearest)).to_pylist():
        if memory["doc_id"] not in updated:
            of_slice[memory["slice_id"]].add(memory["doc_id"])
            beside[memory["doc_id"]] |= nearest[memory["memory_id"]]
    return of_slice, beside


def _word_shares(
    canaries: Sequence[Canary], beside: Mapping[str, set[int]], documents: pa.Table, rows: pa.Table
) -> list[dict[int, float]]:
    """For each canary: new memory near its document → share of the question's words in the new document.

    Rare words count more. The share is 0 if the new document has a right answer, which harms nothing.
    """
    frequency = Counter(word for canary in canaries for word in words_of(canary.question))
    weights = {word: math.log(1 + len(canaries) / number) for word, number in frequency.items()}
    words = {row["doc_id"]: words_of(f"{row['title'] or ''} {row['text']}") for row in documents.to_pylist()}
    doc_ids = rows["doc_id"].to_pylist()

    def share(canary: Canary, new: set[str]) -> float:
        if any(words_of(reference) <= new for reference in canary.references):
            return 0.0
        asked = words_of(canary.question)
        return sum(weights[word] for word in asked & new) / sum(weights[word] for word in asked)

    return [{row: share(canary, words[doc_ids[row]]) for row in beside[canary.doc_id]} for canary in canaries]


def _canaries_of(store: "SliceStore", slice_id: str) -> Iterator[Canary]:
    """The questions of a slice; if it has none, questions made of its documents."""
    slice_ = store.slice(slice_id)
    if slice_.n_questions:
        yield from _with_answers(store.questions(slice_))
    else:
        yield from _made(store.documents(slice_))


def _canaries_on(store: "SliceStore", slice_id: str, doc_ids: set[str]) -> list[Canary]:
    """The questions on documents of a slice; questions made of the documents that have none."""
    slice_ = store.slice(slice_id)
    canaries = list(_with_answers(rows_with(store.questions(slice_), "doc_id", doc_ids)))
    without = doc_ids - {canary.doc_id for canary in canaries}
    return canaries + list(_made(rows_with(store.documents(slice_), "doc_id", without)))


def _with_answers(questions: pa.Table) -> Iterator[Canary]:
    for row in questions.to_pylist():
        if row["answers"]:
            yield Canary(row["question_id"], row["doc_id"], row["question"], tuple(row["answers"]))


def _made(documents: pa.Table) -> Iterator[Canary]:
    for document in documents.to_pylist():
        for question, answer in made_questions(document["text"]):
            name = f"made-{sha256_hex(document['doc_id'], question)[:16]}"
            yield Canary(name, document["doc_id"], question, (answer,))


def _rank(canary: Canary) -> str:
    """Place of a canary in the fixed sample, lowest first: a hash, so that it depends on no other question."""
    return sha256_hex(canary.question_id, canary.question)
