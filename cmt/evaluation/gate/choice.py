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
from dataclasses import dataclass, replace
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
from cmt.stream.slices import Slice
from cmt.stream.store import SliceStore
from cmt.text.answers import same_value, words_of
from cmt.text.display import heading

STANDING = 4  # one in STANDING canaries belongs to the fixed sample
NEIGHBOURS = 32  # earlier memories nearest to each new one whose questions are candidates
POOL = 5  # candidates whose keys are compared with the new memories, for each canary

T = TypeVar("T")


@dataclass(frozen=True)
class Context:
    """The stream, the bank and the rounds that canaries are chosen from."""

    store: SliceStore
    answerer: Answerer
    authority: Authority
    refused: Callable[[], Sequence[Slice]]
    """Lists the slices that a round refused in whole or in part, the earliest first."""
    changes: Callable[[Collection[str]], Sequence[ChangeReport]]
    """The inferred changes of some documents."""


def choose(
    context: Context,
    slice_: Slice,
    rows: pa.Table,
    *,
    kept: Sequence[Canary],
    unseen: Sequence[str],
    limit: int,
) -> list[Canary]:
    """At most `limit` canaries for the round of `slice_`, whose memories are `rows`, before they
    are banked.

    `kept`: the canaries of the round before. `unseen`: ids of the slices that were committed since.
    Reads the slices `unseen` and those of the memories nearest to `rows`.
    """
    store, bank = context.store, context.answerer.bank
    updated = _updated(context, slice_)
    # 1. The fixed sample, of the canaries that served before and the questions asked since.
    drawn = [canary for name in unseen for canary in _canaries_of(store, bank, name)]
    pool = {canary.question_id: canary for canary in (*drawn, *kept)}
    standing = _fixed_sample(bank, pool, kept, updated, size=limit // STANDING)
    chosen = {canary.question_id: replace(canary, fixed=True) for canary in standing}
    # 2. Questions near the new documents.
    documents = store.documents(slice_)
    for canary in _canaries_near(context, documents, rows, updated, limit=POOL * limit):
        if len(chosen) == limit:
            break
        served = pool.get(canary.question_id, canary)
        chosen.setdefault(canary.question_id, served if served.doc_id == canary.doc_id else canary)
    return list(chosen.values())


def _fixed_sample(
    bank: Bank,
    pool: Mapping[str, Canary],
    kept: Sequence[Canary],
    updated: set[str],
    *,
    size: int,
) -> list[Canary]:
    """`size` canaries of `pool`: half of them have served longest, the sources of the others take
    turns.
    """
    # 1. The canaries whose documents are current and not updated.
    doc_ids = {canary.doc_id for canary in pool.values()} - updated
    columns = ["memory_id", "doc_id", "superseded_at"]
    banked = bank.rows(columns, {memory_id(doc_id, 0) for doc_id in doc_ids})
    current = set(banked.filter(pc.is_null(banked["superseded_at"]))["doc_id"].to_pylist())
    # 2. Those that have served longest, then the others.
    serving = [canary for canary in kept if canary.doc_id in current][: size // 2]
    others = [canary for canary in pool.values() if canary.doc_id in current]
    others = sorted((canary for canary in others if canary not in serving), key=_rank)
    return [*serving, *_in_turn(others, lambda canary: canary.source)][:size]


def _in_turn(items: Sequence[T], group_of: Callable[[T], Hashable]) -> list[T]:
    """`items` with the first of each group before the second of any; otherwise in their order."""
    seen: Counter[Hashable] = Counter()
    turns = []
    for item in items:
        group = group_of(item)
        turns.append(seen[group])
        seen[group] += 1
    return [item for _, item in sorted(zip(turns, items, strict=True), key=itemgetter(0))]


def _updated(context: Context, slice_: Slice) -> set[str]:
    """Ids of the documents of `slice_` and of the documents that they update, directly or through
    refused ones.
    """
    new = context.store.versions(slice_)
    unbanked = [
        version._replace(banked=False)
        for refused in context.refused()
        for version in context.store.versions(refused)
    ]
    replaced = context.answerer.bank.replaced_by(new, unbanked=unbanked)
    return {version.doc_id for version in new} | replaced


def _canaries_near(
    context: Context, documents: pa.Table, rows: pa.Table, updated: set[str], *, limit: int
) -> list[Canary]:
    """Questions on the documents nearest to `rows`, the likeliest to select a new document first.

    Questions that a document of another source may flip come first. Every source has its first
    question before any has its second, and every document as well. At most `limit` questions are
    encoded.
    """
    store, answerer = context.store, context.answerer
    # 1. The earlier documents near each new memory, and their questions.
    keys = key_matrix(rows["key"])  # (n, p)
    of_slice, near = _near_documents(answerer.bank, keys, updated)
    passed_on = _passed_on(store, answerer.bank, context.changes(near.keys()))
    canaries = []
    for name in sorted(of_slice):
        canaries += _canaries_on(store, name, of_slice[name], passed_on)
    # 2. The new memories that share words with each question, and whether their source may change
    #    its answer.
    shares = _word_shares(canaries, near, documents, rows)
    names = zip(documents["doc_id"].to_pylist(), documents["source"].to_pylist(), strict=True)
    sources = dict(names)
    source_of_row = [sources[doc_id] or "" for doc_id in rows["doc_id"].to_pylist()]

    def is_safe(index: int) -> bool:
        owner = canaries[index].source
        return all(context.authority.may_change(source_of_row[row], owner) for row in shares[index])

    # 3. The `limit` questions that share most.
    best = {index: max(share.values()) for index, share in enumerate(shares) if share}
    fitting = sorted(best, key=lambda index: (is_safe(index), -best[index], index))
    fitting = _in_turn(fitting, lambda index: (is_safe(index), canaries[index].source))[:limit]
    if not fitting:
        return []
    # 4. The logit of the selection for the best of these new memories.
    questions = [canaries[index].question for index in fitting]
    best_logits = _logits(answerer, questions, keys, [shares[index] for index in fitting])
    logits = dict(zip(fitting, best_logits, strict=True))
    # 5. Documents in turn, then sources in turn.
    ranked = sorted(fitting, key=lambda index: (-logits[index], _rank(canaries[index])))
    ranked = _in_turn(ranked, lambda index: canaries[index].doc_id)
    ranked = _in_turn(ranked, lambda index: canaries[index].source)
    return [canaries[index] for index in sorted(ranked, key=is_safe)]


def _logits(
    answerer: Answerer,
    questions: Sequence[str],
    keys: NDArray[np.float32],
    shares: Sequence[Mapping[int, float]],
) -> list[float]:
    """The highest logit that the selection gives to one of the memories `keys` (n, p), for each
    question.

    `shares`: for each question, the rows of `keys` that count, and the shares of its words in them.
    """
    unit_questions, unit_keys = (
        part / np.linalg.norm(part.astype(np.float64), axis=-1, keepdims=True)
        for part in (answerer.keys(questions), keys)
    )
    cosines = unit_questions @ unit_keys.T  # (m, n)
    temperature = float(answerer.model.temperature.detach())
    weight = answerer.params.selection.full_text_weight
    logits = []
    for cosine, of_row in zip(cosines, shares, strict=True):
        logits.append(
            max(temperature * cosine[row] + weight * share for row, share in of_row.items())
        )
    return logits


def _near_documents(
    bank: Bank, keys: NDArray[np.float32], updated: set[str]
) -> tuple[dict[str, set[str]], dict[str, set[int]]]:
    """The documents near `keys` (n, p), `updated` ones left out: by slice, and with the rows of
    `keys` near each.
    """
    nearest = bank.nearest(keys, k=NEIGHBOURS)  # memory_id → rows of `keys`
    of_slice: dict[str, set[str]] = defaultdict(set)
    near: dict[str, set[int]] = defaultdict(set)
    for memory in bank.rows(["memory_id", "doc_id", "slice_id"], set(nearest)).to_pylist():
        if memory["doc_id"] not in updated:
            of_slice[memory["slice_id"]].add(memory["doc_id"])
            near[memory["doc_id"]] |= nearest[memory["memory_id"]]
    return of_slice, near


def _word_shares(
    canaries: Sequence[Canary], near: Mapping[str, set[int]], documents: pa.Table, rows: pa.Table
) -> list[dict[int, float]]:
    """For each canary: new memory near its document → share of the question's words in the new
    document, if any.

    Rare words count more, and a new document that also has a right answer counts half.
    """
    frequency = Counter(word for canary in canaries for word in words_of(canary.question))
    weights = {word: math.log(1 + len(canaries) / number) for word, number in frequency.items()}
    words = {row["doc_id"]: _words(row) for row in documents.to_pylist()}
    doc_ids = rows["doc_id"].to_pylist()

    shares = []
    for canary in canaries:
        question = words_of(canary.question)
        whole = sum(weights[word] for word in question) or 1
        references = [words_of(reference) for reference in canary.references]
        share_of = dict[int, float]()
        for row in near[canary.doc_id]:
            new = words[doc_ids[row]]
            share = sum(weights[word] for word in question & new) / whole
            if any(reference <= new for reference in references):
                share /= 2
            if share:
                share_of[row] = share
        shares.append(share_of)
    return shares


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
    # 1. The found changes, with the questions on the slices of their earlier documents.
    with_values = []
    for report in reports:
        if report.change.state == "found" and report.old_value and report.new_value:
            with_values.append(report)
    names = {memory_id(report.change.old.doc_id, 0) for report in with_values}
    rows = bank.rows(["memory_id", "doc_id", "slice_id"], names)
    slice_of = dict(zip(rows["doc_id"].to_pylist(), rows["slice_id"].to_pylist(), strict=True))
    questions = defaultdict[str, list[Canary]](list)
    for name in sorted(set(slice_of.values())):
        of_slice = rows_with(store.questions(store.slice(name)), "doc_id", slice_of)
        for canary in _with_answers(of_slice):
            if slice_of[canary.doc_id] == name:
                questions[canary.doc_id].append(canary)
    # 2. A question that the old value answers passes to the later document; the last change counts.
    passed_on = dict[str, Canary]()
    for report in sorted(with_values, key=lambda report: report.change.holds_from):
        old, new = report.change.old.doc_id, report.change.new.doc_id
        for canary in questions[old]:
            if any(same_value(right, report.old_value or "") for right in canary.references):
                later = replace(canary, doc_id=new, references=(report.new_value or "",))
                passed_on[canary.question_id] = later
    return passed_on


def _described(canaries: Sequence[Canary], documents: pa.Table) -> Iterator[Canary]:
    """The canaries whose document is one of `documents` and has a right answer, with its source and
    date.
    """
    rows = {row["doc_id"]: row for row in documents.to_pylist()}
    words = {doc_id: _words(row) for doc_id, row in rows.items()}
    for canary in canaries:
        if row := rows.get(canary.doc_id):
            text = words[canary.doc_id]
            if any(words_of(reference) <= text for reference in canary.references):
                yield replace(canary, source=row["source"] or "", published_at=row["published_at"])


def _with_answers(questions: pa.Table) -> list[Canary]:
    return [
        Canary(row["question_id"], row["doc_id"], row["question"], tuple(row["answers"]))
        for row in questions.to_pylist()
        if row["answers"]
    ]


def _made(documents: pa.Table) -> list[Canary]:
    canaries = []
    for row in documents.to_pylist():
        for question, answer in made_questions(row["text"]):
            question_id = f"made-{sha256_hex(row['doc_id'], question)[:16]}"
            canaries.append(Canary(question_id, row["doc_id"], question, (answer,)))
    return canaries


def _rank(canary: Canary) -> str:
    """Place of a canary in the fixed sample, lowest first: a hash, so that it depends on no other
    question.
    """
    return sha256_hex(canary.question_id, canary.question)


def _words(document: Mapping[str, Any]) -> set[str]:
    return words_of(f"{heading(document['title'], document['source'])} {document['text']}")
