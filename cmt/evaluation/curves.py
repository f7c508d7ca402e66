"""How the score changes: as the bank grows, among irrelevant documents, after updates, with K and the time it takes.

Curves are measured on temporary banks, filled with memories of the project's bank: nothing is compressed again, and the
project's bank does not change. Where later documents should compete with a question's own, the question is asked as of
the end of the stream, and only if none of them supersedes its document. Elsewhere it is asked as of its own date.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from random import Random
from statistics import median

import numpy as np
import pyarrow as pa

from cmt.answering.answerer import Answerer
from cmt.bank.bank import Bank
from cmt.evaluation.curve import Curve, Point, point, points_table
from cmt.evaluation.knowledge_updates import knowledge_updates
from cmt.evaluation.testbed import LIMIT, BankTestbed

KS = (1, 2, 4, 8, 16)
"""Numbers of selected memories in `top_k`."""
SHARES = (0, 20, 40, 60, 80, 100)
"""Irrelevant documents in `noise`, in % of the relevant ones."""
STEPS = 5
"""Number of parts in which `retention` and `size` bank the stream."""
_TIMED = 12  # questions that are asked alone to time the first token


def retention(testbed: BankTestbed, *, limit: int = LIMIT, steps: int = STEPS) -> Curve:
    """F1 on questions about the first documents, after each of `steps` parts of the stream is banked."""
    parts = _parts(testbed, steps)
    questions = testbed.sample(testbed.current(parts[0], among=testbed.documents), limit)
    testbed.progress.stage("retention", questions.num_rows * len(parts))
    points: list[Point] = []
    with testbed.temporary_bank() as bank:
        for part in parts:
            testbed.add(bank, part)
            points.append(_measure(testbed, bank, questions, "the first documents", before=points))
    axes = {"x": "documents in the bank"}
    return Curve("retention", "What is kept of the first documents", axes, points_table(points), testbed.lineage)


def size(testbed: BankTestbed, *, limit: int = LIMIT, steps: int = STEPS) -> Curve:
    """F1 on questions about all banked documents, after each of `steps` parts of the stream is banked."""
    parts = _parts(testbed, steps)
    banked = [list(chain.from_iterable(parts[: place + 1])) for place in range(len(parts))]
    questions = [testbed.sample(testbed.current(doc_ids, among=doc_ids), limit) for doc_ids in banked]
    testbed.progress.stage("size", sum(sample.num_rows for sample in questions))
    points: list[Point] = []
    with testbed.temporary_bank() as bank:
        for part, sample in zip(parts, questions, strict=True):
            testbed.add(bank, part)
            points.append(_measure(testbed, bank, sample, "all documents so far", before=points))
    axes = {"x": "documents in the bank", "bytes": "bytes of the bank"}
    return Curve("size", "The size of the bank", axes, points_table(points), testbed.lineage)


def noise(testbed: BankTestbed, *, limit: int = LIMIT, shares: Sequence[int] = SHARES) -> Curve:
    """F1 on questions about half of the articles, as documents of the other half join: `shares`, in % of their number.

    Documents with the same title belong to the same article.
    """
    relevant, irrelevant = _halves(testbed)
    questions = testbed.sample(testbed.current(relevant, among=testbed.documents), limit)
    testbed.progress.stage("noise", questions.num_rows * len(shares))
    points: list[Point] = []
    with testbed.temporary_bank() as bank:
        testbed.add(bank, relevant)
        for share in shares:
            testbed.add(bank, irrelevant[: round(len(relevant) * share / 100)])
            measured = _measure(testbed, bank, questions, "the relevant documents", before=points)
            points.append({**measured, "x": float(share)})
    axes = {"x": "irrelevant documents, % of the relevant"}
    return Curve("noise", "Among irrelevant documents", axes, points_table(points), testbed.lineage)


def top_k(testbed: BankTestbed, *, limit: int = LIMIT, ks: Sequence[int] = KS) -> Curve:
    """F1 and time to the first token on the project's bank with K = each of `ks` selected memories."""
    questions = testbed.sample(testbed.asked(testbed.documents), limit)
    testbed.progress.stage("k", questions.num_rows * len(ks))
    bank, seed = testbed.answerer.bank, testbed.answerer.params.seed
    points: list[Point] = []
    for k in ks:
        answerer = testbed.answerer_for(bank, top_k=k)
        records, seconds = testbed.ask(answerer, questions)
        measured = point(records, bank=bank, series="memory", x=k, seconds=seconds, seed=seed)
        points.append({**measured, "first_token": first_token(answerer, questions)})
    axes = {"x": "K, memories selected at most", "first_token": "seconds to the first token"}
    return Curve("k", "How many memories are selected", axes, points_table(points), testbed.lineage)


CURVES: Mapping[str, Callable[..., Curve]] = {
    "retention": retention,
    "noise": noise,
    "supersession": knowledge_updates,
    "size": size,
    "k": top_k,
}
"""By the name that `cmt curves` takes. Called with (testbed, *, limit): the maximum number of questions of a point."""


def first_token(answerer: Answerer, questions: pa.Table) -> float:
    """Median seconds to the first token of an answer, over the first questions, each asked alone."""
    answering = answerer.params.answering.model_copy(update={"max_new_tokens": 1, "batch_size": 1})
    params = answerer.params.model_copy(update={"answering": answering})
    one_token = answerer.with_params(params)
    seconds = []
    for row in questions.slice(0, _TIMED).to_pylist():
        started = time.perf_counter()
        one_token.answer([row["question"]], as_of=[row["asked_at"]])
        seconds.append(time.perf_counter() - started)
    return median(seconds[1:] or seconds)  # the first question warms up


def _measure(testbed: BankTestbed, bank: Bank, questions: pa.Table, series: str, *, before: Sequence[Point]) -> Point:
    """Ask `questions` of `bank` and score the answers; `kept` is relative to the first point of the curve."""
    records, seconds = testbed.ask(testbed.answerer_for(bank), questions)
    measured = point(records, bank=bank, series=series, seconds=seconds, seed=testbed.answerer.params.seed)
    first = [*before, measured][0]["f1"]
    return {**measured, "kept": 100 * measured["f1"] / first if first else None}


def _parts(testbed: BankTestbed, steps: int) -> list[list[str]]:
    """The doc_ids by date, in `steps` parts of about equal size; fewer if there are fewer documents."""
    doc_ids = list(testbed.documents)
    return [list(map(str, part)) for part in np.array_split(doc_ids, min(steps, len(doc_ids)))]


def _halves(testbed: BankTestbed) -> tuple[list[str], list[str]]:
    """The doc_ids of a seeded half of the articles and of the other half; the half with fewer documents comes first."""
    articles: dict[str, list[str]] = {}
    for doc_id, document in testbed.documents.items():
        articles.setdefault(document["title"] or doc_id, []).append(doc_id)
    shuffled = sorted(articles.values())
    Random(testbed.answerer.params.seed).shuffle(shuffled)
    halves = [list(chain.from_iterable(half)) for half in (shuffled[::2], shuffled[1::2])]
    smaller, larger = sorted(halves, key=len)
    return smaller, larger
