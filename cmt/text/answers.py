"""Comparing answers by their words."""

import re
import string

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise_answer(text: str) -> str:
    """`text` in lower case, without ASCII punctuation and the articles a, an, the; with single
    spaces.
    """
    return " ".join(
        re.sub(r"\b(?:a|an|the)\b", " ", text.lower().translate(_NO_PUNCTUATION)).split()
    )


def words_of(text: str) -> set[str]:
    """The words of `normalise_answer`."""
    return set(normalise_answer(text).split())


def same_value(first: str, second: str) -> bool:
    """Whether two answers give the same value: every word of the shorter one is in the other.

    "7.5" and "7.5 tonnes" do, "7" and "7.5" do not. An answer without words gives no value.
    """
    one, other = words_of(first), words_of(second)
    return bool(one and other) and (one <= other or other <= one)
