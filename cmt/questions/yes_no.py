"""What a yes-or-no question asserts, and whether sentences have its words."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from cmt.questions._clauses import AUXILIARY
from cmt.text.names import RUN_WITH_PARTICLES
from cmt.text.numbers import DATE, QUANTITY
from cmt.text.words import is_function_word, words

LEAST_SHARED = 0.6  # of the question's words, from which on sentences are about what it asks
_ENDING = re.compile(r"(?<=\w{3})(?:ing|ed|es|s|d|e)$")
_STEM = 6  # letters


def _root(word: str) -> str:
    """`word` without its inflection: "call" of "calling", 1500 of "1,500"."""
    if word[0].isdigit():
        return word.replace(",", "")
    return _ENDING.sub("", word.lower())[:_STEM]


_FILLERS = frozenset(
    map(
        _root,
        """
        still now again already ever really currently actually yet today there any anyone anybody
        somebody someone something anything get got use used make made take
        """.split(),  # noqa: SIM905 - quoted words read worse
    )
)


def are_about(question: str, sentences: Sequence[str]) -> bool:
    """Whether `sentences` have most of the content words of `question`, weighted by their length:
    "Has Bessie had a calf?" and "Bessie was seen with a calf".
    """
    roots = (_root(word) for word in words(question) if not is_function_word(word))
    claim = frozenset(roots) - _FILLERS
    shared = claim.intersection(map(_root, words(" ".join(sentences))))
    return sum(map(len, shared)) >= LEAST_SHARED * (sum(map(len, claim)) or 1)


class Asserted(NamedTuple):
    """A name, number or date in a yes-or-no question."""

    value: str
    question: str  # that asks for it


_AUXILIARY = re.compile(rf"\W*(?P<auxiliary>{AUXILIARY}) (?P<rest>.+?)\W*$", re.IGNORECASE)
# a number behind one of these is a limit, and no value
_LIMIT = re.compile(
    r"\b(?:more than|over|above|at least|less than|fewer than|under|below|at most) $", re.IGNORECASE
)
_PREPOSITION = re.compile(r"\b(?:in|on|since|during|from|by) $", re.IGNORECASE)


def asserted(question: str) -> list[Asserted]:
    """The names, numbers and dates in `question`, each with the question for it: 5 crowns and "How
    many crowns does the ferry cost?".
    """
    match = _AUXILIARY.match(question)
    if not match:
        return []
    rest, found = match["rest"], list[Asserted]()
    taken = list[tuple[int, int]]()
    for asking, pattern in (("When", DATE), ("How many", QUANTITY), ("Who", RUN_WITH_PARTICLES)):
        for term in re.finditer(pattern, rest):
            first, last = term.span()
            before, behind = rest[:first], rest[last:]
            whole = not any(a < last and first < b for a, b in taken) and len(term[0]) > 1
            dated = (
                asking != "When" or any(map(str.isdigit, term[0])) or _PREPOSITION.search(before)
            )
            limit = _LIMIT.search(before)
            if not (whole and dated) or limit or re.match(r"['’]s\b|[-–]| to \d", behind):
                continue
            taken.append((first, last))
            word = asking
            if asking == "When":
                before = _PREPOSITION.sub("", before)
            elif asking == "How many":
                noun = " ".join(term[0].split()[1:]) or (behind.split() or [""])[0]
                word = f"How many {noun}"
                behind = behind if len(term[0].split()) > 1 else behind.strip()[len(noun) :]
            left = " ".join(f"{before} {behind}".split())
            found.append(Asserted(term[0], f"{word} {match['auxiliary'].lower()} {left}?"))
    return found
