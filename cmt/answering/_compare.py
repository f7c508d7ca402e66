"""Which of the memories of a question holds, if they state different values
(docs/method.md#changes).

`Reading` has the memories of one question as ψ read them, and `compare` decides between them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from operator import itemgetter
from typing import NamedTuple

import numpy as np

from cmt.answering._attribution import Offsets
from cmt.answering._related import MayChange, anyone
from cmt.answering.answer import OtherValue
from cmt.answering.confidence import log_odds
from cmt.answering.judge import (
    ANNOUNCED,
    COMPARED,
    CORROBORATION,
    DATED,
    LARGEST_GAP,
    LARGEST_LEAD,
    OPEN,
    POSSIBLE,
    PROBABLE,
    Judge,
    SameFact,
    Statement,
    same_fact,
)
from cmt.modeling.token_scores import TokenScores
from cmt.retrieval.selector import Selection
from cmt.text.answers import same_value
from cmt.text.effect_dates import asks_ahead
from cmt.text.overlap import coverage, names_covered


@dataclass(frozen=True)
class Reading:
    """The memories of one question, and what ψ reads in them."""

    question: str
    selection: Selection
    texts: Sequence[str]  # of the selected memories: kept in the bank, or decoded from the vectors
    scores: TokenScores  # of all questions of the batch
    row: int  # of this question in the batch
    offsets: Offsets
    as_of: datetime
    may_change: MayChange = anyone

    def statements(self) -> list[Statement]:
        """What each memory says; nothing if ψ scores no tokens."""
        statements = []
        for memory, span in enumerate(self.scores.spans(self.row)):
            row, text = self.selection.rows[memory], self.texts[memory]
            statements.append(Statement.of(row, text, span, self.offsets))
        return statements

    def second_statement(self, later: int, earlier: int) -> Statement:
        """What the memory `later` says without the value of the memory `earlier`."""
        span = self.scores.span_without(self.row, later, earlier)
        return Statement.of(self.selection.rows[later], self.texts[later], span, self.offsets)

    def starts_at(self, statement: Statement) -> date | None:
        """The day from which `statement` holds, if it does not hold yet and the question does not
        ask for what is announced.
        """
        if statement.holds_from <= self.as_of or asks_ahead(self.question):
            return None
        return statement.period.start

    def same_fact(self, first: int, second: int) -> SameFact:
        """Whether two memories are about one fact.

        1. One document, or one that declares to supersede the other: barred.
        2. A recorded change names both: yes, or barred if it was rejected.
        3. The later source may not change the earlier one: barred.
        4. Otherwise their words decide.
        """
        rows = ({**self.selection.rows[n], "text": self.texts[n]} for n in (first, second))
        earlier, later = sorted(rows, key=itemgetter("published_at"))
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
        return same_fact(self.question, earlier, later)


class Pair(NamedTuple):
    """Two compared memories."""

    earlier: int
    later: int  # indices of the memories
    holds: float  # P(the statement of the later memory holds)
    # the later memory's answer that counts, if its best one is the earlier value
    second: Statement | None = None


@dataclass(frozen=True)
class Compared:
    """Outcome for the memories of one question."""

    reading: Reading
    statements: Sequence[Statement]  # as they count: after second readings
    pairs: Sequence[Pair]
    shifts: Sequence[float]  # nats to add to the log-score of each memory; empty: none compared

    @property
    def margin(self) -> float:
        """Smallest change in nats that would alter a decision on the way."""
        return min((abs(log_odds(pair.holds)) for pair in self.pairs), default=math.inf)

    def contested(self, memory: int) -> bool:
        """Whether a comparison leaves open whether the statement of `memory` holds."""
        return any(
            memory in (pair.earlier, pair.later) and OPEN <= pair.holds <= 1 - OPEN
            for pair in self.pairs
        )

    def other_value(self, memory: int) -> OtherValue | None:
        """The value before the statement of `memory`, or one that may have replaced it.

        A text without any name of the question, next to one that has them, is about something else.
        """
        question, texts = self.reading.question, self.reading.texts
        for pair in reversed(self.pairs):
            if memory == pair.later:
                other = pair.earlier
            elif memory == pair.earlier and pair.holds >= OPEN:
                other = pair.later
            else:
                continue
            if names_covered(question, texts[memory]) and not names_covered(question, texts[other]):
                continue
            statement, row = self.statements[other], self.reading.selection.rows[other]
            return OtherValue(
                statement.answer, row["doc_id"], statement.published_at, other == pair.later
            )
        return None


def compare(reading: Reading, judge: Judge) -> Compared:
    """Decide which of the memories of a question holds.

    1. Take the best-scored statement and up to COMPARED others on the same fact, those with most
       of its words.
    2. Walk them by date; compare each with the statement in force. A text that is like the best
       statement's, and not like that in force, is compared with the best statement.
    3. Split the pair's probability mass, and add up to CORROBORATION, in proportion to P(later
       holds). The better one is in force from then on.
    """
    statements = reading.statements() if len(reading.selection.rows) > 1 else []
    before = [statement.score + statement.prior for statement in statements]
    if not any(map(math.isfinite, before)):
        return Compared(reading, statements, [], [0.0] * len(statements))
    # 1. find the best statement, and the others on the same fact
    scores, pairs = list(before), list[Pair]()
    best = max(range(len(scores)), key=scores.__getitem__)
    contenders = [best, *_rivals(reading, statements, scores, best)]
    # 2. in the order of the dates, compare each with the statement in force
    in_force, *followers = sorted(
        contenders, key=lambda memory: (statements[memory].holds_from, memory)
    )
    for later in followers:
        pair = _pair(reading, judge, statements, in_force, best, later)
        if not pair:
            in_force = max(in_force, later, key=scores.__getitem__)
            continue
        # 3. split their mass
        pairs.append(pair)
        statements[later] = pair.second or statements[later]
        both = float(np.logaddexp(scores[in_force], scores[later])) + CORROBORATION * pair.holds
        scores[in_force] = both + math.log(1 - pair.holds)
        scores[later] = both + math.log(pair.holds)
        in_force = later if pair.holds > 0.5 else in_force
    shifts = []
    for new, old in zip(scores, before, strict=True):
        shifts.append(new - old if new != old else 0.0)  # −∞ − −∞ is no number
    return Compared(reading, statements, pairs, shifts)


def _rivals(
    reading: Reading, statements: Sequence[Statement], scores: Sequence[float], best: int
) -> list[int]:
    """The COMPARED memories on the fact of `best` with most of its words."""
    rivals = []
    for memory, score in enumerate(scores):
        if memory == best or not score >= scores[best] - LARGEST_LEAD:
            continue
        if reading.same_fact(best, memory) in ("yes", "perhaps"):
            rivals.append(memory)
    text = statements[best].text
    return sorted(rivals, key=lambda memory: -coverage(text, statements[memory].text))[:COMPARED]


def _pair(
    reading: Reading,
    judge: Judge,
    statements: Sequence[Statement],
    in_force: int,
    best: int,
    later: int,
) -> Pair | None:
    """The outcome for the memory `later`; None if it is not compared, or a change is improbable.

    1. Compare it with the text in force, or with the best one if it is only like that one. A value
       that returns is compared with the text in force.
    2. If both state one value, the later text may state another one, too: read it once more
       without that value.
    3. The judge decides.
    """
    statement = statements[later]
    # 1. choose the earlier text
    like, relation = in_force, reading.same_fact(in_force, later)
    if relation == "no" and statements[best].holds_from < statement.holds_from:
        like, relation = best, reading.same_fact(best, later)
    if same_value(statements[like].answer, statement.answer):
        like = in_force
    if relation not in ("yes", "perhaps"):
        return None
    if not statements[in_force].holds_from < statement.holds_from:
        return None
    # 2. read the later text once more
    earlier, second = statements[like], None
    least = 0.0 if relation == "yes" else POSSIBLE
    if same_value(earlier.answer, statement.answer):
        least, second = PROBABLE, reading.second_statement(later, in_force)
        if second.score < statement.score - LARGEST_GAP:
            return None
        if same_value(earlier.answer, second.answer):
            return None
    # 3. decide
    outcome = judge.judge(reading.question, earlier, second or statement)
    if outcome.changed < least:
        return None
    holds = _by_period(outcome.holds, earlier, second or statement, reading)
    return Pair(in_force, later, holds, second)


def _by_period(holds: float, earlier: Statement, later: Statement, reading: Reading) -> float:
    """P(the later statement holds), given the dates of effect in both texts.

    A question that asks for what is announced, or names a date itself, is left to the judge.
    """
    if asks_ahead(reading.question):
        return holds
    if not later.holds_at(reading.as_of):
        return min(holds, DATED)
    if later.period.end or not earlier.holds_at(reading.as_of):
        return max(holds, 1 - DATED)
    return max(holds, ANNOUNCED) if later.period.start and later.period.firm else holds
