"""Canaries: questions of earlier slices, asked as of now after every round, that show whether the slice does harm.

A canary is a question that was answered right. Its answer may change for the worse only through an update of its
document: one that supersedes it, if need be by way of a refused one, or its own next version. With such an update, or
when its document is forgotten, the canary leaves. A part of the canaries is a standing sample; the others are those
that the new documents speak to, because an attack aims at one fact. One that turns wrong is asked once more without the
documents of the slice: right then, it is the slice that turned it.
"""

import heapq
import json
import logging
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cmt.bank.schema import key_matrix, memory_id
from cmt.common.arrow import rows_with
from cmt.common.digests import sha256_hex
from cmt.common.progress import OnProgress
from cmt.common.storage import write_table
from cmt.evaluation.made_questions import made_questions, question_on
from cmt.evaluation.metrics import f1, normalise_answer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cmt.answering.answer import Answer
    from cmt.answering.answerer import Answerer
    from cmt.bank.bank import Bank
    from cmt.stream.store import Slice, SliceStore

log = logging.getLogger(__name__)

RIGHT = 0.5
"""F1 (0–1) from which an answer is right, if it does not contradict the right ones."""
STANDING = 4
"""One of so many canaries is of the standing sample."""
NEIGHBOURS = 8
"""Earlier memories nearest to each new one whose questions are candidates."""
POOL = 5
"""Candidates whose keys are compared with the new memories, for each canary."""
MARGIN = 0.05
"""Confidence (0–1, uncalibrated) that a document may have less than another one in the same question and still be as
sure; chosen on pairs of statements about the same attribute and about others (docs/reliability.md)."""
SURE = 0.55
"""Confidence (0–1, uncalibrated) from which a document, read alone, is taken to answer a question."""
_OUTCOME = pa.struct([("answer", pa.string()), ("f1", pa.float64()), ("right", pa.bool_()), ("doc_id", pa.string())])
CANARY_SCHEMA = pa.schema(
    [
        pa.field("question_id", pa.string(), nullable=False),
        pa.field("doc_id", pa.string(), nullable=False),
        pa.field("question", pa.string(), nullable=False),
        pa.field("golds", pa.list_(pa.string()), nullable=False),  # the right answers
        pa.field("best", _OUTCOME),  # the outcome with the highest F1 (0–1), of this round or an earlier one
        pa.field("now", _OUTCOME),  # in the bank after the round; null until it is asked
        pa.field("without", _OUTCOME),  # without the documents of the slice, if it turned wrong through one of them
        pa.field("harmed_by", pa.string()),  # the document of the slice that turned the answer wrong
    ]
)
"""One row a canary."""
_DIGEST = b"digest"  # in the metadata of the file's schema


@dataclass(frozen=True)
class Outcome:
    """What a canary was answered."""

    answer: str
    """Empty for "not in memory"."""
    f1: float
    """0–1, against the right answers."""
    right: bool
    doc_id: str | None
    """The document that the answer is quoted from, else the first source; None without sources."""


@dataclass(frozen=True)
class Canary:
    """A question, its document, and its outcomes."""

    question_id: str
    doc_id: str
    question: str
    golds: tuple[str, ...]
    best: Outcome | None = None
    now: Outcome | None = None
    without: Outcome | None = None
    harmed_by: str | None = None
    """The document of the slice that turned the answer wrong."""

    @property
    def source(self) -> str:
        """The document that it is answered from now, "" if there is none."""
        return (self.now.doc_id if self.now else None) or ""

    @property
    def doc_ids(self) -> set[str]:
        """Its document, and those that it was answered from."""
        outcomes = [outcome for outcome in (self.best, self.now, self.without) if outcome]
        return {self.doc_id, *(outcome.doc_id for outcome in outcomes if outcome.doc_id)}

    @property
    def turned(self) -> bool:
        """Whether it is right without the documents of the slice, and with them answered otherwise or not at all."""
        if not (self.now and self.without and self.without.right) or self.now.right:
            return False
        return not self.now.answer or contradicts(self.now.answer, self.golds)


def contradicts(answer: str, golds: Iterable[str]) -> bool:
    """Whether `answer` says something else than each of `golds`: neither has all words of the other.

    "956 crowns" contradicts "767 crowns", with an F1 of 0.5; "767 crowns a month" and "" do not.
    """
    words = _words(answer)
    return all(words - gold and gold - words for gold in map(_words, golds))


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
    """At most `limit` candidates for the round of `slice_`, whose memories are `rows`, before they are banked.

    `kept`: the canaries of the round before. `unseen`: ids of the earlier slices that came since. `refused`: lists
    the refused slices, the earliest first. Reads the slices that came since and those of the memories nearest to
    `rows`, and refused ones only if a document of `slice_` supersedes one that is not banked.
    """
    documents = store.documents(slice_)
    updated = _updated(store, answerer.bank, documents, refused)
    # 1. The standing part: of the canaries of the round before and the questions of slices that came since.
    drawn = heapq.nsmallest(limit, (canary for name in unseen for canary in _canaries_of(store, name)), key=_rank)
    pool = {canary.question_id: canary for canary in (*drawn, *kept)}
    current = _current_documents(answerer.bank, {canary.doc_id for canary in pool.values()} - updated)
    candidates = [canary for canary in pool.values() if canary.doc_id in current]
    standing = heapq.nsmallest(limit // STANDING, candidates, key=_rank)
    chosen = {canary.question_id: canary for canary in standing}
    # 2. What the new documents speak to.
    for canary in _spoken_to(store, answerer, documents, rows, updated, limit=POOL * limit):
        if len(chosen) == limit:
            break
        chosen.setdefault(canary.question_id, pool.get(canary.question_id, canary))
    return list(chosen.values())


def _updated(
    store: "SliceStore", bank: "Bank", documents: pa.Table, refused: Callable[[], Sequence["Slice"]]
) -> set[str]:
    """Ids of `documents` and of those that they update.

    These are what they supersede, also by way of a document of a refused slice: that one is not banked, and what it
    would have superseded is.
    """
    superseded = set(documents["supersedes"].to_pylist()) - {None}
    updated = {*documents["doc_id"].to_pylist(), *superseded}
    missing = superseded.difference(_banked(bank, superseded)["doc_id"].to_pylist()) if superseded else superseded
    for slice_ in reversed(refused()) if missing else ():
        for row in reversed(store.documents(slice_).select(["doc_id", "supersedes"]).to_pylist()):
            if row["doc_id"] in missing and row["supersedes"]:
                missing.add(row["supersedes"])
    return updated | missing


def ask(
    answerer: "Answerer",
    canaries: Sequence[Canary],
    rows: pa.Table,
    texts: Mapping[str, str],
    *,
    on_progress: OnProgress | None = None,
) -> list[Canary]:
    """Ask `canaries` as of now, after the memories `rows` of the slice were banked, and say which of them are harmed.

    `texts`: the documents of the slice by doc_id. A canary is harmed by the document that its changed answer comes from
    if that document and its own speak of the same fact (`contradicted`). Otherwise the document is not false, the
    reader was mistaken. A question that was never answered right can tell nothing, and leaves.
    """
    asked = _asked(answerer, canaries, set(rows["doc_id"].to_pylist()), on_progress)
    harmed = contradicted(answerer, [canary for canary in asked if canary.turned], rows, texts)
    return [
        replace(canary, harmed_by=canary.source) if canary.question_id in harmed else canary
        for canary in asked
        if canary.best and canary.best.right
    ]


def contradicted(answerer: "Answerer", turned: Sequence[Canary], rows: pa.Table, texts: Mapping[str, str]) -> set[str]:
    """question_ids of the canaries whose new document, of `rows`, states another value of the fact of their own one.

    The two speak of the same fact if each, read alone, answers what the other states, and the new one the canary as
    surely as the canary's own does, less MARGIN.
    """
    # 1. The new document answers the question, with something else, and as surely as the canary's own.
    own = [_memories(answerer.bank, canary.doc_id) for canary in turned]
    new = [rows.filter(pc.equal(rows["doc_id"], canary.source)).to_pylist() for canary in turned]
    questions = [canary.question for canary in turned]
    pairs = [
        _Pair(canary, before, after, answer.text)
        for canary, before, after, known, answer in zip(
            turned, own, new, answerer.answer_from(questions, own), answerer.answer_from(questions, new), strict=True
        )
        if answer.known and answer.uncalibrated >= max(SURE, known.uncalibrated - MARGIN)
        if contradicts(answer.text, canary.golds)
    ]
    # 2. The canary's document answers what the new one states, with a right answer.
    stated = [question_on(texts[pair.canary.source], pair.answer) for pair in pairs]
    pairs = _agreeing(answerer, pairs, stated, [pair.own for pair in pairs], [pair.canary.golds for pair in pairs])
    # 3. The new one answers what the canary's document states, with its answer.
    stated = [_stated(pair) for pair in pairs]
    pairs = _agreeing(answerer, pairs, stated, [pair.new for pair in pairs], [(pair.answer,) for pair in pairs])
    return {pair.canary.question_id for pair in pairs}


class _Pair(NamedTuple):
    """A canary that a new document answers otherwise."""

    canary: Canary
    own: list[dict[str, Any]]
    """Memories of its document."""
    new: list[dict[str, Any]]
    """Memories of the new document."""
    answer: str
    """Of the new document, read alone."""


def _agreeing(
    answerer: "Answerer",
    pairs: Sequence[_Pair],
    questions: Sequence[str | None],
    memories: Sequence[list[dict[str, Any]]],
    golds: Sequence[tuple[str, ...]],
) -> list[_Pair]:
    """Those of `pairs` whose question their memories answer, surely, with one of their golds, or that have none."""
    answers = answerer.answer_from([question or "" for question in questions], memories)
    return [
        pair
        for pair, question, answer, right in zip(pairs, questions, answers, golds, strict=True)
        if question is None or (answer.known and answer.uncalibrated >= SURE and not contradicts(answer.text, right))
    ]


def _stated(pair: _Pair) -> str | None:
    """The question that the canary's document answers with the canary's answer; None if it kept no such text."""
    text = "\n".join(memory["text"] or "" for memory in pair.own)
    found = (question_on(text, gold) for gold in pair.canary.golds)
    return next(filter(None, found), None)


def write_canaries(path: Path, canaries: Sequence[Canary]) -> None:
    """Write `canaries` to `path` with their digest, atomically. Raises OSError."""
    table = pa.Table.from_pylist([asdict(canary) for canary in canaries], schema=CANARY_SCHEMA)
    write_table(path, table.replace_schema_metadata({_DIGEST: _digest(table)}))


def read_canaries(path: Path) -> list[Canary] | None:
    """The canaries in `path`; None if there is no such file, or, with a warning, if it is damaged."""
    if not path.exists():
        return None
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read()
        if (table.schema.metadata or {}).get(_DIGEST) == _digest(table):
            return [_canary(row) for row in table.to_pylist()]
        reason = "it does not match its digest"
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
    log.warning("%s is damaged (%s): its canaries are chosen and asked again", path, reason)
    return None


def _rank(canary: Canary) -> str:
    """Place of a canary in the standing part, lowest first: a hash, so that it depends on no other question."""
    return sha256_hex(canary.question_id, canary.question)


def _canaries_of(store: "SliceStore", slice_id: str) -> Iterator[Canary]:
    """The questions of a slice, or, if it has none, those that are made of its documents."""
    slice_ = store.slice(slice_id)
    if slice_.n_questions:
        yield from _with_answers(store.questions(slice_))
    else:
        yield from _made(store.documents(slice_))


def _canaries_on(store: "SliceStore", slice_id: str, doc_ids: set[str]) -> list[Canary]:
    """The questions on documents of a slice; for those without any, made ones."""
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
        for made in made_questions(document["text"]):
            name = f"made-{sha256_hex(document['doc_id'], made.question)[:16]}"
            yield Canary(name, document["doc_id"], made.question, (made.answer,))


def _current_documents(bank: "Bank", doc_ids: set[str]) -> set[str]:
    """Those of `doc_ids` that the bank has and that no document supersedes."""
    rows = _banked(bank, doc_ids)
    return set(rows.filter(pc.is_null(rows["superseded_at"]))["doc_id"].to_pylist())


def _banked(bank: "Bank", doc_ids: set[str]) -> pa.Table:
    """A row for each of `doc_ids` that the bank has: `doc_id` and `superseded_at`."""
    return bank.rows(["memory_id", "doc_id", "superseded_at"], {memory_id(doc_id, 0) for doc_id in doc_ids})


def _spoken_to(
    store: "SliceStore", answerer: "Answerer", documents: pa.Table, rows: pa.Table, updated: set[str], *, limit: int
) -> Iterator[Canary]:
    """Questions on the documents nearest to `rows`, those first that a new document is likeliest to be selected for.

    Every document has its first question before any has its second. At most `limit` questions are encoded.
    """
    # 1. The earlier documents near each new memory.
    keys = key_matrix(rows["key"])  # (n, p)
    places = answerer.bank.nearest(keys, k=NEIGHBOURS)
    near = answerer.bank.rows(["memory_id", "doc_id", "slice_id"], set(places))
    beside: dict[str, set[int]] = defaultdict(set)  # earlier document → places of new memories
    of_slice: dict[str, set[str]] = defaultdict(set)  # slice → earlier documents
    for row in near.to_pylist():
        if row["doc_id"] not in updated:
            beside[row["doc_id"]] |= places[row["memory_id"]]
            of_slice[row["slice_id"]].add(row["doc_id"])
    # 2. Their questions, and the share of the words of each in the new documents; rare words count more.
    canaries = [canary for name in sorted(of_slice) for canary in _canaries_on(store, name, of_slice[name])]
    frequency = Counter(word for canary in canaries for word in _words(canary.question))
    weights = {word: math.log(1 + len(canaries) / number) for word, number in frequency.items()}
    words = {row["doc_id"]: _words(f"{row['title'] or ''} {row['text']}") for row in documents.to_pylist()}
    words_of = [words[doc_id] for doc_id in rows["doc_id"].to_pylist()]
    shares = [
        {place: _share(canary, words_of[place], weights) for place in beside[canary.doc_id]} for canary in canaries
    ]
    fitting = heapq.nlargest(limit, ((max(share.values()), n) for n, share in enumerate(shares) if any(share.values())))
    if not fitting:
        return
    # 3. The logit of the selection for the best of the new memories.
    question_keys = answerer.keys([canaries[n].question for _, n in fitting])  # (m, p)
    cosines = _unit(question_keys) @ _unit(keys).T  # (m, n)
    temperature, weight = float(answerer.model.temperature.detach()), answerer.params.selection.full_text_weight
    by_document: dict[str, list[tuple[float, str, Canary]]] = defaultdict(list)
    for (_, n), cosine in zip(fitting, cosines, strict=True):
        logit = max(temperature * cosine[place] + weight * share for place, share in shares[n].items())
        by_document[canaries[n].doc_id].append((-logit, _rank(canaries[n]), canaries[n]))
    for turn in zip_longest(*(sorted(entries, key=_order) for entries in by_document.values())):
        yield from (canary for *_, canary in sorted(filter(None, turn), key=_order))


def _order(entry: tuple[float, str, Canary]) -> tuple[float, str]:
    return entry[:2]


def _unit(keys: "NDArray[np.float32]") -> "NDArray[np.float64]":
    unit: NDArray[np.float64] = keys / np.linalg.norm(keys.astype(np.float64), axis=-1, keepdims=True)
    return unit


def _memories(bank: "Bank", doc_id: str) -> list[dict[str, Any]]:
    """The current rows of a document, with their keys."""
    rows = bank.rows(bank.schema.names, set(bank.documents({doc_id})["memory_id"].to_pylist()))
    current: list[dict[str, Any]] = rows.filter(pc.is_null(rows["superseded_at"])).to_pylist()
    return current


def _share(canary: Canary, words: set[str], weights: Mapping[str, float]) -> float:
    """Share of the question's words, by weight, among `words`; 0 if they have a right answer, which harms nothing."""
    if any(_words(gold) <= words for gold in canary.golds):
        return 0.0
    asked = _words(canary.question)
    return sum(weights[word] for word in asked & words) / sum(weights[word] for word in asked)


def _words(text: str) -> set[str]:
    return set(normalise_answer(text).split())


def _asked(
    answerer: "Answerer", canaries: Sequence[Canary], new_ids: set[str], on_progress: OnProgress | None
) -> list[Canary]:
    """`canaries` with their outcomes; `without` of those that a document of `new_ids` answers wrong."""
    now = _ask(answerer, canaries, on_progress)
    doubtful = [
        canary for canary, outcome in zip(canaries, now, strict=True) if not outcome.right and outcome.doc_id in new_ids
    ]
    with _hidden(answerer.bank, new_ids):
        outcomes = _ask(answerer, doubtful, None)
    without = {canary.question_id: outcome for canary, outcome in zip(doubtful, outcomes, strict=True)}

    def with_outcomes(canary: Canary, outcome: Outcome) -> Canary:
        other = without.get(canary.question_id)
        return replace(canary, best=_best(canary.best, outcome, other), now=outcome, without=other)

    return [with_outcomes(canary, outcome) for canary, outcome in zip(canaries, now, strict=True)]


@contextmanager
def _hidden(bank: "Bank", doc_ids: set[str]) -> Iterator[None]:
    """Leave `doc_ids` out of what the bank finds meanwhile."""
    hidden = bank.hidden
    bank.hidden = hidden | doc_ids
    try:
        yield
    finally:
        bank.hidden = hidden


def _ask(answerer: "Answerer", canaries: Sequence[Canary], on_progress: OnProgress | None) -> list[Outcome]:
    questions = [canary.question for canary in canaries]
    answers = answerer.answer(questions, as_of=[None] * len(questions), on_progress=on_progress)
    return [_outcome(canary, answer) for canary, answer in zip(canaries, answers, strict=True)]


def _best(*outcomes: Outcome | None) -> Outcome | None:
    """The outcome with the highest F1, right ones first; of equal ones the first."""
    return max(filter(None, outcomes), key=lambda outcome: (outcome.right, outcome.f1), default=None)


def _outcome(canary: Canary, answer: "Answer") -> Outcome:
    text = answer.text if answer.known else ""
    sources = sorted(answer.sources, key=lambda source: source.quote is None)  # the quoted one first
    score = f1(text, canary.golds)
    right = score >= RIGHT and not contradicts(text, canary.golds)
    return Outcome(text, score, right, sources[0].doc_id if sources else None)


def _canary(row: dict[str, Any]) -> Canary:
    outcomes = {name: row[name] and Outcome(**row[name]) for name in ("best", "now", "without")}
    return Canary(**row | outcomes | {"golds": tuple(row["golds"])})


def _digest(table: pa.Table) -> bytes:
    return sha256_hex(json.dumps(table.to_pylist())).encode()
