"""Training questions made from texts by rule, for streams that come without questions or with few.

A name, a number, a date or a noun phrase of a sentence is the answer. Its clause without it, behind a question word, is
the question: "Ines Vell opened the school in 1987." becomes "When Ines Vell opened the school?". Half of the questions
are noisy, some words left out and others moved a little, so that ψ does not learn to look for equal runs of words.
Both are those of Lewis et al. 2019 (Unsupervised question answering by cloze translation, arXiv 1906.04980).
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

_AFTER = "(?= (?:of|in|on|at|by|to|from|with|and|for|is|was)\\b|[,.;]|$)"
_PHRASE = rf"(?<= )(?:the|an?|its|their|his|her) [a-z][\w-]*(?: [a-z][\w-]+)?{_AFTER}"
_SPAN = re.compile(f"(?P<when>{DATE})|(?P<number>{NUMBER})|(?P<name>{NAME})|(?P<phrase>{_PHRASE})")
_CLAUSE_END = re.compile(r"[;:()–—]| - |, (?=(?:and|but|which|who|while|where|although|because)\b)")
_PREPOSITION = re.compile(
    r"\b(?P<word>in|on|at|to|from|by|near|for|of|with|between|since|until)(?: the)? ?$", re.IGNORECASE
)
_PLACE = frozenset({"in", "at", "to", "from", "near"})
_CLAUSE_WORDS = 4  # that a clause has beside the answer; a shorter one gives way to its sentence
_SENTENCE_WORDS = range(5, 61)
_SHARES = {"when": 1.0, "number": 1.0, "name": 1.0, "phrase": 0.35}
"""How often a span of each kind is asked for, beside the others: phrases are many."""
_NOISY = 0.5
"""Share of the questions with noise."""
_LEFT_OUT = 0.1  # of the words; this and the next from section 2.2 of Lewis et al.
_MOVED = 3  # places that a word moves at most


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
                yield _Span(str(match.lastgroup), sentence, *match.span())


def _question(span: _Span, rng: random.Random) -> str:
    """The clause of the span without it, behind a question word."""
    # 1. the words of the clause before and behind the answer
    starts = [match.end() for match in _CLAUSE_END.finditer(span.sentence) if match.end() <= span.start]
    ends = [match.start() for match in _CLAUSE_END.finditer(span.sentence) if match.start() >= span.end]
    before = span.sentence[max(starts, default=0) : span.start]
    behind = span.sentence[span.end : min(ends, default=len(span.sentence))]
    if len(f"{before} {behind}".split()) < _CLAUSE_WORDS:
        before, behind = span.sentence[: span.start], span.sentence[span.end :]
    # 2. the question word, and a preposition that would stay alone
    preposition = _PREPOSITION.search(before)
    word = _question_word(span.kind, preposition["word"].lower() if preposition else "", behind, rng)
    if preposition and word in ("When", "Where"):
        before = before[: preposition.start()]
    words = f"{before} {behind}".replace('"', "").split()
    if words and before.strip() and span.sentence.startswith(words[0]) and not re.match(NAME, before.strip()):
        words[0] = words[0][0].lower() + words[0][1:]
    # 3. noise
    if rng.random() < _NOISY:
        kept = [item for item in words if rng.random() >= _LEFT_OUT] or words
        places = [place + rng.uniform(0, _MOVED) for place in range(len(kept))]
        words = [item for _, item in sorted(zip(places, kept, strict=True))]
    return f"{word} {' '.join(words)}".rstrip(" .,;:!?") + "?"


def _question_word(kind: str, preposition: str, behind: str, rng: random.Random) -> str:
    if kind == "when":
        return "When"
    if kind == "number":
        return "How many" if re.match(r"\s+[a-z]", behind) else "How much"
    if kind == "name" and preposition in _PLACE:
        return rng.choice(["Where", "Where", "What"])
    return rng.choice(["Who", "What", "Which"]) if kind == "name" else "What"
