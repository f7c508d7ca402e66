"""Whether two sources report the same change independently of each other, judged by their names,
texts and history.

One publisher can use two names. Two sources count as one publisher if

1. their names look alike,
2. or one text copies the other,
3. or one of them has no earlier document about anything else,
4. or both joined the stream with the same later slice.

Two names with a history of their own and texts in different words pass; nothing here distinguishes
them from two real publishers.
"""

import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from difflib import SequenceMatcher
from itertools import combinations
from typing import NamedTuple

from cmt.text.answers import words_of
from cmt.text.sentences import sentences
from cmt.text.shingles import shingles, words

ALIKE = 0.8  # ratio of common characters (difflib) from which two names look alike
COPIED = 0.5  # share of the shorter text's runs of three words from which it copies the other one
_RUN = 3
_ARTICLES = re.compile(r"\b(?:the|a|an|der|die|das|le|la|les|el|il)\b")
_LOOKALIKES = str.maketrans(
    "авеёкмнорстухіјѕԁԛԝαβεηικνορτυχ013458|", "abeekmhopctyxijsdqwabenikvoptuxoleasbl"
)

PastDocuments = Callable[[Collection[str]], Mapping[str, Sequence[tuple[int, str]]]]
"""Sources → for each the committed documents of earlier slices: number of the slice from 0,
doc_id.
"""


class Claim(NamedTuple):
    """A document that reports a change, with the value that the reader finds in it."""

    doc_id: str
    source: str
    text: str
    value: str


def reported_independently(
    claims: Sequence[Claim], owner: str, *, about: Collection[str], past: PastDocuments
) -> bool:
    """Whether two of `claims`, which report the same change, do so independently.

    `owner`: the source of the changed document. `about`: the documents on the same question, which
    give no source a history.
    """
    # 1. Pairs in their own words, whose sources and owner have different names.
    pairs = []
    for first, second in combinations(claims, 2):
        names = first.source, second.source, owner
        if not _any_namesakes(names) and not _copied(first, second):
            pairs.append((first.source, second.source))
    if not pairs:
        return False
    # 2. The slice with which each source joined the stream, by documents about something else.
    joined = dict[str, int]()
    for source, documents in past({source for pair in pairs for source in pair}).items():
        if numbers := [number for number, doc_id in documents if doc_id not in about]:
            joined[source] = min(numbers)
    # 3. Two that have a history, and did not join together after the first slice.
    for one, other in pairs:
        first_slices = joined.get(one), joined.get(other)
        if None not in first_slices and (first_slices == (0, 0) or len({*first_slices}) == 2):
            return True
    return False


def namesakes(first: str, second: str) -> bool:
    """Whether two names of sources look alike: but for case, hyphens, articles, added words or
    lookalike letters.
    """
    first_letters, second_letters = _skeleton(first), _skeleton(second)
    shorter, longer = sorted((first_letters, second_letters), key=len)
    return (
        shorter in longer
        or SequenceMatcher(None, first_letters, second_letters, autojunk=False).ratio() >= ALIKE
    )


def _any_namesakes(names: Iterable[str]) -> bool:
    return any(namesakes(*pair) for pair in combinations(names, 2))


def _skeleton(name: str) -> str:
    name = re.sub(r"\.\w{1,10}$", "", name.removeprefix("file:"))
    letters = unicodedata.normalize("NFKD", name).casefold()
    letters = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return re.sub(r"\W|_", "", _ARTICLES.sub(" ", letters.translate(_LOOKALIKES)))


def _copied(first: Claim, second: Claim) -> bool:
    """Whether one text, or its sentence with the value, mostly repeats the other."""
    parts = [(claim.text, _sentence(claim)) for claim in (first, second)]
    return any(_overlap(*texts) >= COPIED for texts in zip(*parts, strict=True))


def _sentence(claim: Claim) -> str:
    """The sentence that states the value; the whole text if none does."""
    wanted = words_of(claim.value)
    stating = (sentence for sentence in sentences(claim.text) if wanted <= words_of(sentence))
    return next(stating, claim.text)


def _overlap(first: str, second: str) -> float:
    runs, other_runs = (shingles(words(text), _RUN) for text in (first, second))
    return len(runs & other_runs) / max(1, min(len(runs), len(other_runs)))
