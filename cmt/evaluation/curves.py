"""How the score moves: while the bank grows, among irrelevant documents, after news, with K, with the time it takes.

The banks are made in scratch folders from memories that rounds have banked: nothing is compressed again, and the live
bank stays as it is. Where later documents shall stand in a question's way it is asked as of the stream's end, and only
if none of them supersedes its document; elsewhere as of its own date.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from random import Random
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa

from cmt.answering.answerer import Answerer
from cmt.bank.bank import Bank
from cmt.evaluation.curve import Curve, point, table
from cmt.evaluation.knowledge_updates import knowledge_updates
from cmt.evaluation.testbed import LIMIT, BankTestbed

KS = (1, 2, 4, 8, 16)
SHARES = (0, 20, 40, 60, 80, 100)
STEPS = 5
_TIMED = 12

Points = list[dict[str, Any]]


def retention(testbed: BankTestbed, *, limit: int = LIMIT, steps: int = STEPS) -> Curve:
    """The first documents' questions, asked again after each of `steps` parts of the stream is banked."""
    parts = _parts(testbed, steps)
    questions = testbed.sample(testbed.standing(parts[0], among=testbed.documents), limit)
    testbed.progress.stage("retention", questions.num_rows * len(parts))
    points: Points = []
    with testbed.scratch() as bank:
        for part in parts:
            testbed.add(bank, part)
            points.append(_asked(testbed, bank, questions, "the first documents", after=points))
    axes = {"x": "documents in the bank"}
    return Curve("retention", "What is kept of the first documents", axes, table(points), testbed.lineage)


def size(testbed: BankTestbed, *, limit: int = LIMIT, steps: int = STEPS) -> Curve:
    """Questions on all that is banked so far, after each of `steps` parts of the stream."""
    parts = _parts(testbed, steps)
    banked = [list(chain.from_iterable(parts[: place + 1])) for place in range(len(parts))]
    questions = [testbed.sample(testbed.standing(names, among=names), limit) for names in banked]
    testbed.progress.stage("size", sum(part.num_rows for part in questions))
    points: Points = []
    with testbed.scratch() as bank:
        for part, asked in zip(parts, questions, strict=True):
            testbed.add(bank, part)
            points.append(_asked(testbed, bank, asked, "all documents so far", after=points))
    axes = {"x": "documents in the bank", "bytes": "bytes of the bank"}
    return Curve("size", "The size of the bank", axes, table(points), testbed.lineage)


def noise(testbed: BankTestbed, *, limit: int = LIMIT, shares: Sequence[int] = SHARES) -> Curve:
    """Questions on half of the articles, while documents of others join them: `shares`, in % of their own number."""
    relevant, others = _halves(testbed)
    questions = testbed.sample(testbed.standing(relevant, among=testbed.documents), limit)
    testbed.progress.stage("noise", questions.num_rows * len(shares))
    points: Points = []
    with testbed.scratch() as bank:
        testbed.add(bank, relevant)
        for share in shares:
            testbed.add(bank, others[: round(len(relevant) * share / 100)])
            asked = _asked(testbed, bank, questions, "the relevant documents", after=points)
            points.append(asked | {"x": float(share)})
    axes = {"x": "irrelevant documents, % of the relevant"}
    return Curve("noise", "Among irrelevant documents", axes, table(points), testbed.lineage)


def top_k(testbed: BankTestbed, *, limit: int = LIMIT, ks: Sequence[int] = KS) -> Curve:
    """Questions on the whole bank, each as of its date, with K memories selected; how soon the first token comes."""
    questions = testbed.sample(testbed.asked(testbed.documents), limit)
    testbed.progress.stage("k", questions.num_rows * len(ks))
    bank, seed = testbed.answerer.bank, testbed.answerer.params.seed
    points: Points = []
    for k in ks:
        answerer = testbed.through(bank, top_k=k)
        records, seconds = testbed.ask(answerer, questions)
        asked = point(records, bank=bank, series="memory", x=k, seconds=seconds, seed=seed)
        points.append(asked | {"first_token": first_token(answerer, questions)})
    axes = {"x": "K, memories selected at most", "first_token": "seconds to the first token"}
    return Curve("k", "How many memories are selected", axes, table(points), testbed.lineage)


CURVES: Mapping[str, Callable[..., Curve]] = {
    "retention": retention,
    "noise": noise,
    "supersession": knowledge_updates,
    "size": size,
    "k": top_k,
}
"""By the name that `cmt curves` takes; each of (testbed, *, limit), `limit` the most questions of a point."""


def first_token(answerer: Answerer, questions: pa.Table) -> float:
    """Median seconds until the first token of an answer is there, each question asked alone."""
    how = answerer.params.answering.model_copy(update={"max_new_tokens": 1, "batch_size": 1})
    params = answerer.params.model_copy(update={"answering": how})
    quick = Answerer(model=answerer.model, lm=answerer.lm, bank=answerer.bank, params=params)
    took = []
    for row in questions.slice(0, _TIMED).to_pylist():
        started = time.perf_counter()
        quick.answer([row["question"]], as_of=[row["asked_at"]])
        took.append(time.perf_counter() - started)
    return median(took[1:] or took)  # the first warms up


def _asked(
    testbed: BankTestbed, bank: Bank, questions: pa.Table, series: str, *, after: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Ask and score; what is `kept` is measured by the first of the points `after` which this one comes."""
    records, seconds = testbed.ask(testbed.through(bank), questions)
    asked = point(records, bank=bank, series=series, seconds=seconds, seed=testbed.answerer.params.seed)
    start = [*after, asked][0]["f1"]
    return asked | {"kept": 100 * asked["f1"] / start if start else None}


def _parts(testbed: BankTestbed, steps: int) -> list[list[str]]:
    """The documents by date, in `steps` parts of like size; fewer where there are fewer documents."""
    names = list(testbed.documents)
    return [list(map(str, part)) for part in np.array_split(names, min(steps, len(names)))]


def _halves(testbed: BankTestbed) -> tuple[list[str], list[str]]:
    """Documents of one half of the articles (what has one title), and at least as many of the others; seeded."""
    articles: dict[str, list[str]] = {}
    for name, row in testbed.documents.items():
        articles.setdefault(row["title"] or name, []).append(name)
    shuffled = sorted(articles.values())
    Random(testbed.answerer.params.seed).shuffle(shuffled)
    halves = [[name for article in part for name in article] for part in (shuffled[::2], shuffled[1::2])]
    smaller, larger = sorted(halves, key=len)
    return smaller, larger
