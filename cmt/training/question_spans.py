"""What a made question may ask for: dates, quantities, names, noun phrases and clauses of a text, found by rule."""

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

_MONTH = "(?:January|February|March|April|May|June|July|August|September|October|November|December)"
DATE = rf"\b(?:\d{{1,2}} )?{_MONTH}(?: \d{{1,2}}\b)?(?:,? \d{{4}})?\b|\b[12]\d{{3}}\b"
NUMBER = r"\b\d(?:[\d,.:]*\d)?\b"
NAME = r"\b[A-Z][\w'’-]*[a-z](?: [A-Z][\w'’-]+)+|(?<=[a-z,;] )[A-Z][\w'’-]+"
SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")

Kind = Literal["when", "number", "name", "phrase", "reason", "way", "rest"]

_NUMBER_WORD = (
    r"\b(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty|forty|fifty|sixty|ninety)\b(?!-)"
)
_DECADE = r"\b(?:the )?(?:early |mid-|late )?[12]\d\d0s\b|\b\d{1,2}(?:th|st|nd|rd) century\b"
_UNIT = "years?|months?|weeks?|days?|hours?|minutes?|km|kilomet(?:re|er)s|miles|met(?:re|er)s|feet|°C|tonnes|tons"
_QUANTITY = (
    rf"(?:[$£€] ?)?(?:{NUMBER}|{_NUMBER_WORD})(?:-?%| ?%| percent\b| (?:million|billion|trillion|thousand|hundred)\b)*"
    rf"(?: (?:{_UNIT}))?"
)
_LONG_NAME = (
    r"\b(?:[A-Z][\w'’-]*[a-z]|[A-Z]{2,}|[A-Z]\.)(?: (?:(?:of|of the|de|von|van) )?(?:[A-Z][\w'’-]+|[A-Z]\.))+"
    r"|(?<=[a-z,;] )[A-Z][\w'’-]+"
)

DETERMINER = "(?:the|an?|its|their|his|her)"
_PREPOSITIONS = "in|on|at|to|from|by|near|for|of|with|between|since|until|into|over|under|through|against|during|about"
_NOT_IN_A_PHRASE = (
    f"{DETERMINER}|{_PREPOSITIONS}|and|or|but|nor|as|than|that|which|who|whom|whose|what|when|where|while|because|if|"
    "this|these|those|it|they|he|she|we|you|i|them|him|us|me|is|are|was|were|be|been|being|has|had|have|having|do|does|"
    "did|can|could|will|would|shall|should|may|might|must|not|no|also|only|then|there|here|so|such|very|more|most|"
    "some|any|all|each|both|other|another|many|few|several|one|itself|themselves|himself|herself|however|rather|after|"
    "before|within|without|among|upon|due|per|first|same|way|addition|example|part|order|much|less|least|well|often"
)
FUNCTION_WORD = re.compile(rf"(?:{_NOT_IN_A_PHRASE})\b", re.IGNORECASE)
_WORD = rf"(?!(?:{_NOT_IN_A_PHRASE})\b)[a-z][\w'’-]*"
_BEHIND = f"(?! (?:of|to)\\b)(?= (?:{_PREPOSITIONS}|and|or|is|are|was|were|has|had|can|will|that|which)\\b|[,.;:)]|$)"
_PHRASE = (
    rf"(?:\b(?:(?!to )(?:{_PREPOSITIONS})|as|and|or|is|are|was|were) |\b(?={DETERMINER} ))"
    rf"(?:{DETERMINER} )?(?P<phrase>{_WORD}(?: {_WORD}){{0,3}}(?: of (?:{DETERMINER} )?[\w-]+(?: {_WORD})?)?)"
    rf"(?<!ed)(?<!ing)(?<!ly){_BEHIND}"
)
"""Up to four words that are no function words, behind a determiner or a word that noun phrases follow."""
_CLAUSE_REST = r"[^\s,.;:()]+(?: [^\s,.;:()]+){2,9}(?=[,.;]|$)"
_NAMED = re.compile(f"(?P<when>{DATE}|{_DECADE})|(?P<number>{_QUANTITY})|(?P<name>{_LONG_NAME})")
_NOUN_PHRASE = re.compile(_PHRASE)
_CLAUSE = re.compile(
    rf"\bbecause (?!of\b)(?P<reason>{_CLAUSE_REST})|\bby (?P<way>\w+ing {_CLAUSE_REST})"
    rf"|\b(?:is|are|was|were) (?:an?|the) (?P<rest>{_CLAUSE_REST})"
)
_INITIAL = re.compile(r"\b(?:[A-Z]|Mr|Mrs|Ms|Dr|St|No|vs|Jr)\.$")
_SENTENCE_WORDS = range(5, 61)


class Span(NamedTuple):
    """Characters `start` to `end` of a sentence, and what kind of answer they are."""

    kind: Kind
    sentence: str
    start: int
    end: int

    @property
    def answer(self) -> str:
        """The characters themselves."""
        return self.sentence[self.start : self.end]

    @property
    def before(self) -> str:
        """The sentence before the answer."""
        return self.sentence[: self.start]

    @property
    def behind(self) -> str:
        """The sentence behind the answer."""
        return self.sentence[self.end :]


def spans(text: str) -> Iterator[Span]:
    """The possible answers of a text, in order; those of one sentence may overlap."""
    for sentence in _sentences(text):
        if len(sentence.split()) not in _SENTENCE_WORDS:
            continue
        for pattern in (_NAMED, _NOUN_PHRASE, _CLAUSE):
            for match in pattern.finditer(sentence):
                kind: Kind = match.lastgroup  # type: ignore[assignment]
                start, end = match.span(kind)
                in_parentheses = sentence[:start].count("(") > sentence[:start].count(")")
                if not in_parentheses and not (kind == "name" and FUNCTION_WORD.match(match[kind])):
                    yield Span(kind, sentence, start, end)


def _sentences(text: str) -> Iterator[str]:
    """Sentences of `text`; a full stop behind an initial or a title ends none."""
    start = 0
    for match in SENTENCE_END.finditer(text):
        if not _INITIAL.search(text, start, match.start()):
            yield text[start : match.start()]
            start = match.end()
    yield text[start:]
