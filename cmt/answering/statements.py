"""Which of two documents' statements holds: the earlier one, or the later one that may have changed
it (docs/method.md#changes).

The memories of a question are compared in pairs (`cmt.answering.comparison`), as far as their words
are alike or a recorded change names both; the pair's scores then move towards the one that probably
holds.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cmt.answering.answer import OtherValue
from cmt.answering.attribution import Offsets
from cmt.answering.comparison import POSSIBLE, Statement, probabilities
from cmt.answering.confidence import log_odds
from cmt.bank.bank import Bank
from cmt.bank.changes import Change
from cmt.bank.memory_ids import memory_id
from cmt.modeling.cross_encoder import CrossEncoder
from cmt.modeling.model import ReadSpan, ReadWithout, Weighed
from cmt.retrieval.selector import Selection
from cmt.text.answers import same_value
from cmt.text.display import without_publisher
from cmt.text.overlap import coverage, names_covered

if TYPE_CHECKING:
    from cmt.answering.answerer import Answerer

ChangesOf = Callable[[set[str] | None], list[Change]]
"""Ids of documents (None: all) → the recorded changes that name one of them, rejected ones
included.
"""
Alike = Literal["yes", "perhaps", "no", "barred"]
"""Whether two statements are about one fact. If they may be, they count only where a change is
POSSIBLE.

They are barred from each other by a declared or rejected change, or by their sources.
"""
MayChange = Callable[[str | None, str | None], bool]
"""Two sources → whether a later document of the first may change what a document of the second
states.
"""

OPEN = 0.15  # probability from which, and up to 1 − OPEN, it is open which of two statements holds
# Shares of the earlier text's words in the later one (SHARED), of its question words (ASKED), of
# the question's names:
LEAST_ASKED = 0.3  # below it, the later text is about something else
MANY_SHARED = 0.16  # from it on, about the same fact
SHARED, MANY_ASKED = 0.12, 0.7  # from both on, about the same fact
FEWEST_SHARED, SOME_ASKED, SOME_NAMES = (
    0.1,
    0.55,
    0.5,
)  # from all three on, perhaps about the same fact
ENOUGH_ASKED = 0.6  # from it on and with all names, perhaps about the same fact
# a later text that states the earlier value and another one counts from this probability of a
# change on
PROBABLE = 0.5
LARGEST_GAP = 6.0  # nats by which the score of that other value may be lower
COMPARED = 3  # the best statement is compared with this many others at most
MOST_ADDED = 2  # memories that are read beside the selected ones
NEIGHBOURS = 12  # memories like the first one that are searched by key, and by words
# nats that both gain if the later one surely changes the earlier one: the question has an answer
CORROBORATION = 3.0
LARGEST_LEAD = 15.0  # nats by which the best statement may lead one that is compared with it


def anyone(source: str | None, other: str | None) -> bool:
    """The `MayChange` of sources that are all trusted."""
    return True


def no_changes(doc_ids: set[str] | None) -> list[Change]:
    """The `ChangesOf` of a bank without a ledger."""
    return []


class Pair(NamedTuple):
    """Two of the memories of a question whose statements were compared, and what came of it."""

    earlier: int
    later: int  # indices of the memories
    probability: float  # probability that the later one's answer holds
    second: Statement | None = (
        None  # the later one's answer that counts, if its best one is the earlier value
    )


def weigh(
    question: str,
    statements: Sequence[Statement],
    comparable: Callable[[int, int], Alike],
    cross_encoder: CrossEncoder | None = None,
    read_without: Callable[[int, int], Statement] | None = None,
) -> tuple[list[float], list[Pair]]:
    """Nats to add to the log-score of each of `statements`, and the pairs that were compared.

    `comparable`: whether the statements of two indices are about one fact. The best statement and
    the COMPARED comparable ones whose texts are most like its text are compared in the order of
    their dates, each with the one that holds so far. Both then share what they had, and up to
    CORROBORATION more: the later one has the share `probability` of it, the earlier one the rest;
    the better one holds. A text that is like the best one, and not like the one that holds, is
    compared with the best one. Where both state one value, the later text may state another one
    beside it: `read_without` gives the statement of a later index without the value of an earlier
    one.
    """
    before = [statement.score + statement.prior for statement in statements]
    scores, statements = list(before), list(statements)
    pairs: list[Pair] = []
    if not any(map(math.isfinite, scores)):
        return [0.0] * len(scores), pairs
    # 1. find the best statement, and its rivals on the same fact
    best = max(range(len(scores)), key=scores.__getitem__)
    contenders = [
        index for index, score in enumerate(scores) if score >= scores[best] - LARGEST_LEAD
    ]
    rivals = [
        other
        for other in contenders
        if other != best and comparable(best, other) in ("yes", "perhaps")
    ]
    nearest = sorted(
        rivals, key=lambda other: -coverage(statements[best].text, statements[other].text)
    )[:COMPARED]
    # 2. in the order of the dates, compare each with the one that holds before it
    date = [statement.published_at for statement in statements]
    holds, *followers = sorted([best, *nearest], key=lambda index: (date[index], index))
    for later in followers:
        like, about = holds, comparable(holds, later)
        if about == "no" and date[best] < date[later]:
            like, about = best, comparable(best, later)
        if same_value(statements[like].answer, statements[later].answer):
            like = holds  # a value that returns
        found = None
        if about in ("yes", "perhaps") and date[holds] < date[later]:
            without = partial(read_without, later, holds) if read_without else None
            least = 0.0 if about == "yes" else POSSIBLE
            found = _later_holds(
                question, statements[like], statements[later], least, cross_encoder, without
            )
        if not found:
            holds = max(holds, later, key=scores.__getitem__)
            continue
        share, second = found
        statements[later] = second or statements[later]
        both = float(np.logaddexp(scores[holds], scores[later])) + CORROBORATION * share
        scores[holds], scores[later] = both + math.log(1 - share), both + math.log(share)
        pairs.append(Pair(holds, later, share, second))
        holds = later if share > 0.5 else holds
    return [
        new - old if new != old else 0.0 for new, old in zip(scores, before, strict=True)
    ], pairs


def _later_holds(
    question: str,
    earlier: Statement,
    later: Statement,
    least: float,
    cross_encoder: CrossEncoder | None,
    read_without: Callable[[], Statement] | None,
) -> tuple[float, Statement | None] | None:
    """The probability that `later` holds, and its statement beside a common value, which
    `read_without` gives.

    None if a change is less probable than `least`.
    """
    second = None
    if same_value(earlier.answer, later.answer):
        least, second = PROBABLE, read_without() if read_without else None
        if (
            not second
            or second.score < later.score - LARGEST_GAP
            or same_value(earlier.answer, second.answer)
        ):
            return None
    share, changed = probabilities(question, earlier, second or later, cross_encoder)
    return (share, second) if changed >= least else None


@dataclass
class Comparisons:
    """The memories of one question, and how their statements compare."""

    question: str
    selection: Selection
    texts: Sequence[str]  # of the selected memories: kept in the bank, or decoded from the vectors
    offsets: Offsets
    may_change: MayChange = anyone
    cross_encoder: CrossEncoder | None = None
    statements: list[Statement] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)

    def weigh(self, spans: Sequence[ReadSpan], read_without: ReadWithout) -> Weighed:
        """See `cmt.modeling.model.Weigh`."""
        self.statements = [self._statement(*pair) for pair in enumerate(spans)]
        shifts, self.pairs = weigh(
            self.question,
            self.statements,
            self._comparable,
            self.cross_encoder,
            lambda later, earlier: self._statement(later, read_without(later, earlier)),
        )
        seconds = {(pair.later, pair.earlier): pair.second for pair in self.pairs if pair.second}
        for (later, _), statement in seconds.items():
            self.statements[later] = statement
        margin = min((abs(log_odds(pair.probability)) for pair in self.pairs), default=math.inf)
        return Weighed(shifts, list(seconds), margin)

    def contested(self, memory: int) -> bool:
        """Whether it is open if the statement of `memory` holds."""
        return any(
            memory in pair[:2] and OPEN <= pair.probability <= 1 - OPEN for pair in self.pairs
        )

    def other_value(self, memory: int) -> OtherValue | None:
        """The value before the statement of `memory`, or one that may have replaced it.

        A text without any name of the question, next to one that has them, is about something else.
        """
        for pair in reversed(self.pairs):
            if memory not in pair[:2] or (memory == pair.earlier and pair.probability < OPEN):
                continue
            other = pair.earlier if memory == pair.later else pair.later
            if (
                names_covered(self.question, self.texts[other])
                == 0
                < names_covered(self.question, self.texts[memory])
            ):
                continue
            statement = self.statements[other]
            doc_id = self.selection.rows[other]["doc_id"]
            return OtherValue(statement.answer, doc_id, statement.published_at, other == pair.later)
        return None

    def _comparable(self, one: int, other: int) -> Alike:
        """Whether the memories of two documents may be about one fact: by a recorded change, or by
        their words.
        """
        pair = ({**self.selection.rows[index], "text": self.texts[index]} for index in (one, other))
        earlier, later = sorted(pair, key=itemgetter("published_at"))
        doc_ids = {earlier["doc_id"], later["doc_id"]}
        if len(doc_ids) == 1 or {earlier["supersedes"], later["supersedes"]} & doc_ids:
            return "barred"
        recorded = [
            change.state for change in self.selection.changes if {*change.doc_ids} == doc_ids
        ]
        if recorded:
            return "yes" if recorded[-1] == "found" else "barred"
        if not self.may_change(later.get("source"), earlier.get("source")):
            return "barred"
        return alike(self.question, earlier, later)

    def _statement(self, memory: int, span: ReadSpan) -> Statement:
        return Statement.of(self.selection.rows[memory], self.texts[memory], span, self.offsets)


def alike(question: str, earlier: Mapping[str, Any], later: Mapping[str, Any]) -> Alike:
    """Whether two memories may be about one fact that `question` asks for, by the words and names
    that both have.
    """
    shared = coverage(without_publisher(earlier), without_publisher(later))
    asked = coverage(question, later["text"]) / (coverage(question, earlier["text"]) or 1)
    if asked < LEAST_ASKED:
        return "no"
    if shared >= MANY_SHARED or (shared >= SHARED and asked >= MANY_ASKED):
        return "yes"
    named = names_covered(question, later["text"])
    if named == 1 and asked >= ENOUGH_ASKED:
        return "perhaps"
    return (
        "perhaps"
        if shared >= FEWEST_SHARED and asked >= SOME_ASKED and named >= SOME_NAMES
        else "no"
    )


def with_related(
    selection: Selection,
    bank: Bank,
    changes_of: ChangesOf,
    *,
    question: str,
    key: NDArray[np.float32],
    as_of: datetime | None,
    may_change: MayChange,
) -> Selection:
    """`selection` with memories that may state another value of the same fact, as far as visible at
    `as_of`.

    These are the other ends of recorded changes, and the later memories most like the first one, by
    key and words, that may be about the same and whose sources may change it. At most MOST_ADDED
    are added, with the log-probability of the memory that they are compared with.
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
    added = (
        bank.memories(set(priors), key=key, as_of=as_of).to_pylist()[:MOST_ADDED] if priors else []
    )
    # 2. the later memories like the first one
    first = selection.rows[0]
    if len(added) < MOST_ADDED and first["text"]:
        taken = {doc_id for doc_id, _ in known} | {row["doc_id"] for row in added}
        for row in bank.later(first["memory_id"], key=key, k=NEIGHBOURS, as_of=as_of).to_pylist():
            if row["doc_id"] in taken or not may_change(row["source"], first["source"]):
                continue
            if alike(question, first, row) != "no":
                taken.add(row["doc_id"])
                priors[row["memory_id"]] = first["prior"]
                added.append(row)
    rows = [{**row, "prior": priors[row["memory_id"]]} for row in added[:MOST_ADDED]]
    return selection._replace(rows=[*selection.rows, *rows], changes=tuple(changes))


class Comparison(NamedTuple):
    """Two documents, each read alone with one question."""

    earlier: Statement
    later: Statement
    # probability that the later one changes the answer; 0 for equal answers or unlike texts
    probability: float


def compare(
    answerer: "Answerer",
    question: str,
    earlier: Sequence[Mapping[str, Any]],
    later: Sequence[Mapping[str, Any]],
) -> Comparison:
    """Compare what two documents say about `question`, each by the memory that answers it best.

    `earlier` and `later` are the rows of each document in the bank, at least one each.
    """
    rows = [*earlier, *later]
    read = list(zip(answerer.statements([question] * len(rows), rows), rows, strict=True))
    parts = read[: len(earlier)], read[len(earlier) :]
    (one, first), (two, second) = (max(part, key=lambda pair: pair[0].score) for part in parts)
    differ = one.answer and two.answer and not same_value(one.answer, two.answer)
    if (
        not differ
        or alike(question, {**first, "text": one.text}, {**second, "text": two.text}) == "no"
    ):
        return Comparison(one, two, 0.0)
    return Comparison(
        one, two, probabilities(question, one, two, answerer.model.cross_encoder).changed
    )
