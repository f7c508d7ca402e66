"""Comparing answers by their words."""

import re
import string

from cmt.text.numbers import MONTHS, QUANTITY, dimension
from cmt.text.words import is_function_word, words

_MONTH = re.compile(rf"\b(?:{'|'.join(MONTHS)})\b")
_QUANTITY = re.compile(QUANTITY)

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


def same_kind(first: str, second: str) -> bool:
    """Whether two answers may give values of one fact: not money and a weight, a date and a price,
    or a number and a name.
    """
    kinds = {_kind(first), _kind(second)}
    if "number" in kinds:  # its unit may be missing
        return kinds.isdisjoint(("name", "date"))
    return len(kinds) == 1 or "" in kinds


def _kind(answer: str) -> str:
    """What the quantity in an answer measures, "number", "date" or "name"; "" for other words."""
    if _MONTH.search(answer):
        return "date"
    if (quantity := _QUANTITY.search(answer)) and (measured := dimension(quantity[0])):
        return measured
    if any(character.isdigit() for character in answer):
        return "number"
    content = [word for word in words(answer) if not is_function_word(word)]
    return "name" if content and all(word[0].isupper() for word in content) else ""
