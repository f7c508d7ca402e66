"""Names in English text.

A name is a run of capitalised words that may have particles and initials between them:

    "a letter by J. H. Moss of Port Ellery" → J. H. Moss of Port Ellery

A single capitalised word is a name unless it begins a sentence. The possessive ending does not
belong to it, nor does a word in lower case behind a hyphen: Moss in "Moss's" and "Moss-led", but
O'Neill and Busch-Reisinger.
"""

import re

from cmt.text.numbers import YEAR
from cmt.text.sentences import sentences
from cmt.text.words import is_function_word, words

# capital letters of the languages with Latin script
_CAPITALS = "A-Z" + "".join(filter(str.isupper, map(chr, range(0xC0, 0x180))))
NAME_WORD = rf"[{_CAPITALS}]\w*(?:-[{_CAPITALS}\d]\w*|['’](?!s\b)\w+)*"
_INITIAL = rf"[{_CAPITALS}]\."
_PARTICLES = "of the|of|de la|de|von|van|the (?=Great|Elder)"
_LINKS = "of|the|and|for|de|&"  # in names of bodies, such as the Board for Trade and Harbours

_FURTHER = rf"(?: (?:(?:{_PARTICLES}) )?(?:{_INITIAL}|{NAME_WORD}))"
INNER_NAME = rf"(?:(?<=[\w,;] )|(?<=\())(?:{_INITIAL}{_FURTHER}+|{NAME_WORD}{_FURTHER}*)"
"""A name that does not begin a sentence."""
NAME = rf"(?:\b(?:{_INITIAL}|{NAME_WORD}(?<=\w\w)){_FURTHER}+|{INNER_NAME})"
"""A name of several words, or a single one that does not begin a sentence."""
NAME_OR_YEAR = re.compile(f"{INNER_NAME}|{YEAR}")
"""A name inside a question, or a year."""
RUN = rf"(?<!\w){NAME_WORD}(?: {NAME_WORD})*"
"""Capitalised words in a row, without particles."""
RUN_WITH_PARTICLES = rf"(?<!\w){NAME_WORD}{_FURTHER}*"
"""Capitalised words in a row, with particles and initials between them."""
TITLE = re.compile(rf"\b(?!The ){NAME_WORD}(?:(?: (?:{_LINKS}))*[ -]{NAME_WORD})+")
"""The name of a body in full, to which an acronym belongs."""


def name_words(text: str) -> list[str]:
    """The capitalised words of `text` that begin no sentence, as evidence of names."""
    found = []
    for sentence in sentences(text):
        found += [word for word in words(sentence)[1:] if word[0].isupper() and len(word) > 1]
    return found


def shared_names(text: str, other: str) -> list[str]:
    """The names that both texts have, as one of them writes it: of each name, the most words in a
    row that the other text has, in any letters.

    "BAIRD, of FC Cincinnati" and "Corey Baird" share Baird.
    """
    shared = []
    for first, second in ((text, other), (other, text)):
        present = f" {' '.join(words(second))} ".lower()
        for match in re.finditer(RUN_WITH_PARTICLES, first):
            name = match[0].split()
            while name and is_function_word(name[0]):
                del name[0]
            shared.append(_longest_part(name, present))
    return [name for name in dict.fromkeys(shared) if len(name) > 2]


def _longest_part(name: list[str], present: str) -> str:
    """The most words of a name in a row that `present` has, without a particle at an end."""
    for length in range(len(name), 0, -1):
        for start in range(len(name) - length + 1):
            part = name[start : start + length]
            ends_well = part[0][0].isupper() and part[-1][0].isupper()
            if ends_well and f" {' '.join(words(' '.join(part)))} ".lower() in present:
                return " ".join(part)
    return ""
