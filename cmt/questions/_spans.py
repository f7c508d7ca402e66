"""Possible answers of generated questions: dates, quantities, names, noun phrases and clauses,
found by rule.
"""

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

from cmt.text.names import NAME, NAME_WORD
from cmt.text.numbers import PERIOD, QUANTITY
from cmt.text.sentences import sentences
from cmt.text.words import FUNCTION_WORDS, PREPOSITIONS

Kind = Literal["when", "number", "name", "phrase", "reason", "way", "rest"]

_FIRST_WORD = re.compile(rf"{NAME_WORD}(?=[ ,'’])(?! [A-Z])")

DETERMINER = "(?:[Tt]he|[Aa]n?|[Ii]ts|[Tt]heir|[Hh]is|[Hh]er)"
_PREPOSITIONS = "|".join(sorted(PREPOSITIONS))
_VAGUE_WORDS = ["addition", "due", "example", "first", "one", "order", "part", "per", "way", "well"]
_NOT_IN_A_PHRASE = "|".join(sorted(FUNCTION_WORDS.union(_VAGUE_WORDS)))
FUNCTION_WORD = re.compile(rf"(?:{_NOT_IN_A_PHRASE})\b", re.IGNORECASE)
_WORD = rf"(?!(?:{_NOT_IN_A_PHRASE})\b)[a-z][\w'’-]*"
PAST_VERB = (
    r"\w{2,}ed|became|began|made|took|won|led|gave|found|built|wrote|held|lost|left|came|went|ran|"
    "said|saw|grew|fell|met|brought|bought|sold|sent|told|taught|thought|drew|rose|sang|spoke|kept|fought"
)
_LATER_WORD = rf"(?!\w+ed\b){_WORD}"
_FOLLOWING = f"{_PREPOSITIONS}|and|or|is|are|was|were|has|had|can|will|that|which|{PAST_VERB}"
_BEHIND = rf"(?! (?:of|to)\b)(?= (?:{_FOLLOWING})\b|[,.;:)]|$)"
_PHRASE = (
    rf"(?:\b(?:(?!to )(?:{_PREPOSITIONS})|and|or|is|are|was|were) |\b(?={DETERMINER} ))"
    rf"(?:{DETERMINER} )?"
    rf"(?P<phrase>{_WORD}(?: {_LATER_WORD}){{0,3}}"
    rf"(?: of (?:{DETERMINER} )?[\w-]+(?: {_LATER_WORD})?)?)"
    rf"(?<!ed)(?<!ing)(?<!ly){_BEHIND}"
)
"""Up to four words other than function words, after a determiner or a word that noun phrases
follow.
"""
_CLAUSE_REST = r"[^\s,.;:()]+(?: [^\s,.;:()]+){2,9}(?=[,.;]|$)"
_NAMED = re.compile(f"(?P<when>{PERIOD})|(?P<number>{QUANTITY})|(?P<name>{NAME})")
_NAMES = re.compile(
    rf"(?P<name>{NAME}(?:, (?:{NAME_WORD} ?)+)*,? and {NAME_WORD}(?: {NAME_WORD})*)"
)
_NOUN_PHRASE = re.compile(_PHRASE)
_LONG_PHRASE = re.compile(
    rf"\b(?P<phrase>(?:[Tt]he |[Aa]n? )(?:{_WORD} ){{1,3}}(?:of|in|for|to|from|with|between|and) "
    rf"(?:(?:the|an?|its|their) )?(?:[\w'’-]+ ){{0,2}}[\w'’-]+){_BEHIND}"
)  # a noun phrase with its determiner and a prepositional phrase
_PURPOSE = re.compile(
    r"\bto (?P<rest>(?!the\b|an?\b|its\b|their\b)"
    r"[a-z]+ [^\s,.;:()]+(?: [^\s,.;:()]+){1,6}(?=[,.;]|$))"
)
_CLAUSE = re.compile(
    rf"\bbecause (?!of\b)(?P<reason>{_CLAUSE_REST})|\bby (?P<way>\w+ing {_CLAUSE_REST})"
    rf"|\b(?:is|are|was|were) (?:an?|the) (?P<rest>{_CLAUSE_REST})"
)
_PART_OF_NUMBER = re.compile(r"[/:–#§]")  # of a fraction, a range, a reference
_SENTENCE_WORDS = range(5, 61)


class Span(NamedTuple):
    """Characters `start` to `end` of a sentence, as an answer of a `kind`."""

    kind: Kind
    sentence: str
    start: int
    end: int

    @property
    def answer(self) -> str:
        return self.sentence[self.start : self.end]

    @property
    def before(self) -> str:
        return self.sentence[: self.start]

    @property
    def behind(self) -> str:
        return self.sentence[self.end :]


def spans(text: str) -> Iterator[Span]:
    """The possible answers in a text, in order; answers in one sentence may overlap."""
    lower = frozenset(re.findall(r"\b[a-z]\w+", text))
    for sentence in sentences(text):
        if len(sentence.split()) not in _SENTENCE_WORDS:
            continue
        # 1. a name that begins the sentence: a word that never appears in lower case
        first = _FIRST_WORD.match(sentence)
        if first and not FUNCTION_WORD.fullmatch(first[0]) and first[0].lower() not in lower:
            yield Span("name", sentence, *first.span())
        # 2. the others
        for pattern in (_NAMED, _NAMES, _NOUN_PHRASE, _LONG_PHRASE, _CLAUSE, _PURPOSE):
            for match in pattern.finditer(sentence):
                kind: Kind = match.lastgroup  # type: ignore[assignment]
                in_parentheses = sentence.count("(", 0, match.start()) > sentence.count(
                    ")", 0, match.start()
                )
                around = sentence[: match.start()][-1:] + sentence[match.end() :][:1]
                if kind in ("number", "when") and _PART_OF_NUMBER.search(around):
                    continue
                if in_parentheses and kind in ("phrase", "reason", "way", "rest"):
                    continue
                if not (kind == "name" and FUNCTION_WORD.match(match[kind])):
                    yield Span(kind, sentence, *match.span(kind))
