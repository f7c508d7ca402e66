"""Choosing the canaries of a round, before its memories are banked.

A part of the canaries is a fixed sample. The others are questions on the documents nearest to the
new ones, because an attack aims at one fact. Sources take turns in both, so that none can crowd out
the questions of the others.

A question counts for the document that it names, with the source of this document, and only if one
of its answers is in the document, so a source cannot plant false answers to questions on the
document of another one. Once another document changed the answer, the question counts for that
document.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from operator import itemgetter
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cmt.answering.answerer import Answerer
from cmt.bank.bank import Bank
from cmt.bank.change_values import ChangeReport
from cmt.bank.memory_ids import memory_id
from cmt.bank.schema import key_matrix
from cmt.common.arrow import rows_with
from cmt.common.digests import sha256_hex
from cmt.evaluation.gate.canary import Canary
from cmt.questions.gaps import made_questions
from cmt.stream.admission.authority import Authority
from cmt.stream.store import Slice, SliceStore
from cmt.text.answers import same_value, words_of
from cmt.text.display import heading

STANDING = 4  # one in STANDING canaries belongs to the fixed sample
NEIGHBOURS = 32  # earlier memories nearest to each new one whose questions are candidates
POOL = 5  # candidates whose keys are compared with the new memories, for each canary

T = TypeVar("T")


def choose(
    *,
    store: SliceStore,
    answerer: Answerer,
    slice_: Slice,
    rows: pa.Table,
    kept: Sequence[Canary],
    unseen: Sequence[str],
    refused: Callable[[], Sequence[Slice]],
    changes: Callable[[Collection[str]], Sequence[ChangeReport]],
    authority: Authority,
    limit: int,
) -> list[Canary]:
    """At most `limit` canaries for the round of `slice_`, whose memories are `rows`, before they
    are banked.

    `kept`: the canaries of the round before. `unseen`: ids of the slices that were committed since.
    `refused`: lists the refused slices, the earliest first. `changes`: the inferred changes of some
    documents. Reads the slices `unseen` and those of the memories nearest to `rows`.
    """
    documents = store.documents(slice_)
    updated = _updated(store, answerer.bank, slice_, refused)
    # 1. The fixed sample: half of it has served longest, the rest also comes from the slices
    #    committed since.
    drawn = [canary for name in unseen for canary in _canaries_of(store, answerer.bank, name)]
    pool = {canary.question_id: canary for canary in (*drawn, *kept)}
    doc_ids = {canary.doc_id for canary in pool.values()} - updated
    columns = ["memory_id", "doc_id", "superseded_at"]
    banked = answerer.bank.rows(columns, {memory_id(doc_id, 0) for doc_id in doc_ids})
    current = set(banked.filter(pc.is_null(banked["superseded_at"]))["doc_id"].to_pylist())
    size = limit // STANDING
    serving = [canary for canary in kept if canary.doc_id in current][: size // 2]
    others = [
        canary for canary in pool.values() if canary.doc_id in current and canary not in serving
    ]
    standing = [*serving, *_in_turn(sorted(others, key=_rank), lambda canary: canary.source)][:size]
    chosen = {canary.question_id: replace(canary, fixed=True) for canary in standing}
    # 2. Questions near the new documents.
    for canary in _canaries_near(
        store, answerer, documents, rows, updated, changes, authority, limit=POOL * limit
    ):
        if len(chosen) == limit:
            break
        served = pool.get(canary.question_id, canary)
        chosen.setdefault(canary.question_id, served if served.doc_id == canary.doc_id else canary)
    return list(chosen.values())


def _in_turn(items: Sequence[T], group_of: Callable[[T], Hashable]) -> list[T]:
    """`items` with the first of each group before the second of any; otherwise in their order."""
    seen: Counter[Hashable] = Counter()
    turns = []
    for item in items:
        group = group_of(item)
        turns.append(seen[group])
        seen[group] += 1
    return [item for _, item in sorted(zip(turns, items, strict=True), key=itemgetter(0))]


def _updated(
    store: SliceStore, bank: Bank, slice_: Slice, refused: Callable[[], Sequence[Slice]]
) -> set[str]:
    """Ids of the documents of `slice_` and of the documents that they update, directly or through
    refused ones.
    """
    new = store.versions(slice_)
    unbanked = [
        version._replace(banked=False) for one in refused() for version in store.versions(one)
    ]
    return {version.doc_id for version in new} | bank.replaced_by(new, unbanked=unbanked)


def _canaries_near(
    store: SliceStore,
    answerer: Answerer,
    documents: pa.Table,
    rows: pa.Table,
    updated: set[str],
    changes: Callable[[Collection[str]], Sequence[ChangeReport]],
    authority: Authority,
    *,
    limit: int,
) -> list[Canary]:
    """Questions on the documents nearest to `rows`, the likeliest to select a new document first.

    Questions that a document of another source may turn come first. Every source has its first
    question before any has its second, and every document as well. At most `limit` questions are
    encoded.
    """
    # 1. The earlier documents near each new memory, and their questions.
    keys = key_matrix(rows["key"])  # (n, p)
    of_slice, beside = _near_documents(answerer.bank, keys, updated)
    passed_on = _passed_on(store, answerer.bank, changes(beside.keys()))
    canaries = [
        canary
        for name in sorted(of_slice)
        for canary in _canaries_on(store, name, of_slice[name], passed_on)
    ]
    # 2. The new memories that share words with each question, and whether their source may change
    #    its answer.
    shares = _word_shares(canaries, beside, documents, rows)
    sources = dict(
        zip(documents["doc_id"].to_pylist(), documents["source"].to_pylist(), strict=True)
    )
    source_of_row = [sources[doc_id] or "" for doc_id in rows["doc_id"].to_pylist()]

    def is_safe(index: int) -> bool:
        return all(
            authority.may_change(source_of_row[row], canaries[index].source)
            for row in shares[index]
        )

    # 3. The `limit` questions that share most.
    best = {index: max(share.values()) for index, share in enumerate(shares) if share}
    fitting = sorted(best, key=lambda index: (is_safe(index), -best[index], index))
    fitting = _in_turn(fitting, lambda index: (is_safe(index), canaries[index].source))[:limit]
    if not fitting:
        return []
    # 4. The logit of the selection for the best of these new memories.
    question_keys = answerer.keys([canaries[index].question for index in fitting])  # (m, p)
    unit_questions, unit_keys = (
        part / np.linalg.norm(part.astype(np.float64), axis=-1, keepdims=True)
        for part in (question_keys, keys)
    )
    cosines = unit_questions @ unit_keys.T  # (m, n)
    temperature = float(answerer.model.temperature.detach())
    weight = answerer.params.selection.full_text_weight
    logits = {
        index: max(
            temperature * cosine[row] + weight * share for row, share in shares[index].items()
        )
        for index, cosine in zip(fitting, cosines, strict=True)
    }
    # 5. Documents in turn, then sources in turn.
    ranked = sorted(fitting, key=lambda index: (-logits[index], _rank(canaries[index])))
    ranked = _in_turn(ranked, lambda index: canaries[index].doc_id)
    ranked = _in_turn(ranked, lambda index: canaries[index].source)
    return [canaries[index] for index in sorted(ranked, key=is_safe)]


def _near_documents(
    bank: Bank, keys: NDArray[np.float32], updated: set[str]
) -> tuple[dict[str, set[str]], dict[str, set[int]]]:
    """The documents near `keys` (n, p), `updated` ones left out: by slice, and with the rows of
    `keys` near each.
    """
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
    """For each canary: new memory near its document → share of the question's words in the new
    document, if any.

    Rare words count more, and a new document that also has a right answer counts half.
    """
    frequency = Counter(word for canary in canaries for word in words_of(canary.question))
    weights = {word: math.log(1 + len(canaries) / number) for word, number in frequency.items()}
    words = {row["doc_id"]: _words(row) for row in documents.to_pylist()}
    doc_ids = rows["doc_id"].to_pylist()

    def share(canary: Canary, new: set[str]) -> float:
        asked = words_of(canary.question)
        part = sum(weights[word] for word in asked & new) / (
            sum(weights[word] for word in asked) or 1
        )
        return (
            part / 2 if any(words_of(reference) <= new for reference in canary.references) else part
        )

    shares = (
        {row: share(canary, words[doc_ids[row]]) for row in beside[canary.doc_id]}
        for canary in canaries
    )
    return [{row: value for row, value in by_row.items() if value} for by_row in shares]


def _canaries_of(store: SliceStore, bank: Bank, slice_id: str) -> Iterator[Canary]:
    """The questions of a slice; if it has none, questions made of its documents."""
    slice_ = store.slice(slice_id)
    documents = store.documents(slice_)
    if not slice_.n_questions:
        yield from _described(_made(documents), documents)
        return
    canaries = _with_answers(store.questions(slice_))
    yield from _described(canaries, documents)
    earlier = {canary.doc_id for canary in canaries}.difference(documents["doc_id"].to_pylist())
    rows = bank.rows(["memory_id", "slice_id"], {memory_id(doc_id, 0) for doc_id in earlier})
    for name in sorted(set(rows["slice_id"].to_pylist())):
        of_slice = rows_with(store.documents(store.slice(name)), "doc_id", earlier)
        yield from _described(canaries, of_slice)


def _canaries_on(
    store: SliceStore, slice_id: str, doc_ids: set[str], passed_on: Mapping[str, Canary]
) -> list[Canary]:
    """The questions on documents of a slice, with those `passed_on`; questions made of the
    documents that have none.
    """
    slice_ = store.slice(slice_id)
    documents = rows_with(store.documents(slice_), "doc_id", doc_ids)
    canaries = _with_answers(rows_with(store.questions(slice_), "doc_id", doc_ids))
    without = doc_ids - {canary.doc_id for canary in canaries}
    canaries = [canary for canary in canaries if canary.question_id not in passed_on]
    canaries += [canary for canary in passed_on.values() if canary.doc_id in doc_ids]
    canaries += _made(rows_with(documents, "doc_id", without))
    return list(_described(canaries, documents))


def _passed_on(store: SliceStore, bank: Bank, reports: Sequence[ChangeReport]) -> dict[str, Canary]:
    """The questions whose answer another document changed, by id: each counts for that document,
    with its value.
    """
    found = [
        report
        for report in reports
        if report.change.state == "found" and report.old_value and report.new_value
    ]
    rows = bank.rows(
        ["memory_id", "doc_id", "slice_id"],
        {memory_id(report.change.old.doc_id, 0) for report in found},
    )
    slice_of = dict(zip(rows["doc_id"].to_pylist(), rows["slice_id"].to_pylist(), strict=True))
    questions = {
        name: _with_answers(rows_with(store.questions(store.slice(name)), "doc_id", slice_of))
        for name in sorted(set(slice_of.values()))
    }
    return {
        canary.question_id: replace(
            canary, doc_id=report.change.new.doc_id, references=(report.new_value or "",)
        )
        for report in sorted(
            found, key=lambda report: report.change.holds_from
        )  # of several, the last one
        for canary in questions.get(slice_of.get(report.change.old.doc_id, ""), ())
        if canary.doc_id == report.change.old.doc_id
        if any(same_value(reference, report.old_value or "") for reference in canary.references)
    }


def _described(canaries: Sequence[Canary], documents: pa.Table) -> Iterator[Canary]:
    """The canaries whose document is one of `documents` and has a right answer, with its source and
    date.
    """
    rows = {row["doc_id"]: row for row in documents.to_pylist()}
    words = {doc_id: _words(row) for doc_id, row in rows.items()}
    for canary in canaries:
        row = rows.get(canary.doc_id)
        if row and any(
            words_of(reference) <= words[canary.doc_id] for reference in canary.references
        ):
            yield replace(canary, source=row["source"] or "", published_at=row["published_at"])


def _with_answers(questions: pa.Table) -> list[Canary]:
    return [
        Canary(row["question_id"], row["doc_id"], row["question"], tuple(row["answers"]))
        for row in questions.to_pylist()
        if row["answers"]
    ]


def _made(documents: pa.Table) -> list[Canary]:
    return [
        Canary(
            f"made-{sha256_hex(row['doc_id'], question)[:16]}", row["doc_id"], question, (answer,)
        )
        for row in documents.to_pylist()
        for question, answer in made_questions(row["text"])
    ]


def _rank(canary: Canary) -> str:
    """Place of a canary in the fixed sample, lowest first: a hash, so that it depends on no other
    question.
    """
    return sha256_hex(canary.question_id, canary.question)


def _words(document: Mapping[str, Any]) -> set[str]:
    return words_of(f"{heading(document['title'], document['source'])} {document['text']}")
