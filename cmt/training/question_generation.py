"""Training questions made from texts by rule, for streams that come without questions or with few.

A date, a quantity, a name, a noun phrase or a clause of a document is the answer. The words around it become the
question, without it and behind a question word: "Ines Vell opened the school in 1987." becomes "When did Ines Vell
opened the school?" (Lewis et al. 2019, Unsupervised question answering by cloze translation, arXiv 1906.04980). Where
another sentence of the documents has the same answer and names of this document, that sentence is often asked with, so
that ψ does not learn to look for equal runs of words; and often the words behind the answer come first (Fabbri et al.
2020, Template-based question generation from retrieved sentences, arXiv 2004.11892).
"""

import random
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from cmt.stream.schema import QUESTION_SCHEMA
from cmt.training.question_spans import FUNCTION_WORD, PAST_VERB, Span, spans
from cmt.training.question_words import PREPOSITION, QuestionWords

_SHARES = {"when": 0.15, "number": 0.13, "name": 0.35, "phrase": 0.27, "reason": 0.03, "way": 0.02, "rest": 0.05}
"""How often each kind is asked for, of those that a document has: near the shares of SQuAD (Rajpurkar et al. 2016)."""
_SINGLE_WORD = 3
"""A noun phrase or name of several words comes before three times as many single words."""
_ELSEWHERE = 0.6
"""Share of the questions that are asked with another sentence, of those for which there is one."""
_COMPARED = 24  # other sentences with the same answer that are compared, at most
_SHARED = 3  # content words of the document that another sentence has, at least
_TURNED = 0.35
"""Share of the questions with what is behind the answer first."""
_NOISY = 0.5
"""Share of the questions with noise."""
_LEFT_OUT = 0.3  # of the words of a noisy question, at most; drawn for each
_MOVED = 3  # places that a word moves at most: section 2.2 of Lewis et al.
_QUESTION_WORDS = range(6, 17)  # beside the question word, at most; drawn for each question
_CONTENT_WORDS = 4  # that a question has, where the document has enough such questions

_IN_PARENTHESES = re.compile(r"\s*\([^()]*\)|\s*\[[^\[\]]*\]")
_CLAUSE_END = re.compile(r"[;:()–—]| - |, | (?=(?:but|which|who|while|where|although|because|that)\b)")
_PAST = re.compile(PAST_VERB)
_VERB_BEHIND = re.compile(
    r" (?:also |often |later |then |first |still |now )?"
    rf"(?:is|are|was|were|has|have|had|can|could|will|would|may|must|did|{PAST_VERB}|\w{{3,}}s)\b"
)
_AUXILIARIES = frozenset(["is", "are", "was", "were", "has", "had", "have", "can", "could", "will", "would", "did"])
_PUNCTUATION = ".,;:()[]{}\"“”‘’'–—-!?"


def generate_questions(documents: pa.Table, *, numbers: Mapping[str, int], seed: int) -> pa.Table:
    """Questions (QUESTION_SCHEMA) on `documents` (DOCUMENT_SCHEMA), at most `numbers` (doc_id → how many) on each.

    A question is asked when its document is published, and has one answer, which is verbatim in the text. A pure
    function of the arguments.
    """
    found = [
        (document, list(spans(document["text"])))
        for document in documents.select(["doc_id", "text", "published_at"]).to_pylist()
    ]
    writer = _QuestionWriter([span for _, inside in found for span in inside])
    rows: list[dict[str, Any]] = []
    for document, inside in found:
        rng = random.Random(f"{seed} {document['doc_id']} {document['published_at']}")
        rows += writer.questions(document, inside, numbers[document["doc_id"]], rng)
    return pa.Table.from_pylist(rows, schema=QUESTION_SCHEMA)


class _QuestionWriter:
    """Writes questions with what all documents say of the same answers."""

    def __init__(self, everywhere: Sequence[Span]) -> None:
        self._question_words = QuestionWords(everywhere)
        self._occurrences: dict[str, list[Span]] = defaultdict(list)
        for span in everywhere:
            self._occurrences[span.answer].append(span)

    def questions(
        self, document: Mapping[str, Any], inside: Sequence[Span], count: int, rng: random.Random
    ) -> Iterator[dict[str, Any]]:
        """Rows of QUESTION_SCHEMA, at most `count`, for spans of the document, each answer once."""
        words = _content_words(document["text"])
        # 1. questions on spans in random order, those with few content words behind the others
        asked: list[tuple[str, str]] = []
        short: list[tuple[str, str]] = []
        for span in _drawn({span.answer: span for span in inside}.values(), rng):
            if len(asked) == count:
                break
            source = (self._elsewhere(span, words, rng) if rng.random() < _ELSEWHERE else None) or span
            question = self._question(source, rng)
            few = len(_content_words(question)) < _CONTENT_WORDS
            (short if few else asked).append((question, span.answer))
        # 2. rows
        for number, (question, answer) in enumerate([*asked, *short][:count]):
            yield {
                "question_id": f"made-{document['doc_id']}-{number}",
                "doc_id": document["doc_id"],
                "question": question,
                "answers": [answer],
                "asked_at": document["published_at"],
            }

    def _elsewhere(self, span: Span, words: frozenset[str], rng: random.Random) -> Span | None:
        """The same answer in the other clause that shares most with the document, if one shares enough."""
        others = [other for other in self._occurrences[span.answer] if other.sentence != span.sentence]
        if len(others) > _COMPARED:
            others = rng.sample(others, _COMPARED)
        own = _content_words(span.answer)
        best, most = None, 0.0
        for other in others:
            clause = _content_words(" ".join(_around(other))) - own
            shared = len(clause & words)
            if shared >= _SHARED and 2 * shared >= len(clause) and shared > most:
                best, most = other, shared
        return best

    def _question(self, span: Span, rng: random.Random) -> str:
        """The clause of the span without it, behind a question word."""
        # 1. the words of the clause before and behind the answer
        before, behind = _around(span)
        # 2. the question word; what it stands for is left out
        asking, before = self._question_words.of(span, before, behind, rng)
        starts, ends = _words(before), _words(behind)
        if starts and span.sentence.startswith(starts[0]) and FUNCTION_WORD.match(starts[0]):
            starts[0] = starts[0].lower()
        # 3. the nearest words, in the order of a question
        most = rng.choice(_QUESTION_WORDS)
        while len(starts) + len(ends) > most:
            starts, ends = (starts[1:], ends) if len(starts) > len(ends) else (starts, ends[:-1])
        is_subject = not PREPOSITION.search(before) and _VERB_BEHIND.match(behind)
        if is_subject or asking.startswith("How many") or rng.random() < _TURNED:
            words = ends + starts
        elif starts:
            words = _with_auxiliary_first(starts) + ends
        else:
            words = ends
        # 4. noise
        if rng.random() < _NOISY:
            left_out = rng.uniform(0, _LEFT_OUT)
            kept = [item for item in words if rng.random() >= left_out] or words
            places = [place + rng.uniform(0, _MOVED) for place in range(len(kept))]
            words = [item for _, item in sorted(zip(places, kept, strict=True))]
        return f"{asking} {' '.join(words)}?"


def _drawn(found: Iterable[Span], rng: random.Random) -> Iterator[Span]:
    """The spans in random order; of the kinds that are left each comes next with its share."""
    by_kind: dict[str, list[Span]] = defaultdict(list)
    for span in found:
        by_kind[span.kind].append(span)
    for inside in by_kind.values():
        inside.sort(key=lambda span: rng.random() ** (1 if " " in span.answer else _SINGLE_WORD))
    while by_kind:
        kinds = sorted(by_kind)
        kind = rng.choices(kinds, [_SHARES[kind] for kind in kinds])[0]
        yield by_kind[kind].pop()
        if not by_kind[kind]:
            del by_kind[kind]


def _around(span: Span) -> tuple[str, str]:
    """What is before and behind the span in its clause, with the clauses beside it where that is little."""
    before, behind = (_IN_PARENTHESES.sub("", part) for part in (span.before, span.behind))
    starts = [0, *(match.end() for match in _CLAUSE_END.finditer(before))]
    ends = [*(match.start() for match in _CLAUSE_END.finditer(behind)), len(behind)]
    while True:
        clause = before[starts[-1] :], behind[: ends[0]]
        if len(_content_words(" ".join(clause))) >= _CONTENT_WORDS or len(starts) == len(ends) == 1:
            return clause
        if len(starts) > 1:
            starts.pop()
        if len(ends) > 1:
            ends.pop(0)


def _with_auxiliary_first(words: Sequence[str]) -> list[str]:
    """The words with their first auxiliary verb before them, or with "did" where another verb is in the past."""
    place = next((place for place, word in enumerate(words) if word in _AUXILIARIES), None)
    if place is not None:
        return [words[place], *words[:place], *words[place + 1 :]]
    return ["did", *words] if any(_PAST.fullmatch(word) for word in words) else list(words)


def _words(text: str) -> list[str]:
    return [bare for word in text.split() if (bare := word.strip(_PUNCTUATION))]


def _content_words(text: str) -> frozenset[str]:
    return frozenset(word.lower() for word in _words(text) if len(word) > 2 and not FUNCTION_WORD.fullmatch(word))
