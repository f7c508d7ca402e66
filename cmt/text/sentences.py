"""Sentences of English text.

A sentence ends at a full stop, a question mark or an exclamation mark, with the quotation marks and
brackets behind it, if a capital letter or a number follows. It also ends with its line. A full stop
ends no sentence

1. after an initial: "J. Moss", "the U.S. Navy",
2. after an abbreviation that a name follows: "Dr. Moss", "Mt. Ellery",
3. after an abbreviation that a number follows: "No. 5", "Sept. 11".
"""

import re
from collections.abc import Iterator

CHUNK_ENDS = frozenset(".!?\n。！？؟")
"""Characters of any language after which a document is cut into memories, which are stored."""
DOCUMENT_ENDS = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])\s*|\n")
"""Places of any language at which a long text is cut into documents, which are stored."""
_END = re.compile(
    r"(?P<word>\w+)(?P<marks>[^\w\s]*[.!?…][\"”’)\]]*)(?=\s+[\"“‘(\[]*(?P<next>[^\W_]))"
)
_BEFORE_NAME = frozenset(
    """
    mr mrs ms dr st ste mt mts ft prof rev hon pres gov sen rep gen col maj lt capt cmdr adm brig
    sgt jr sr vs
    """.split()  # noqa: SIM905 - thirty quoted words read worse
)
_BEFORE_NUMBER = frozenset(
    """
    no nos fig vol pp art ca approx est jan feb mar apr jun jul aug sep sept oct nov dec
    """.split()  # noqa: SIM905
)


def sentences(text: str) -> Iterator[str]:
    """The sentences of `text`, without the blanks around them."""
    start = 0
    for end in [*sorted(sentence_starts(text)), len(text)]:
        if sentence := text[start:end].strip():
            yield sentence
        start = end


def sentence_starts(text: str) -> set[int]:
    """Indices of the characters at which a sentence or a line begins, the blanks before it
    included.
    """
    starts = {found.end() for found in _END.finditer(text) if _is_end(found)}
    return starts.union(index for index, character in enumerate(text) if character == "\n")


def _is_end(found: re.Match[str]) -> bool:
    """Whether a match of _END, which a letter or a number follows, ends its sentence."""
    word, following = found["word"].lower(), found["next"]
    if not following.isupper() and not following.isdigit():
        return False
    if found["marks"] != ".":
        return True
    is_initial = len(word) == 1 and word.isalpha()
    return not is_initial and word not in (_BEFORE_NUMBER if following.isdigit() else _BEFORE_NAME)
