"""Words of English text: one splitter, one stemmer, one list of function words.

A word is a run of letters and digits. A separator between two digits belongs to it:

    "Moss's fee, 1,500.50 crowns" → Moss, s, fee, 1,500.50, crowns

Stored sketches of banks without text (`cmt.bank.lexical`) and of forgotten documents
(`cmt.text.shingles`) split words by rules of their own, which belong to their formats.
"""

import re

WORD = re.compile(r"[^\W_]+(?:(?<=\d)[.,:]\d+)*")
STEM = 6  # letters that a word is cut to


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


ARTICLES = _set("a an the")
PREPOSITIONS = _set("""
    about according after against along among as at before besides between by during for from in
    into near of on over since through to under until upon with within without
""")
CONJUNCTIONS = _set("""
    although and because but however if nor or rather so than that then when where while
""")
PRONOUNS = _set("""
    i me my he him his she her it its we us our you your they them their this these those here there
    himself herself itself themselves
""")
AUXILIARIES = _set("""
    is are was were be been being has have had having do does did can could will would shall should
    may might must not
""")
QUESTION_WORDS = _set("what which who whom whose when where why how")
DEGREES = _set("""
    all also another any both each every few less least many more most much no often only other same
    several some such very
""")
FREQUENT_WORDS = _set("""
    a an the of in on at to for from by with and or is are was were be been did do does has have had
    what which who whom whose when where why how many much that this these those it its as into than
    then there their his her they he she you i we not no can could would will may
""")
"""The function words that stored sketches leave out: part of their format."""
FUNCTION_WORDS = frozenset(
    FREQUENT_WORDS
    | ARTICLES
    | PREPOSITIONS
    | CONJUNCTIONS
    | PRONOUNS
    | AUXILIARIES
    | QUESTION_WORDS
    | DEGREES
)
_ACRONYMS = frozenset(["US", "IT", "WHO"])


def words(text: str) -> list[str]:
    """The words of `text` as they are written."""
    return WORD.findall(text)


def is_function_word(word: str) -> bool:
    """Whether `word` is a function word. US, IT and WHO in capitals are names."""
    return word.lower() in FUNCTION_WORDS and word not in _ACRONYMS


def stem(word: str) -> str:
    """`word` in lower case, cut to STEM letters; a number whole, without its commas.

    "Mayoralty" and "mayors" give `mayora` and `mayors`, "1,500" gives `1500`.
    """
    return word.replace(",", "") if word[0].isdigit() else word.lower()[:STEM]


def stems(text: str) -> list[str]:
    """The stems of the words of `text`, without function words."""
    return [stem(word) for word in words(text) if not is_function_word(word)]
