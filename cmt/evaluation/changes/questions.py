"""Questions about a pair of memories: each asks for a value of one text, and the other one is read
with it.
"""

import re
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Sequence
from heapq import nlargest
from operator import attrgetter
from typing import NamedTuple

from cmt.answering.answerer import Answerer
from cmt.answering.judge import FEWEST_ASKED, LEAST_STATED, Statement
from cmt.evaluation.changes._pairs import Memory, Pair
from cmt.questions.gaps import question_on
from cmt.text.display import without_publisher
from cmt.text.names import NAME
from cmt.text.numbers import QUANTITY, TIME
from cmt.text.overlap import coverage
from cmt.text.sentences import sentences
from cmt.text.words import stems

# questions that are made of a text at most; those come first whose words the other text has most of
QUESTIONS = 2
RELATIONS = (
    "Which team does {} play for?",
    "What is the position of {}?",
    "Where is {} based?",
)
"""Questions about a name that both texts have, for facts that texts mention in passing: their
clauses make no question that the other text answers."""
RELATIONS_ASKED = 2  # of them about one name at most: those that ψ answers best
RELATION_SHARE = 0.5  # the `share` of such a question
FEWEST_WORDS = 6  # content words of the clauses that make a question, if the sentence has so many
_CLAUSE_END = re.compile(r"[;:()–—]\s*| - |, ")
_VALUE = re.compile(f"{TIME}|{QUANTITY}|{NAME}")


class MadeQuestion(NamedTuple):
    """A question about a value of one of two texts."""

    question: str
    value: str
    of_earlier: bool  # whether the earlier text has the value
    share: float  # share of the question's words in the other text, 0–1


class Probe(NamedTuple):
    """A question made of one memory of a pair, with which the other one is read."""

    made: MadeQuestion
    pair: Pair
    read: Statement | None = None  # by ψ, if the value is the answer to one of RELATIONS

    @property
    def memories(self) -> tuple[Memory, Memory]:
        """The memory that the question is made of, and the other one."""
        earlier, later = self.pair.earlier, self.pair.later
        return (earlier, later) if self.made.of_earlier else (later, earlier)

    @property
    def stated(self) -> Statement:
        """The value of which the question is made, in its memory."""
        if self.read:
            return self.read
        memory, _ = self.memories
        text = without_publisher(memory)
        skipped = len(memory["text"]) - len(text)
        first = skipped + text.index(self.made.value)
        last, date = first + len(self.made.value), memory["published_at"]
        return Statement(memory["text"], first, last, 0.0, date)


def questions_between(earlier: str, later: str) -> list[MadeQuestion]:
    """Questions about values of either text that share words with the other text.

    Values are numbers, dates and names. Of each text, at most QUESTIONS are asked.
    """
    made = []
    for of_earlier, text, other in ((True, earlier, later), (False, later, earlier)):
        of_text = []
        for value in dict.fromkeys(match[0] for match in _VALUE.finditer(text)):
            if question := _question_about(text, value):
                share = coverage(question, other)
                of_text.append(MadeQuestion(question, value, of_earlier, share))
        best = nlargest(QUESTIONS, of_text, key=attrgetter("share"))
        made += [question for question in best if question.share >= FEWEST_ASKED]
    return made


def relation_probes(answerer: Answerer, pairs: Sequence[Pair]) -> list[Probe]:
    """For each pair that is compared for a name, the RELATIONS_ASKED questions of RELATIONS that ψ
    answers best in the later text, the best one first.
    """
    # 1. read each later memory with all questions about its name
    named = {(pair.subject, pair.later["text"]): pair.later for pair in pairs if pair.subject}
    asked = [(key, relation.format(key[0])) for key in named for relation in RELATIONS]
    questions, rows = [question for _, question in asked], [named[key] for key, _ in asked]
    statements = answerer.statements(questions, rows, expand=False) if asked else []
    # 2. keep the best answers
    answered = defaultdict[tuple[str, str], list[tuple[Statement, str]]](list)
    for (key, question), statement in zip(asked, statements, strict=True):
        if says_of(statement, key[0]):
            answered[key].append((statement, question))
    probes = []
    for pair in pairs:
        found = answered[pair.subject, pair.later["text"]]
        for statement, question in nlargest(RELATIONS_ASKED, found, key=lambda one: one[0].score):
            made = MadeQuestion(question, statement.answer, False, RELATION_SHARE)
            probes.append(Probe(made, pair, statement))
    return probes


def says_of(statement: Statement, name: str) -> bool:
    """Whether `statement` states something of `name`, and more than the name."""
    if not statement.answer or statement.score < LEAST_STATED:
        return False
    return not has_name(statement.answer, name)


def has_name(answer: str, name: str) -> bool:
    """Whether `answer` has the words of `name`, or only words of it, and so says nothing of it."""
    words, of_name = set(stems(answer)), set(stems(name))
    return words <= of_name or of_name <= words


def _question_about(text: str, value: str) -> str | None:
    """A question that `value` answers, made of the clauses around it in the first sentence that has
    it.
    """
    for sentence in sentences(text):
        start = sentence.find(value)
        if start >= 0:
            return question_on(_clauses_around(sentence, start, start + len(value)), value)
    return None


def _clauses_around(sentence: str, first: int, last: int) -> str:
    """The clauses of `sentence` with the characters `first` to `last`, and with FEWEST_WORDS.

    1. Begin with the clauses that hold the characters.
    2. While they have too few content words, add the clause before them, then the one after.
    """
    marks = [match.end() for match in _CLAUSE_END.finditer(sentence)]
    ends = sorted({0, *marks, len(sentence)})
    low, high = bisect_right(ends, first) - 1, bisect_left(ends, last)
    clauses = sentence[ends[low] : ends[high]]
    while len(stems(clauses)) < FEWEST_WORDS and (low > 0 or high < len(ends) - 1):
        low = max(0, low - 1)
        clauses = sentence[ends[low] : ends[high]]
        if len(stems(clauses)) < FEWEST_WORDS:
            high = min(len(ends) - 1, high + 1)
            clauses = sentence[ends[low] : ends[high]]
    return clauses.strip(" ,;:")
