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
from cmt.evaluation.testbed import LIMIT, Testbed

KS = (1, 2, 4, 8, 16)
SHARES = (0, 20, 40, 60, 80, 100)
STEPS = 5
_TIMED = 12

Points = list[dict[str, Any]]


def retention(material: Testbed, *, limit: int = LIMIT, steps: int = STEPS) -> Curve:
    """The first documents' questions, asked again after each of `steps` parts of the stream is banked."""
    parts = _parts(material, steps)
    questions = material.sample(material.standing(parts[0], among=material.documents), limit)
    material.watch.stage("retention", questions.num_rows * len(parts))
    points: Points = []
    with material.scratch() as bank:
        for part in parts:
            material.add(bank, part)
            points.append(_asked(material, bank, questions, "the first documents", after=points))
    axes = {"x": "documents in the bank"}
    return Curve("retention", "What is kept of the first documents", axes, table(points), material.lineage)


def size(material: Testbed, *, limit: int = LIMIT, steps: int = STEPS) -> Curve:
    """Questions on all that is banked so far, after each of `steps` parts of the stream."""
    parts = _parts(material, steps)
    banked = [list(chain.from_iterable(parts[: place + 1])) for place in range(len(parts))]
    questions = [material.sample(material.standing(names, among=names), limit) for names in banked]
    material.watch.stage("size", sum(part.num_rows for part in questions))
    points: Points = []
    with material.scratch() as bank:
        for part, asked in zip(parts, questions, strict=True):
            material.add(bank, part)
            points.append(_asked(material, bank, asked, "all documents so far", after=points))
    axes = {"x": "documents in the bank", "bytes": "bytes of the bank"}
    return Curve("size", "The size of the bank", axes, table(points), material.lineage)


def noise(material: Testbed, *, limit: int = LIMIT, shares: Sequence[int] = SHARES) -> Curve:
    """Questions on half of the articles, while documents of others join them: `shares`, in % of their own number."""
    relevant, others = _halves(material)
    questions = material.sample(material.standing(relevant, among=material.documents), limit)
    material.watch.stage("noise", questions.num_rows * len(shares))
    points: Points = []
    with material.scratch() as bank:
        material.add(bank, relevant)
        for share in shares:
            material.add(bank, others[: round(len(relevant) * share / 100)])
            asked = _asked(material, bank, questions, "the relevant documents", after=points)
            points.append(asked | {"x": float(share)})
    axes = {"x": "irrelevant documents, % of the relevant"}
    return Curve("noise", "Among irrelevant documents", axes, table(points), material.lineage)


def top_k(material: Testbed, *, limit: int = LIMIT, ks: Sequence[int] = KS) -> Curve:
    """Questions on the whole bank, each as of its date, with K memories selected; how soon the first token comes."""
    questions = material.sample(material.asked(material.documents), limit)
    material.watch.stage("k", questions.num_rows * len(ks))
    bank, seed = material.answerer.bank, material.answerer.params.seed
    points: Points = []
    for k in ks:
        answerer = material.through(bank, top_k=k)
        records, seconds = material.ask(answerer, questions)
        asked = point(records, bank=bank, series="memory", x=k, seconds=seconds, seed=seed)
        points.append(asked | {"first_token": first_token(answerer, questions)})
    axes = {"x": "K, memories selected at most", "first_token": "seconds to the first token"}
    return Curve("k", "How many memories are selected", axes, table(points), material.lineage)


CURVES: Mapping[str, Callable[..., Curve]] = {
    "retention": retention,
    "noise": noise,
    "supersession": knowledge_updates,
    "size": size,
    "k": top_k,
}
"""By the name that `cmt curves` takes; each of (material, *, limit), `limit` the most questions of a point."""


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
    material: Testbed, bank: Bank, questions: pa.Table, series: str, *, after: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Ask and score; what is `kept` is measured by the first of the points `after` which this one comes."""
    records, seconds = material.ask(material.through(bank), questions)
    asked = point(records, bank=bank, series=series, seconds=seconds, seed=material.answerer.params.seed)
    start = [*after, asked][0]["f1"]
    return asked | {"kept": 100 * asked["f1"] / start if start else None}


def _parts(material: Testbed, steps: int) -> list[list[str]]:
    """The documents by date, in `steps` parts of like size; fewer where there are fewer documents."""
    names = list(material.documents)
    return [list(map(str, part)) for part in np.array_split(names, min(steps, len(names)))]


def _halves(material: Testbed) -> tuple[list[str], list[str]]:
    """Documents of one half of the articles (what has one title), and at least as many of the others; seeded."""
    articles: dict[str, list[str]] = {}
    for name, row in material.documents.items():
        articles.setdefault(row["title"] or name, []).append(name)
    shuffled = sorted(articles.values())
    Random(material.answerer.params.seed).shuffle(shuffled)  # noqa: S311 - a sample, no secret
    halves = [[name for article in part for name in article] for part in (shuffled[::2], shuffled[1::2])]
    smaller, larger = sorted(halves, key=len)
    return smaller, larger
