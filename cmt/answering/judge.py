"""The judge: does a later text state another value of the same fact? (docs/method.md#changes)

The answer to a question, the search for changes, the gate and the test for contradictions share
its rules and its constants:

1. `same_fact` compares words and names: are two memories about one fact?
2. `Judge.judge` compares two statements: does the later one hold, and does it change the fact?
   A cross-encoder reads both texts. An LM without one has a simple rule: the newest holds, unsure.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np

from cmt.answering._attribution import Offsets
from cmt.modeling.cross_encoder import CrossEncoder, DatedText, Odds
from cmt.modeling.token_scores import ReadSpan
from cmt.text.display import without_publisher
from cmt.text.effect_dates import ALWAYS, Period, period_of
from cmt.text.overlap import coverage, names_covered
from cmt.text.sentences import sentence_starts

# 1. Which memories are compared.
COMPARED = 3  # largest number of memories that one memory is compared with
# At a question: share of the question's words in the later text, relative to the earlier one.
LEAST_ASKED = 0.3  # below it, the later text is about something else
# Share of the earlier text's words in the later one …
MANY_SHARED = 0.16  # from it on, both are about the same fact
SHARED, MANY_ASKED = 0.12, 0.7  # … and of the question's words: from both on, likewise
FEWEST_SHARED = 0.1  # from it on, they may be about the same fact …
SOME_ASKED, SOME_NAMES = 0.55, 0.5  # … if these shares of question words and names are reached
ENOUGH_ASKED = 0.6  # from it on and with all names, they may be about the same fact
# In a round: shares weighed by inverse document frequency, the first one at least FEWEST_SHARED.
NAMES_SHARED = 0.2  # smallest share of the names of one text in the other one
LEAST_OF_BEST = 0.7  # smallest share of words, relative to the earlier text with most
FEWEST_ASKED = 0.2  # smallest share of a made question's words in the text that is asked
LEAST_STATED = -3.0  # nats, of ψ: below it, a text does not state what is asked about a name

# 2. Probability of a change, from which …
POSSIBLE = 0.05  # … a change is possible
UPDATE = 0.3  # … a document updates the fact of a canary
PROBABLE = 0.5  # … a second value counts in a text that also states the earlier value
CHANGED = 0.75  # … a round records it
CHANGED_NAMED = 0.5  # … a round records a change of what both texts say about a rare name
RIVAL = 0.5  # … a change of another document by the same one is its rival
CHANGED_WITH_RIVAL = 0.9  # … a round records a change that has a rival

# 3. Probability that the later statement holds.
OPEN = 0.15  # from it on, and up to 1 − OPEN, it is open which statement holds
DATED = 0.05  # of a later statement whose dates of effect say that it does not hold at the date
ANNOUNCED = 0.7  # of one that was announced for a day that has come, at least
NEWEST_HOLDS = 0.6  # without a cross-encoder: the newest statement leads, and stays open

# 4. Confidence (0–1, uncalibrated) of a document, read by itself (docs/reliability.md); chosen on
# pairs of statements about the same attribute and about others.
SURE = 0.55  # from it on, the document answers a question
MARGIN = 0.05  # by which a new document may answer less surely than the canary's own
STATED = 0.75  # from it on, the document states another value of the canary's fact

# 5. Scores, in nats.
LARGEST_SCORE = 12.0  # larger differences of ψ's scores count as this one
LARGEST_ODDS = 12.0  # larger log-odds count as these, so no statement loses all its mass
LARGEST_GAP = 6.0  # by which the score of the second value of a text may be lower
LARGEST_LEAD = 15.0  # by which the best statement may lead one that is compared with it
CORROBORATION = 3.0  # both gain it if the later one surely changes the earlier one
# constant, weights of the cross-encoder's two log-odds and of the lead of the later statement's
# score; fitted to real news and to paragraphs that change no fact (docs/method.md#changes)
CALIBRATION = (1.5, 0.9, 0.3, 0.3)

EXCERPT = 450  # characters of a text that the cross-encoder reads

SameFact = Literal["yes", "perhaps", "no", "barred"]
"""Whether two statements are about one fact. With "perhaps" they count if a change is POSSIBLE.

"barred": a declared or rejected change, or their sources, forbid the comparison.
"""


@dataclass(frozen=True)
class Statement:
    """What one document says about a question."""

    text: str  # the text of the memory
    first: int
    last: int  # the characters `first` … `last` of the text, the last one excluded, are the answer
    score: float  # ψ's log-score of the answer against "nowhere", in nats
    published_at: datetime
    prior: float = 0.0  # what the selection adds to the score, in nats
    period: Period = ALWAYS  # dates of effect in the text

    @classmethod
    def of(
        cls, memory: Mapping[str, Any], text: str, span: ReadSpan, offsets: Offsets
    ) -> "Statement":
        """The statement that ψ reads in `text`, that of the bank row `memory`; blanks around the
        span are cut off. A text decoded from the vectors may have fewer tokens than the memory: a
        span behind its last token has no answer in it.
        """
        published_at = memory["published_at"]
        token_offsets = offsets(text) if math.isfinite(span.score) else ()
        if span.first >= len(token_offsets):
            return cls(text, 0, 0, span.score, published_at, span.prior)
        first = token_offsets[span.first][0]
        last = token_offsets[min(span.last, len(token_offsets) - 1)][1]
        words = text[first:last]
        first += len(words) - len(words.lstrip())
        last = first + len(words.strip())
        period = period_of(text, first, last, published_at.date())
        return cls(text, first, last, span.score, published_at, span.prior, period)

    @property
    def answer(self) -> str:
        """The answer, a part of the text."""
        return self.text[self.first : self.last]

    @property
    def holds_from(self) -> datetime:
        """The date of the document, or a later date of effect."""
        if self.period.start is None:
            return self.published_at
        return max(self.published_at, datetime.combine(self.period.start, time.min, UTC))

    def holds_at(self, date: datetime) -> bool:
        """Whether `date` is in the period that the text names."""
        end = self.period.end
        return self.holds_from <= date and (end is None or date.astimezone(UTC).date() <= end)


class Judgement(NamedTuple):
    """Outcome of comparing an earlier and a later statement."""

    holds: float  # P(the later statement gives the answer, from its date on)
    changed: float  # P(both answer the question, and the later one changes the answer)


@dataclass(frozen=True)
class Judge:
    """Compares two statements that answer a question, by the cross-encoder of the LM."""

    cross_encoder: CrossEncoder | None

    def judge(self, question: str, earlier: Statement, later: Statement) -> Judgement:
        """Whether `later` holds, and whether it changes what `earlier` says."""
        # 1. Without a cross-encoder the newest statement is shown first, and no change is recorded.
        if not self.cross_encoder:
            return Judgement(NEWEST_HOLDS, 0.0)
        # 2. ψ's lead distinguishes a memory that answers from one in which ψ guesses.
        odds = self.read(question, earlier, later)
        holds = float(np.dot(CALIBRATION, (1.0, *odds, lead(earlier, later))))
        return Judgement(_probability(holds), _probability(odds.changed))

    def read(self, question: str, earlier: Statement, later: Statement) -> Odds:
        """Log-odds of the cross-encoder, which reads the sentences around both answers."""
        assert self.cross_encoder  # noqa: S101 - narrows the type
        texts = [
            DatedText(excerpt(statement), statement.holds_from.date())
            for statement in (earlier, later)
        ]
        return self.cross_encoder.odds(question, *texts)


def lead(earlier: Statement, later: Statement) -> float:
    """Nats by which ψ scores the later answer higher, at most LARGEST_SCORE."""
    return max(-LARGEST_SCORE, min(LARGEST_SCORE, later.score - earlier.score))


def _probability(log_odds: float) -> float:
    return 1 / (1 + math.exp(-max(-LARGEST_ODDS, min(LARGEST_ODDS, log_odds))))


def same_fact(question: str, earlier: Mapping[str, Any], later: Mapping[str, Any]) -> SameFact:
    """Whether two memories are about one fact that `question` asks for.

    1. A later text with few of the question's words is about something else.
    2. Many of the earlier text's words in the later one: the same fact.
    3. Fewer of them, but the question's words and names: perhaps the same fact.
    """
    of_question = coverage(question, later["text"]) / (coverage(question, earlier["text"]) or 1)
    if of_question < LEAST_ASKED:
        return "no"
    shared = coverage(without_publisher(earlier), without_publisher(later))
    if shared >= MANY_SHARED or (shared >= SHARED and of_question >= MANY_ASKED):
        return "yes"
    named = names_covered(question, later["text"])
    if named == 1 and of_question >= ENOUGH_ASKED:
        return "perhaps"
    if shared >= FEWEST_SHARED and of_question >= SOME_ASKED and named >= SOME_NAMES:
        return "perhaps"
    return "no"


def excerpt(statement: Statement) -> str:
    """The heading and the whole sentences around the answer, at most EXCERPT characters.

    1. A short text stays as it is.
    2. Take the sentence of the answer.
    3. Add the nearest other sentences, earlier ones first, until the next does not fit.
    """
    text = statement.text
    heading = text.partition("\n")[0] if "\n" in text else ""
    if len(text) <= EXCERPT:
        return text
    ends = sorted({len(heading), len(text), *sentence_starts(text)})
    sentences = [*pairwise(end for end in ends if end >= len(heading))]
    answered = max(
        (n for n, (start, _) in enumerate(sentences) if start <= statement.first), default=0
    )
    first = last = answered
    for n in sorted(range(len(sentences)), key=lambda n: abs(n - answered)):
        length = sentences[max(last, n)][1] - sentences[min(first, n)][0]
        if length > EXCERPT - len(heading):
            break
        first, last = min(first, n), max(last, n)
    around = text[sentences[first][0] : sentences[last][1]].strip()
    return f"{heading}\n{around}" if heading else around
