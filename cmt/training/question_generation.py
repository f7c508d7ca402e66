"""Training questions made from texts by rule, for streams that come without questions or with few.

A name, a number, a date or a noun phrase of a sentence is the answer. Its clause without it, behind a question word, is
the question: "Ines Vell opened the school in 1987." becomes "When Ines Vell opened the school?" (Lewis et al. 2019,
Unsupervised question answering by cloze translation, arXiv 1906.04980). Where a quantity is asked for, what is counted
comes first, and some other clauses are turned too (Fabbri et al. 2020, arXiv 2004.11892). A long clause gives only the
words near the answer, as a person asks in a dozen words. Half of the questions are noisy, some words left out and
others moved a little, so that ψ does not learn to look for equal runs of words.
"""

import random
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pyarrow as pa

from cmt.stream.schema import QUESTION_SCHEMA

_MONTH = "(?:January|February|March|April|May|June|July|August|September|October|November|December)"
DATE = rf"\b(?:\d{{1,2}} )?{_MONTH}(?: \d{{1,2}}\b)?(?:,? \d{{4}})?\b|\b[12]\d{{3}}\b"
NUMBER = r"\b\d(?:[\d,.:]*\d)?\b"
NAME = r"\b[A-Z][\w'’-]*[a-z](?: [A-Z][\w'’-]+)+|(?<=[a-z,;] )[A-Z][\w'’-]+"
SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")

_NUMBER_WORD = (
    r"\b(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty|forty|fifty|sixty|ninety)\b"
)
_QUANTITY = rf"(?:[$£€] ?)?{NUMBER}(?:-?%| ?%| percent\b| (?:million|billion|trillion)\b)*|{_NUMBER_WORD}"

_DETERMINER = "(?:the|an?|its|their|his|her)"
_PREPOSITIONS = "in|on|at|to|from|by|near|for|of|with|between|since|until|into|over|under|through|against|during|about"
_NOT_IN_A_PHRASE = (
    f"{_DETERMINER}|{_PREPOSITIONS}|and|or|but|nor|as|than|that|which|who|whom|whose|what|when|where|while|because|if|"
    "this|these|those|it|they|he|she|we|you|i|them|him|us|me|is|are|was|were|be|been|being|has|had|have|having|do|does|"
    "did|can|could|will|would|shall|should|may|might|must|not|no|also|only|then|there|here|so|such|very|more|most|"
    "some|any|all|each|both|other|another|many|few|several|one|itself|themselves|himself|herself|however|rather|after|"
    "before|within|without|among|upon|due|per"
)
_WORD = rf"(?!(?:{_NOT_IN_A_PHRASE})\b)[a-z][\w'’-]*"
_BEHIND = f"(?! (?:of|to)\\b)(?= (?:{_PREPOSITIONS}|and|or|is|are|was|were|has|had|can|will|that|which)\\b|[,.;:)]|$)"
_PHRASE = (
    rf"(?:\b(?:(?!to )(?:{_PREPOSITIONS})|as|and|or|is|are|was|were) |\b(?={_DETERMINER} ))"
    rf"(?P<phrase>(?:{_DETERMINER} )?{_WORD}(?: {_WORD}){{0,3}}(?: of (?:{_DETERMINER} )?[\w-]+(?: {_WORD})?)?)"
    rf"(?<!ed)(?<!ing)(?<!ly){_BEHIND}"
)
"""Up to four words that are no function words, behind a determiner or a word that noun phrases follow."""
_SPAN = re.compile(f"(?P<when>{DATE})|(?P<number>{_QUANTITY})|(?P<name>{NAME})|{_PHRASE}")
_FUNCTION_WORD = re.compile(rf"(?:{_NOT_IN_A_PHRASE})\b", re.IGNORECASE)
_IN_PARENTHESES = re.compile(r"\s*\([^()]*\)|\s*\[[^\[\]]*\]")
_CLAUSE_END = re.compile(r"[;:()–—]| - |, (?=(?:and|but|which|who|while|where|although|because)\b)")
_PREPOSITION = re.compile(
    r"\b(?P<word>in|on|at|to|from|by|near|for|of|with|between|since|until)(?: the)? ?$", re.IGNORECASE
)
_PLACE = frozenset({"in", "at", "to", "from", "near"})
_CLAUSE_WORDS = 6  # that a clause has beside the answer; a shorter one gives way to its sentence
_QUESTION_WORDS = range(7, 17)  # beside the question word, at most; drawn for each question
_SENTENCE_WORDS = range(5, 61)
_SHARES = {"when": 1.0, "number": 1.0, "name": 1.0, "phrase": 0.8}
"""How often a span of each kind is asked for, beside the others: phrases are many."""
_TURNED = 0.3
"""Share of the clauses with what is behind the answer first."""
_NOISY = 0.5
"""Share of the questions with noise."""
_LEFT_OUT = 0.3  # of the words of a noisy question, at most; drawn for each
_MOVED = 3  # places that a word moves at most: section 2.2 of Lewis et al.


class _Span(NamedTuple):
    kind: str
    sentence: str
    start: int
    end: int


def generate_questions(documents: pa.Table, *, numbers: Mapping[str, int], seed: int) -> pa.Table:
    """Questions (QUESTION_SCHEMA) on `documents` (DOCUMENT_SCHEMA), at most `numbers` (doc_id → how many) on each.

    A question is asked when its document is published, and has one answer, which is verbatim in the text. A pure
    function of the arguments; the questions on a document do not depend on the others.
    """
    rows: list[dict[str, Any]] = []
    for document in documents.select(["doc_id", "text", "published_at"]).to_pylist():
        rng = random.Random(f"{seed} {document['doc_id']} {document['published_at']}")
        rows += _questions(document, numbers[document["doc_id"]], rng)
    return pa.Table.from_pylist(rows, schema=QUESTION_SCHEMA)


def _questions(document: dict[str, Any], count: int, rng: random.Random) -> Iterator[dict[str, Any]]:
    # 1. spans, each answer once, in a weighted shuffle (Efraimidis and Spirakis 2006)
    spans = {span.sentence[span.start : span.end]: span for span in _spans(document["text"])}.values()
    drawn = sorted(spans, key=lambda span: rng.random() ** (1 / _SHARES[span.kind]), reverse=True)
    # 2. questions
    for number, span in enumerate(drawn[:count]):
        yield {
            "question_id": f"made-{document['doc_id']}-{number}",
            "doc_id": document["doc_id"],
            "question": _question(span, rng),
            "answers": [span.sentence[span.start : span.end]],
            "asked_at": document["published_at"],
        }


def _spans(text: str) -> Iterator[_Span]:
    for sentence in SENTENCE_END.split(text):
        if len(sentence.split()) in _SENTENCE_WORDS:
            for match in _SPAN.finditer(sentence):
                kind = str(match.lastgroup)
                if not _FUNCTION_WORD.match(match[kind]) or kind == "phrase":
                    yield _Span(kind, sentence, *match.span(kind))


def _question(span: _Span, rng: random.Random) -> str:
    """The clause of the span without it, behind a question word."""
    # 1. the words of the clause before and behind the answer
    before, behind = _around(span)
    # 2. the question word, and a preposition that would stay alone
    preposition = _PREPOSITION.search(before)
    asking = _question_word(span, preposition["word"].lower() if preposition else "", behind, rng)
    if preposition and asking.split()[-1] in ("When", "Where", "year"):
        before = before[: preposition.start()]
    starts = before.split()
    if starts and span.sentence.startswith(starts[0]) and not re.match(NAME, before.strip()):
        starts[0] = starts[0][0].lower() + starts[0][1:]
    ends = behind.split()
    starts, ends = ([bare for word in words if (bare := word.strip(".,;:"))] for words in (starts, ends))
    # 3. the nearest words, in the order of a question
    most = rng.choice(_QUESTION_WORDS)
    while len(starts) + len(ends) > most:
        starts, ends = (starts[1:], ends) if len(starts) > len(ends) else (starts, ends[:-1])
    turned = asking == "How many" or rng.random() < _TURNED
    words = ends + starts if turned else starts + ends
    # 4. noise
    if rng.random() < _NOISY:
        left_out = rng.uniform(0, _LEFT_OUT)
        kept = [item for item in words if rng.random() >= left_out] or words
        places = [place + rng.uniform(0, _MOVED) for place in range(len(kept))]
        words = [item for _, item in sorted(zip(places, kept, strict=True))]
    return f"{asking} {' '.join(words)}".rstrip(" .,;:!?") + "?"


def _around(span: _Span) -> tuple[str, str]:
    """The clause before and behind the span, without what is in parentheses there."""
    before, behind = (
        _IN_PARENTHESES.sub("", part).replace('"', "")
        for part in (span.sentence[: span.start], span.sentence[span.end :])
    )
    starts = [match.end() for match in _CLAUSE_END.finditer(before)]
    end = _CLAUSE_END.search(behind)
    clause = before[max(starts, default=0) :], behind[: end.start() if end else len(behind)]
    return clause if len(" ".join(clause).split()) >= _CLAUSE_WORDS else (before, behind)


def _question_word(span: _Span, preposition: str, behind: str, rng: random.Random) -> str:
    answer = span.sentence[span.start : span.end]
    if span.kind == "when":
        return rng.choice(["When", "When", "In what year", "What year"]) if re.fullmatch(r"\d{4}", answer) else "When"
    if span.kind == "number":
        if answer.endswith(("%", "percent")):
            return rng.choice(["What percentage", "How much"])
        if answer[0] in "$£€":
            return "How much"
        return "How many" if re.match(r"\s+[a-z]", behind) else rng.choice(["How many", "How much", "What"])
    if span.kind == "name" and preposition in _PLACE:
        return rng.choice(["Where", "Where", "What"])
    if span.kind == "name" and preposition == "by":
        return "Who"
    return rng.choice(["Who", "What", "Which"]) if span.kind == "name" else "What"
