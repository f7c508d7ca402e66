"""Finding the changes that the documents of a slice make to earlier ones without naming them.

1. Pair each new memory with the few earlier memories most like it (`pairs`).
2. Make questions about the values of both texts (`questions`).
3. Read the other text with each question.
4. Judge the two values: the pair is a change if they differ, and the later one changes the answer.
5. Keep what is sure enough (`admission` then asks who may change what).

The cost follows the new memories.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa

from cmt.answering.answerer import Answerer
from cmt.answering.judge import (
    CHANGED,
    CHANGED_NAMED,
    CHANGED_WITH_RIVAL,
    POSSIBLE,
    RIVAL,
    Judge,
    Statement,
)
from cmt.bank.changes import Change, ValueSpan
from cmt.evaluation.changes._pairs import similar_pairs
from cmt.evaluation.changes.questions import Probe, questions_between, relation_probes, says_of
from cmt.text.answers import same_value
from cmt.text.display import without_publisher

COMPARED_ANSWERS = 2  # questions at most with which the judge compares two documents
AT_ONCE = 256  # new memories compared at once: with their earlier ones and all vectors, some 100 MB

DocIds = tuple[str, str]
"""The earlier and the later document of a pair."""


class _Answered(NamedTuple):
    """A question, and the two values that answer it."""

    probe: Probe
    own: Statement  # in the memory that the question is made of
    other: Statement  # in the other memory

    @property
    def by_date(self) -> tuple[Statement, Statement]:
        """The earlier and the later value."""
        of_earlier = self.probe.made.of_earlier
        return (self.own, self.other) if of_earlier else (self.other, self.own)


def find_changes(answerer: Answerer, rows: pa.Table) -> list[Change]:
    """The changes that the banked memories `rows` of a slice make to earlier ones, at most one for
    two documents.

    A bank without texts has none, and nor has an LM without a cross-encoder. Memory does not grow
    with the slice.
    """
    if not answerer.model.cross_encoder:
        return []
    changes: dict[DocIds, Change] = {}
    for start in range(0, rows.num_rows, AT_ONCE):
        # 1. Pairs of documents with their questions, first those whose words both texts have.
        probes = defaultdict[DocIds, list[Probe]](list)
        pairs = similar_pairs(answerer, rows.slice(start, AT_ONCE))
        for pair in pairs:
            if not pair.subject:
                texts = without_publisher(pair.earlier), without_publisher(pair.later)
                probes[pair.doc_ids] += [Probe(made, pair) for made in questions_between(*texts)]
        for of_pair in probes.values():
            of_pair.sort(key=lambda probe: -probe.made.share)
        of_names = defaultdict[DocIds, list[Probe]](list)
        for probe in relation_probes(answerer, pairs):
            of_names[probe.pair.doc_ids].append(probe)
        # 2. Read, judge and keep.
        possible = _possible_changes(answerer, probes)
        least = dict.fromkeys(possible, CHANGED)
        for doc_ids, change in _possible_changes(answerer, of_names).items():
            _keep_surer(possible, change)
            if possible[doc_ids] is change:
                least[doc_ids] = CHANGED_NAMED
        for change in _sure(possible, least):
            _keep_surer(changes, change)
    return list(changes.values())


def _possible_changes(
    answerer: Answerer, probes: Mapping[DocIds, Sequence[Probe]]
) -> dict[DocIds, Change]:
    """The surest possible change of each pair of documents.

    Each turn reads one question of each pair. A pair leaves when its change is sure, when one is
    impossible, and after COMPARED_ANSWERS pairs of values.
    """
    judge = Judge(answerer.model.cross_encoder)
    changes, compared = dict[DocIds, Change](), Counter[DocIds]()
    queues = {doc_ids: iter(of_pair) for doc_ids, of_pair in probes.items()}
    while queues:
        asked = {}
        for doc_ids, queue in queues.items():
            if probe := next(queue, None):
                asked[doc_ids] = probe
        queues = {doc_ids: queues[doc_ids] for doc_ids in asked}
        for answered in _read(answerer, list(asked.values())):
            doc_ids, (old, new) = answered.probe.pair.doc_ids, answered.by_date
            probability = judge.judge(answered.probe.made.question, old, new).changed
            compared[doc_ids] += 1
            if probability >= POSSIBLE:
                _keep_surer(changes, _change(answered, probability))
            is_settled = probability >= CHANGED_WITH_RIVAL or probability < POSSIBLE
            if is_settled or compared[doc_ids] == COMPARED_ANSWERS:
                del queues[doc_ids]
    return changes


def _read(answerer: Answerer, probes: Sequence[Probe]) -> list[_Answered]:
    """The questions that the other memory, read by its stored vectors, answers with another
    value.
    """
    questions = [probe.made.question for probe in probes]
    others = answerer.statements(questions, [probe.memories[1] for probe in probes], expand=False)
    answered = []
    for probe, other in zip(probes, others, strict=True):
        subject = probe.pair.subject
        if not other.answer or (subject and not says_of(other, subject)):
            continue
        if not same_value(other.answer, probe.made.value):
            answered.append(_Answered(probe, probe.stated, other))
    return answered


def _change(answered: _Answered, probability: float) -> Change:
    earlier, later, _ = answered.probe.pair
    old, new = answered.by_date
    return Change(
        ValueSpan.of(earlier, old.first, old.last),
        ValueSpan.of(later, new.first, new.last),
        holds_from=new.holds_from,
        confidence=round(probability, 4),
    )


def _keep_surer(changes: dict[DocIds, Change], change: Change) -> None:
    """Put `change` into `changes`, unless they have a surer one of its documents."""
    if change.confidence >= changes.setdefault(change.doc_ids, change).confidence:
        changes[change.doc_ids] = change


def _sure(changes: Mapping[DocIds, Change], least: Mapping[DocIds, float]) -> list[Change]:
    """The changes that are at least as sure as `least` says; a later document that may change
    several earlier ones needs more confidence.
    """
    probable = [doc_ids for doc_ids, change in changes.items() if change.confidence >= RIVAL]
    targets = Counter(later for _, later in probable)
    sure = []
    for doc_ids, change in changes.items():
        has_rival = targets[doc_ids[1]] > 1
        if change.confidence >= (CHANGED_WITH_RIVAL if has_rival else least[doc_ids]):
            sure.append(change)
    return sure
