"""Finding the changes that the documents of a slice make to earlier ones without naming them.

Each new memory is compared with the few earlier memories most like it. The values of both texts,
their numbers, dates and names, give questions; the other text is read with them, and a pair is a
change if it answers one of them differently, and the cross-encoder finds a change. The cost follows
the new memories.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from heapq import nlargest
from operator import itemgetter
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from cmt.answering.answerer import Answerer
from cmt.answering.judge import (
    CHANGED,
    CHANGED_WITH_RIVAL,
    COMPARED,
    FEWEST_ASKED,
    FEWEST_SHARED,
    LEAST_OF_BEST,
    NAMES_SHARED,
    POSSIBLE,
    Judge,
    Statement,
)
from cmt.bank.changes import Change, ValueSpan
from cmt.bank.schema import key_matrix
from cmt.questions.gaps import question_on
from cmt.text.answers import same_value
from cmt.text.display import without_publisher
from cmt.text.names import LONG_NAME
from cmt.text.numbers import QUANTITY, TIME
from cmt.text.overlap import SAMPLE, WordWeights, coverage
from cmt.text.sentences import SENTENCE_END
from cmt.text.words import stems

# share of the bank's texts from which the name of their publisher tells nothing about a text
FREQUENT = 0.1
# questions that are made of a text at most; those come first whose words the other text has most of
QUESTIONS = 2
COMPARED_ANSWERS = 2  # questions at most with which the cross-encoder compares two memories
AT_ONCE = 256  # new memories compared at once: with their earlier ones and all vectors, some 100 MB
FEWEST_WORDS = 6  # content words of the clauses that make a question, if the sentence has so many
_CLAUSE_END = re.compile(r"[;:()–—]\s*| - |, ")
_VALUE = re.compile(f"{TIME}|{QUANTITY}|{LONG_NAME}")


class _Probe(NamedTuple):
    """A question that is made of one of two memories, and asked to the other one."""

    question: str
    answer: str
    earlier: dict[str, Any]
    later: dict[str, Any]
    of_earlier: bool  # whether the question is made of the earlier memory
    share: float  # share of the question's words in the other memory, 0–1

    @property
    def memories(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The memory that the question is made of, and the other one."""
        return (self.earlier, self.later) if self.of_earlier else (self.later, self.earlier)


def find_changes(answerer: Answerer, rows: pa.Table) -> list[Change]:
    """The changes that the banked memories `rows` of a slice make to earlier ones, at most one for
    two documents.

    A bank without texts has none, and nor has an LM without a cross-encoder. Memory does not grow
    with the slice.
    """
    if not answerer.model.cross_encoder:
        return []
    changes: dict[tuple[str, str], Change] = {}
    for start in range(0, rows.num_rows, AT_ONCE):
        for change in _find_changes(answerer, rows.slice(start, AT_ONCE)):
            _keep_surer(changes, change)
    return list(changes.values())


def _keep_surer(changes: dict[tuple[str, str], Change], change: Change) -> None:
    if change.confidence >= changes.setdefault(change.doc_ids, change).confidence:
        changes[change.doc_ids] = change


def _find_changes(answerer: Answerer, rows: pa.Table) -> list[Change]:
    judge = Judge(answerer.model.cross_encoder)
    # 1. make questions on each new memory, and on the earlier ones like it; of two documents, first
    #    those with most words that both have
    rows = rows.filter(pc.greater(pc.utf8_length(rows["text"]), 0))
    of_pair = defaultdict[tuple[str, str], list[_Probe]](list)
    for row, memories in zip(rows.to_pylist(), _earlier_memories(answerer, rows), strict=True):
        for earlier in memories:
            for question, answer, of_earlier, share in made_probes(
                without_publisher(earlier), without_publisher(row)
            ):
                probe = _Probe(question, answer, earlier, row, of_earlier, share)
                of_pair[earlier["doc_id"], row["doc_id"]].append(probe)
    queues = {
        pair: iter(sorted(probes, key=lambda probe: -probe.share))
        for pair, probes in of_pair.items()
    }
    changes, compared = dict[tuple[str, str], Change](), Counter[tuple[str, str]]()
    while queues:
        # 2. read the other memory with the next question; the same value, or none, tells nothing
        asked = {
            pair: following for pair, queue in queues.items() if (following := next(queue, None))
        }
        queues = {pair: queues[pair] for pair in asked}
        others = _read(answerer, [(probe.question, probe.memories[1]) for probe in asked.values()])
        candidates = [
            (pair, probe, _stated(probe), other)
            for (pair, probe), other in zip(asked.items(), others, strict=True)
            if other.answer and not same_value(other.answer, probe.answer)
        ]
        # 3. compare the two answers, as long as a change is possible
        for pair, probe, own, other in candidates:
            old, new = (own, other) if probe.of_earlier else (other, own)
            changed = judge.judge(probe.question, old, new).changed
            compared[pair] += 1
            if changed >= POSSIBLE:
                was = ValueSpan.of(probe.earlier, old.first, old.last)
                becomes = ValueSpan.of(probe.later, new.first, new.last)
                change = Change(
                    was, becomes, holds_from=new.published_at, confidence=round(changed, 4)
                )
                _keep_surer(changes, change)
            if (
                changed >= CHANGED_WITH_RIVAL
                or changed < POSSIBLE
                or compared[pair] == COMPARED_ANSWERS
            ):
                del queues[pair]
    # 4. keep the sure changes; a later document that may also change another earlier one needs more
    #    confidence
    possible = Counter(later for _, later in changes)
    least = {
        later: CHANGED if number == 1 else CHANGED_WITH_RIVAL for later, number in possible.items()
    }
    return [change for (_, later), change in changes.items() if change.confidence >= least[later]]


def _stated(probe: _Probe) -> Statement:
    """The value of which the question is made, in its memory; ψ did not read it."""
    memory = probe.memories[0]
    own = without_publisher(memory)
    skipped = len(memory["text"]) - len(own)
    first = skipped + own.index(probe.answer)
    last, date = first + len(probe.answer), memory["published_at"]
    return Statement(memory["text"], first, last, 0.0, date)


def _read(answerer: Answerer, asked: list[tuple[str, dict[str, Any]]]) -> list[Statement]:
    """What each memory says about its question, by its stored vectors."""
    return answerer.statements(
        [question for question, _ in asked], [memory for _, memory in asked], expand=False
    )


def _earlier_memories(answerer: Answerer, rows: pa.Table) -> list[list[dict[str, Any]]]:
    """For each of `rows`, which have a text, the visible earlier memories most like it that it does
    not supersede.
    """
    sample = answerer.bank.sample(SAMPLE)
    published = Counter(row["source"] for row in sample)

    def text_of(memory: Mapping[str, Any]) -> str:
        """The text, without a publisher that has many of the bank's texts."""
        frequent = published[memory["source"]] > FREQUENT * len(sample)
        return without_publisher(memory) if frequent else str(memory["text"])

    weights = WordWeights(map(text_of, sample))
    texts = list(map(text_of, rows.to_pylist()))
    found = answerer.bank.search_each(
        keys=key_matrix(rows["key"]),
        texts=texts,
        k=4 * COMPARED,
        as_of=rows["published_at"].to_pylist(),
    )
    memories = []
    for row, text, similar in zip(rows.to_pylist(), texts, found, strict=True):
        related = [
            (weights.coverage(text_of(other), text), other)
            for other in similar.to_pylist()
            if other["doc_id"] not in (row["doc_id"], row["supersedes"])
            if other["published_at"] < row["published_at"]
            if weights.names_shared(text_of(other), text) >= NAMES_SHARED
        ]
        nearest = sorted(related, key=lambda pair: -pair[0])[:COMPARED]
        fewest = max([FEWEST_SHARED, *(LEAST_OF_BEST * share for share, _ in nearest)])
        memories.append([other for share, other in nearest if share >= fewest])
    return memories


def made_probes(earlier: str, later: str) -> Iterator[tuple[str, str, bool, float]]:
    """Questions about values of either text that share words with the other text.

    Yields the question, the value, whether the earlier text has it, and the share of the question's
    words, 0–1.
    """
    for of_earlier, text, other in ((True, earlier, later), (False, later, earlier)):
        shares = []
        for value in dict.fromkeys(found[0] for found in _VALUE.finditer(text)):
            question = _about(text, value)
            if question:
                shares.append((coverage(question, other), question, value))
        for share, question, value in nlargest(QUESTIONS, shares, key=itemgetter(0)):
            if share >= FEWEST_ASKED:
                yield question, value, of_earlier, share


def _about(text: str, value: str) -> str | None:
    """A question that `value` answers, made of the clauses around it in the first sentence that has
    it.
    """
    for sentence in SENTENCE_END.split(text):
        start = sentence.find(value)
        if start < 0:
            continue
        ends = [0, *(mark.end() for mark in _CLAUSE_END.finditer(sentence)), len(sentence)]
        first = max(end for end in ends if end <= start)
        last = min(end for end in ends if end >= start + len(value))
        while len(stems(sentence[first:last])) < FEWEST_WORDS and (
            first > 0 or last < len(sentence)
        ):
            first = max((end for end in ends if end < first), default=0)
            if len(stems(sentence[first:last])) < FEWEST_WORDS:
                last = min((end for end in ends if end > last), default=len(sentence))
        return question_on(sentence[first:last].strip(" ,;:"), value)
    return None
