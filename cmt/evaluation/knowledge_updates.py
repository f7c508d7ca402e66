"""What the news do to an answer: the old one before them, the new one after them, and the old one as of before."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from random import Random
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from cmt.errors import StreamError
from cmt.evaluation.curve import Curve, point, table
from cmt.evaluation.metrics import mark, normalise_answer
from cmt.evaluation.testbed import LIMIT, BankTestbed, at

KNOWN = 0.5  # F1 from which an answer counts as known


class _Pair(NamedTuple):
    """A question that was asked before and after its answer changed: two rows of QUESTION_SCHEMA."""

    old: dict[str, Any]
    new: dict[str, Any]


def knowledge_updates(testbed: BankTestbed, *, limit: int = LIMIT) -> Curve:
    """Questions whose answer changed: the old answer before the news, the new one after it, the old one as of before.

    Documents are banked link by link of their chains (what supersedes nothing, what supersedes that, …), so that before
    the news its document is not in the bank. StreamError when no question has two answers.
    """
    pairs, links = _pairs(testbed, limit), _links(testbed)
    testbed.progress.stage("supersession", 3 * len(pairs))
    told: defaultdict[str, list[pa.Table]] = defaultdict(list)
    golds: list[Sequence[str]] = []
    took: list[float] = []
    with testbed.scratch() as bank:
        answerer = testbed.through(bank)
        for link in range(max(links.values()) + 1):
            testbed.add(bank, [name for name, place in links.items() if place == link])
            waiting = [pair for pair in pairs if links[pair.old["doc_id"]] == link]
            changed = [pair for pair in pairs if links[pair.new["doc_id"]] == link]
            golds += [pair.old["answers"] for pair in changed]
            for name, questions in _in_turn(testbed, waiting, changed).items():
                records, seconds = testbed.ask(answerer, questions)
                told[name].append(records)
                took.append(seconds)
        seed, each = testbed.answerer.params.seed, sum(took) / 3
        points = [
            point(records, bank=bank, series=series, x=place, seconds=each, seed=seed) | {"known": _known(records)}
            for place, (series, records) in enumerate(_bars(told, golds, pairs).items())
            if records.num_rows
        ]
    return Curve("supersession", "Before and after the news", {}, table(points), testbed.lineage)


def _links(testbed: BankTestbed) -> dict[str, int]:
    """Each document's place in its chain: 0 for what supersedes nothing in the bank."""
    links: dict[str, int] = {}
    for name in testbed.documents:
        chain = [name]
        while (before := testbed.documents[chain[-1]]["supersedes"]) in testbed.documents and before not in chain:
            chain.append(before)
        links[name] = len(chain) - 1
    return links


def _pairs(testbed: BankTestbed, limit: int) -> list[_Pair]:
    """Questions with the same words on a document and on the one that supersedes it, without a common answer; a sample.

    StreamError when there is none.
    """
    by_document: dict[str, list[dict[str, Any]]] = {}
    for row in testbed.asked(testbed.documents).to_pylist():
        by_document.setdefault(row["doc_id"], []).append(row)
    pairs = [
        _Pair(old, new)
        for name, document in testbed.documents.items()
        for new in by_document.get(name, ())
        for old in by_document.get(document["supersedes"], ())
        if normalise_answer(old["question"]) == normalise_answer(new["question"])
        and not _normalised(old["answers"]) & _normalised(new["answers"])
    ]
    if not pairs:
        raise StreamError("no question of the stream is answered anew by a document that supersedes another")
    if len(pairs) > limit:
        pairs = Random(testbed.answerer.params.seed).sample(pairs, limit)
    return pairs


def _in_turn(testbed: BankTestbed, old: Sequence[_Pair], new: Sequence[_Pair]) -> dict[str, pa.Table]:
    """What is asked when a link of the chains is banked; the pairs `old` wait for their news, `new` just had it."""
    published = [testbed.documents[pair.new["doc_id"]]["published_at"] for pair in new]
    before = [
        min(pair.old["asked_at"], news - timedelta(microseconds=1)) for pair, news in zip(new, published, strict=True)
    ]
    rows = {
        "before": ([pair.old for pair in old], [testbed.end] * len(old)),
        "after": ([pair.new for pair in new], [testbed.end] * len(new)),
        "as of": ([pair.old for pair in new], before),
    }
    schema = testbed.questions.schema
    return {name: at(pa.Table.from_pylist(asked, schema=schema), when) for name, (asked, when) in rows.items()}


def _bars(
    told: Mapping[str, Sequence[pa.Table]], golds: Sequence[Sequence[str]], pairs: Sequence[_Pair]
) -> dict[str, pa.Table]:
    """Records by what they show; `golds`: the old answers to the questions of `after`."""
    before, after, as_of = (pa.concat_tables(told[name]) for name in ("before", "after", "as of"))
    place = after.schema.get_field_index("golds")
    known = set(before.filter(pc.greater_equal(before["cmt_f1"], KNOWN))["question_id"].to_pylist())
    renewed = pa.array([pair.new["question_id"] for pair in pairs if pair.old["question_id"] in known], pa.string())
    return {
        "before: the old answer": before,
        "after: the new answer": after,
        "after, where the old one was known: the new answer": after.filter(
            pc.is_in(after["question_id"], value_set=renewed)
        ),
        "after: still the old one (lower is better)": after.set_column(place, after.schema.field(place), [golds]),
        "after, as of before: the old answer": as_of,
    }


def _known(records: pa.Table) -> float:
    return 100 * float((mark(records["cmt"].to_pylist(), records["golds"].to_pylist()).f1 >= KNOWN).mean())


def _normalised(answers: Iterable[str]) -> set[str]:
    return set(map(normalise_answer, answers))
