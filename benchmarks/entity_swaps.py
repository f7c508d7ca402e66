"""Questions with another name: a place, person, firm or year is replaced by one that no document
has.
"""

import random
from collections import defaultdict
from collections.abc import Sequence, Set
from typing import Any, NamedTuple

from cmt.text.names import NAME_OR_YEAR

YEARS = range(1951, 2021)


class Swap(NamedTuple):
    """A question and its variant with another name."""

    row: dict[str, Any]
    kind: str  # `year`, `name`, or `part` of a name
    question: str


def swaps(
    rows: Sequence[dict[str, Any]], texts: Sequence[str], names_from: Sequence[str], *, seed: int
) -> list[Swap]:
    """A variant of each of the questions `rows` that has a name, with a name from the questions
    `names_from`.

    No word of the new name is in `texts`. It has the number of words of the old one and follows the
    same word ("in", "of"); in half of the longer names only the first word is replaced ("Dunmarrow
    Rovers", "Fennick Rovers").
    """
    known = {word for text in texts for word in text.lower().replace("'", " ").split()}
    names = _names_by_place(names_from, known)
    years = [year for year in YEARS if str(year) not in known]
    swapped = []
    for row in rows:
        rng, question = random.Random(f"{seed} {row['question']}"), row["question"]
        matches = list(NAME_OR_YEAR.finditer(question))
        if not matches:
            continue
        match = rng.choice(matches)
        words = match[0].split()
        if match[0].isdigit():
            kind, other = "year", str(rng.choice(years))
        elif len(words) > 1 and rng.random() < 0.5:
            kind, other = "part", " ".join([rng.choice(sorted(names[1, ""])), *words[1:]])
        else:
            before = question[: match.start()].split()[-1].lower()
            fitting = names[len(words), before] or names[len(words), ""] or names[1, ""]
            kind, other = "name", rng.choice(sorted(fitting))
        swapped.append(Swap(row, kind, question[: match.start()] + other + question[match.end() :]))
    return swapped


def _names_by_place(
    questions: Sequence[str], known: Set[str]
) -> defaultdict[tuple[int, str], set[str]]:
    """The names in `questions` without a word of `known`, by their number of words and the word
    before them, and under "" whatever the word before them.
    """
    names = defaultdict[tuple[int, str], set[str]](set)
    for question in questions:
        for match in NAME_OR_YEAR.finditer(question):
            words = match[0].split()
            if match[0].isdigit() or {word.lower() for word in words} & known:
                continue
            before = question[: match.start()].split()[-1].lower()
            names[len(words), before].add(match[0])
            names[len(words), ""].add(match[0])
    return names
