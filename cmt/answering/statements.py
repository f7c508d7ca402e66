"""Which of two documents' statements holds: the earlier one, or the later one that may have changed it
(docs/method.md#changes).

A logistic regression compares two answers to one question, each read from one document. Its features are the scores of
ψ, the words that both documents share, and how the later document tells its value: as a fact, a plan, a rumour, a
memory, a condition or a quotation; a compressor with a comparison head adds ψ's states of the later document.
`benchmarks/changes.py` fits the weights on stories whose facts change.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cmt.answering.answer import OtherValue
from cmt.answering.attribution import Offsets
from cmt.answering.confidence import log_odds
from cmt.bank.bank import Bank
from cmt.bank.changes import Change
from cmt.bank.lexical import coverage, names_covered
from cmt.bank.schema import memory_id
from cmt.common.answers import same_value
from cmt.common.english import WAYS_OF_TELLING
from cmt.modeling.model import ReadSpan
from cmt.modeling.span_decoding import sentence_starts
from cmt.retrieval.selector import Selection

if TYPE_CHECKING:
    from cmt.answering.answerer import Answerer
    from cmt.modeling.comparison_head import ComparisonHead

ChangesOf = Callable[[set[str]], list[Change]]
"""Ids of documents → the recorded changes that name one of them, rejected ones included."""
MayChange = Callable[[str | None, str | None], bool]
"""Two sources → whether a later document of the first may change what a document of the second states."""

OPEN = 0.15  # probability from which, and up to 1 − OPEN, it is open which of two statements holds
FEWEST_SHARED = 0.12  # share of a text's words that a comparable later text has
MANY_SHARED = 0.16  # share from which the later text need not speak of what is asked
FEWEST_ASKED = 0.7  # of the question's words in the earlier text, how many the later one has below MANY_SHARED
MOST_ADDED = 2  # memories that are read beside the selected ones
NEIGHBOURS = 12  # memories like the first one that are searched by key, and by words
CORROBORATION = 3.0  # nats that both gain if the later one surely changes the earlier one: the question has an answer
LARGEST_SCORE = 12.0  # nats; larger scores of ψ count as this one
LARGEST_LEAD = 15.0  # nats by which the best statement may lead one that is compared with it
_PAST_QUESTION = re.compile(
    r"\b(?:was|were|did|had|before|former\w*|first|previous\w*|used to|ago|in (?:1\d|20)\d\d)\b", re.I
)


_UNSETTLED_QUESTION = re.compile(
    r"\b(?:this (?:week|month|weekend)|temporar\w*|acting|propos\w*|rumou?r\w*|plan\w*|forecast\w*|petition|"
    r"claim\w*)\b",
    re.I,
)


def anyone(source: str | None, other: str | None) -> bool:
    """The `MayChange` of sources that are all trusted."""
    return True


def no_changes(doc_ids: set[str]) -> list[Change]:
    """The `ChangesOf` of a bank without a ledger."""
    return []


@dataclass(frozen=True)
class Statement:
    """What one document says about a question."""

    text: str
    """The text of the memory."""
    first: int
    last: int
    """The characters `first` … `last` of the text, the last one excluded, are the answer."""
    score: float
    """ψ's log-score of the answer against "nowhere", in nats."""
    published_at: datetime
    prior: float = 0.0
    """What the selection adds to the score, in nats."""
    states: tuple[float, ...] = ()
    """ψ's states in the directions of the comparison head (`cmt.modeling.model.ReadSpan`)."""

    @classmethod
    def of(cls, text: str, span: ReadSpan, published_at: datetime, offsets: Offsets) -> "Statement":
        """The statement that ψ reads in `text`, the span without the blanks around it."""
        token_offsets = offsets(text) if math.isfinite(span.score) else ()
        if not token_offsets:
            return cls(text, 0, 0, span.score, published_at, span.prior)
        first, last = token_offsets[span.first][0], token_offsets[min(span.last, len(token_offsets) - 1)][1]
        words = text[first:last]
        first += len(words) - len(words.lstrip())
        return cls(text, first, first + len(words.strip()), span.score, published_at, span.prior, span.states)

    @property
    def answer(self) -> str:
        """The answer, a part of the text."""
        return self.text[self.first : self.last]


class Features(NamedTuple):
    """Features of a pair of statements. Truth values are 0 or 1, counts are at most 3, shares are 0–1."""

    gain: float
    """ψ's score of the later answer minus the one of the earlier answer, in nats."""
    earlier_score: float
    coverage_gain: float
    """Share of the question's words in the later text minus their share in the earlier one."""
    overlap: float
    """Share of the earlier text's words in the later one."""
    context: float
    """Share of the words in the earlier answer's sentence in the later text."""
    names: float
    """Share of the question's names and numbers in the later text."""
    context_names: float
    """Share of the names and numbers in the earlier answer's sentence in the later text."""
    mentions_earlier: float
    """Whether the sentence of the later answer has the earlier one."""
    mentions_later: float
    """Whether the earlier text has the later answer."""
    quoted: float
    """Whether the later answer is inside quotation marks."""
    conditions: float
    """How often the later text tells a condition."""
    plans: float
    """How often the later text tells of the future."""
    memories: float
    """How often the later text looks back."""
    hearsay: float
    """Whether the sentence of the later answer tells hearsay."""
    past_before: float
    """Whether the sentence before it tells of the past."""
    denial_after: float
    """Whether the text after it tells a denial."""
    title_denial: float
    title_change: float
    """Whether the first line of the later text tells a denial, or a change."""
    past_question: float
    unsettled_question: float
    """Whether the question asks for the past, or for a plan, a rumour or an exception."""


# For a compressor without a comparison head; fitted on stories whose facts change, by benchmarks/changes.py.
WEIGHTS = Features(
    gain=0.088,
    earlier_score=-0.049,
    coverage_gain=1.591,
    overlap=6.268,
    context=-1.500,
    names=0.300,
    context_names=0.194,
    mentions_earlier=1.983,
    mentions_later=0.784,
    quoted=-2.027,
    conditions=-0.402,
    plans=-0.190,
    memories=-0.568,
    hearsay=-0.522,
    past_before=0.566,
    denial_after=0.416,
    title_denial=-0.036,
    title_change=0.857,
    past_question=0.273,
    unsettled_question=1.015,
)
CONSTANT = -0.461


def features(question: str, earlier: Statement, later: Statement) -> Features:
    """The features of two statements that answer `question`."""
    before, sentence, after = _sentences_around(later)
    _, earlier_sentence, _ = _sentences_around(earlier)
    title = later.text.partition("\n")[0] if "\n" in later.text else ""
    tells = WAYS_OF_TELLING

    def bounded(score: float) -> float:
        return max(-LARGEST_SCORE, min(LARGEST_SCORE, score))

    def count(way: str) -> int:
        return min(3, len(tells[way].findall(later.text)))

    values = (
        bounded(later.score - earlier.score),
        bounded(earlier.score),
        coverage(question, later.text) - coverage(question, earlier.text),
        coverage(earlier.text, later.text),
        coverage(earlier_sentence, later.text),
        names_covered(question, later.text),
        names_covered(earlier_sentence, later.text),
        bool(earlier.answer) and earlier.answer.lower() in sentence.lower(),
        bool(later.answer) and later.answer.lower() in earlier.text.lower(),
        later.text[: later.first].count('"') % 2,
        count("condition"),
        count("future"),
        count("memory"),
        tells["hearsay"].search(sentence),
        tells["past"].search(before),
        tells["denial"].search(after),
        tells["denial"].search(title),
        tells["change"].search(title),
        _PAST_QUESTION.search(question),
        _UNSETTLED_QUESTION.search(question),
    )
    return Features(*(value if isinstance(value, int | float) else value is not None for value in values))


def _sentences_around(statement: Statement) -> tuple[str, str, str]:
    """The sentence of the answer, between the one before it and the one after it."""
    text = statement.text
    ends = sorted({0, len(text), *sentence_starts(text)})
    sentences = [(start, end) for start, end in pairwise(ends)]
    number = max((n for n, (start, _) in enumerate(sentences) if start <= statement.first), default=0)
    padded = [(0, 0), *sentences, (0, 0)]
    before, sentence, after = (text[slice(*padded[number + shift])] for shift in range(3))
    return before, sentence, after


def probability(question: str, earlier: Statement, later: Statement, head: "ComparisonHead | None" = None) -> float:
    """Probability that the answer to `question` is the one of `later`, from its date on, and not that of `earlier`."""
    values = features(question, earlier, later)
    if head and later.states:
        over_span, _, _, over_text = later.states
        log_odds = float(np.dot(head.features, values)) + head.constant + over_span + over_text
    else:
        log_odds = float(np.dot(WEIGHTS, values)) + CONSTANT
    return 1 / (1 + math.exp(-log_odds))


class Pair(NamedTuple):
    """Two of the memories of a question whose statements were compared, and what came of it."""

    earlier: int
    later: int
    """Indices of the memories."""
    probability: float
    """Probability that the later one's answer holds."""


def weigh(
    question: str,
    statements: Sequence[Statement],
    comparable: Callable[[int, int], bool],
    head: "ComparisonHead | None" = None,
) -> tuple[list[float], list[Pair]]:
    """Nats to add to the log-score of each of `statements`, and the pairs that were compared.

    `comparable`: whether the statements of two indices may be about one fact. The best statement is compared with each
    comparable one in the order of their dates. Both then share what they had, and up to CORROBORATION more: the later
    one has the share `probability` of it, the earlier one the rest; the better one goes on.
    """
    before = [statement.score + statement.prior for statement in statements]
    scores = list(before)
    pairs: list[Pair] = []
    if not any(map(math.isfinite, scores)):
        return [0.0] * len(scores), pairs
    best = max(range(len(scores)), key=scores.__getitem__)
    contenders = [index for index, score in enumerate(scores) if score >= scores[best] - LARGEST_LEAD]
    for other in sorted(contenders, key=lambda index: (statements[index].published_at, index)):
        if other == best or not comparable(best, other):
            continue
        earlier, later = sorted((best, other), key=lambda index: statements[index].published_at)
        one, two = statements[earlier], statements[later]
        if one.published_at == two.published_at or same_value(one.answer, two.answer):
            continue
        share = probability(question, one, two, head)
        both = float(np.logaddexp(scores[earlier], scores[later])) + CORROBORATION * share
        scores[earlier], scores[later] = both + math.log(1 - share), both + math.log(share)
        pairs.append(Pair(earlier, later, share))
        best = later if share > 0.5 else earlier
    return [new - old if new != old else 0.0 for new, old in zip(scores, before, strict=True)], pairs


class Comparisons:
    """The memories of one question, and how their statements compare."""

    def __init__(
        self,
        question: str,
        selection: Selection,
        texts: Sequence[str],
        offsets: Offsets,
        *,
        may_change: MayChange = anyone,
        head: "ComparisonHead | None" = None,
    ) -> None:
        self.question, self.rows, self.texts, self._offsets = question, selection.rows, texts, offsets
        self._may_change, self._head = may_change, head
        self.changes = {frozenset(change.doc_ids): change.state for change in selection.changes}
        self.statements: list[Statement] = []
        self.pairs: list[Pair] = []

    def weigh(self, spans: Sequence[ReadSpan]) -> tuple[list[float], float]:
        """See `cmt.modeling.model.Weigh`."""
        self.statements = [self._statement(*pair) for pair in enumerate(spans)]
        shifts, self.pairs = weigh(self.question, self.statements, self._comparable, self._head)
        return shifts, min((abs(log_odds(pair.probability)) for pair in self.pairs), default=math.inf)

    def contested(self, memory: int) -> bool:
        """Whether it is open if the statement of `memory` holds."""
        return any(memory in pair[:2] and OPEN <= pair.probability <= 1 - OPEN for pair in self.pairs)

    def other_value(self, memory: int) -> OtherValue | None:
        """The value before the statement of `memory`, or one that may have replaced it."""
        for pair in reversed(self.pairs):
            if memory not in pair[:2] or (memory == pair.earlier and pair.probability < OPEN):
                continue
            other = pair.earlier if memory == pair.later else pair.later
            statement = self.statements[other]
            doc_id = self.rows[other]["doc_id"]
            return OtherValue(statement.answer, doc_id, statement.published_at, other == pair.later)
        return None

    def _comparable(self, one: int, other: int) -> bool:
        """Whether the memories of two documents may be about one fact: by a recorded change, or by their words."""
        first, second = self.rows[one], self.rows[other]
        doc_ids = first["doc_id"], second["doc_id"]
        if first["doc_id"] == second["doc_id"] or {first["supersedes"], second["supersedes"]} & {*doc_ids}:
            return False
        if state := self.changes.get(frozenset(doc_ids)):
            return state == "found"
        earlier, later = sorted((one, other), key=lambda index: self.rows[index]["published_at"])
        if not self._may_change(self.rows[later].get("source"), self.rows[earlier].get("source")):
            return False
        return alike(self.question, self.texts[earlier], self.texts[later])

    def _statement(self, memory: int, span: ReadSpan) -> Statement:
        return Statement.of(self.texts[memory], span, self.rows[memory]["published_at"], self._offsets)


def alike(question: str, earlier: str, later: str) -> bool:
    """Whether two texts may be about one fact that `question` asks for, by the words that they share."""
    shared = coverage(earlier, later)
    speaks_of_it = coverage(question, later) >= FEWEST_ASKED * coverage(question, earlier)
    return shared >= MANY_SHARED or (shared >= FEWEST_SHARED and speaks_of_it)


def with_related(
    selection: Selection,
    bank: Bank,
    changes_of: ChangesOf,
    *,
    question: str,
    key: NDArray[np.float32],
    as_of: datetime | None,
    may_change: MayChange = anyone,
) -> Selection:
    """`selection` with memories that may state another value of the same fact, as far as visible at `as_of`.

    These are the other ends of recorded changes, and the later memories most like the first one, by key and words, of
    sources that may change it. At most MOST_ADDED are added, with the log-probability of the memory that they are
    compared with.
    """
    if not selection.rows:
        return selection
    known = {(row["doc_id"], row["published_at"]): row for row in selection.rows}
    changes = changes_of({doc_id for doc_id, _ in known})
    # 1. the other ends of recorded changes
    priors: dict[str, float] = {}
    for change in changes:
        for one, other in ((change.old, change.new), (change.new, change.old)):
            row = known.get((one.doc_id, one.published_at))
            if row and (other.doc_id, other.published_at) not in known and change.state == "found":
                for version in (None, other.published_at):
                    priors.setdefault(memory_id(other.doc_id, other.chunk, version), row["prior"])
    added = bank.memories(set(priors), key=key, as_of=as_of).to_pylist()[:MOST_ADDED] if priors else []
    # 2. the later memories like the first one
    first = selection.rows[0]
    if len(added) < MOST_ADDED and first["text"]:
        taken = {doc_id for doc_id, _ in known} | {row["doc_id"] for row in added}
        for row in bank.later(first["memory_id"], key=key, k=NEIGHBOURS, as_of=as_of).to_pylist():
            if row["doc_id"] in taken or not may_change(row["source"], first["source"]):
                continue
            if alike(question, first["text"], row["text"]):
                taken.add(row["doc_id"])
                priors[row["memory_id"]] = first["prior"]
                added.append(row)
    rows = [{**row, "prior": priors[row["memory_id"]]} for row in added[:MOST_ADDED]]
    return selection._replace(rows=[*selection.rows, *rows], changes=tuple(changes))


class Comparison(NamedTuple):
    """Two documents, each read alone with one question."""

    earlier: Statement
    later: Statement
    probability: float
    """Probability that the later one's answer holds from its date on; 0 if one has no answer or both have the same."""


def compare(
    answerer: "Answerer", question: str, earlier: Sequence[Mapping[str, Any]], later: Sequence[Mapping[str, Any]]
) -> Comparison:
    """Compare what two documents say about `question`, each by the memory that answers it best.

    `earlier` and `later` are the rows of each document in the bank, at least one each.
    """
    rows = [*earlier, *later]
    statements = answerer.statements([question] * len(rows), rows)
    one = max(statements[: len(earlier)], key=attrgetter("score"))
    two = max(statements[len(earlier) :], key=attrgetter("score"))
    if not (one.answer and two.answer) or same_value(one.answer, two.answer):
        return Comparison(one, two, 0.0)
    return Comparison(one, two, probability(question, one, two, answerer.model.comparison))
