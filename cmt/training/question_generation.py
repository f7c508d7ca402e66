"""Training questions made from texts by rule, for streams that come without questions or with few.

A date, a quantity, a name, a noun phrase or a clause of a document is the answer. The words around it become the
question, without it and behind a question word: "Ines Vell opened the school in 1987." becomes "When did Ines Vell
opened the school?" (Lewis et al. 2019, Unsupervised question answering by cloze translation, arXiv 1906.04980). Where
another sentence of the documents has the same answer and names of this document, that sentence is often asked with, so
that ψ does not learn to look for equal runs of words; and often the words behind the answer come first (Fabbri et al.
2020, Template-based question generation from retrieved sentences, arXiv 2004.11892). The frozen LM lends what it knows
of words (`cmt.training.word_knowledge`): what a name names decides its question word, and some words of a question are
replaced by similar ones, as a person would not ask in the words of the text.
"""

import random
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import pyarrow as pa

from cmt.stream.schema import QUESTION_SCHEMA
from cmt.training.question_spans import FUNCTION_WORD, PAST_VERB, Span, spans
from cmt.training.question_words import PREPOSITION, QuestionWords
from cmt.training.word_knowledge import WordKnowledge

_SHARES = {"when": 0.15, "number": 0.13, "name": 0.33, "phrase": 0.22, "reason": 0.03, "way": 0.02, "rest": 0.12}
"""How often each kind is asked for, of those that a document has: near the shares of SQuAD (Rajpurkar et al. 2016)."""
_SINGLE_WORD = 3
"""A noun phrase or name of several words comes before three times as many single words."""
_ELSEWHERE = 0.6
"""Share of the questions that are asked with another sentence, of those for which there is one."""
_COMPARED = 24  # other sentences with the same answer that are compared, at most
_SHARED = 3  # content words of the document that another sentence has, at least
_TRIED = 3  # times as many spans as questions are drawn, because some make a short question
_TURNED = 0.35
"""Share of the questions with what is behind the answer first."""
_NOISY = 0.35
"""Share of the questions with noise."""
_LEFT_OUT = 0.3  # of the words of a noisy question, at most; drawn for each
_MOVED = 3  # places that a word moves at most: section 2.2 of Lewis et al.
_REPLACED = 0.3
"""Content words of a question that are replaced by similar words, at most; drawn for each."""
_SHARPNESS = 4  # of the draw among similar words: the power of the cosine
_NAMED = 0.7
"""Share of the pronouns that become the title of the document."""
_QUESTION_WORDS = range(6, 17)  # beside the question word, at most; drawn for each question
_ONE_SIDE = 0.6
"""Share of the questions with words of one side of the answer alone."""
_GAPS = (0, 0, 1, 2, 3, 4, 5)  # words beside the answer that are left out, on either side; drawn for each question
_CLAUSE_WORDS = range(4, 11)  # content words beside the answer that are sought at least; drawn for each question
_CONTENT_WORDS = 4  # that a question has, where the document has enough such questions

_IN_PARENTHESES = re.compile(r"\s*\([^()]*\)|\s*\[[^\[\]]*\]")
_CLAUSE_END = re.compile(r"[;:()–—]| - |, | (?=(?:but|which|who|while|where|although|because|that)\b)")
_PAST = re.compile(PAST_VERB)
_VERB_BEHIND = re.compile(
    r" (?:also |often |later |then |first |still |now )?"
    rf"(?:is|are|was|were|has|have|had|can|could|will|would|may|must|did|{PAST_VERB}|\w{{3,}}s)\b"
)
_AUXILIARIES = frozenset(["is", "are", "was", "were", "has", "had", "have", "can", "could", "will", "would", "did"])
_PRONOUNS, _POSSESSIVES = frozenset(["it", "he", "she", "they"]), frozenset(["its", "his", "her", "their"])
_PUNCTUATION = ".,;:()[]{}\"“”‘’'–—-!?"


def generate_questions(
    documents: pa.Table, *, numbers: Mapping[str, int], seed: int, knowledge: WordKnowledge
) -> pa.Table:
    """Questions (QUESTION_SCHEMA) on `documents` (DOCUMENT_SCHEMA), at most `numbers` (doc_id → how many) on each.

    A question is asked when its document is published, and has one answer, which is verbatim in the text. A function
    of the arguments alone; the LM behind `knowledge` predicts what names name.
    """
    found = [
        (document, list(spans(document["text"])))
        for document in documents.select(["doc_id", "title", "text", "published_at"]).to_pylist()
    ]
    # 1. of each document the spans that are asked for, each answer once
    drafts = []
    for document, inside in found:
        rng = random.Random(f"{seed} {document['doc_id']} {document['published_at']}")
        distinct = {span.answer: span for span in inside}.values()
        drafts.append((document, list(islice(_drawn(distinct, rng), _TRIED * numbers[document["doc_id"]])), rng))
    # 2. what the names among them name
    kinds = knowledge.kinds(span.answer for _, drawn, _ in drafts for span in drawn if span.kind == "name")
    # 3. the questions
    writer = _QuestionWriter([span for _, inside in found for span in inside], kinds, knowledge)
    rows = [
        row
        for document, drawn, rng in drafts
        for row in writer.questions(document, drawn, numbers[document["doc_id"]], rng)
    ]
    return pa.Table.from_pylist(rows, schema=QUESTION_SCHEMA)


class _QuestionWriter:
    """Writes questions with what all documents say of the same answers, and what the LM knows of words."""

    def __init__(self, everywhere: Sequence[Span], kinds: Mapping[str, str], knowledge: WordKnowledge) -> None:
        self._question_words, self._knowledge = QuestionWords(everywhere, kinds), knowledge
        self._occurrences: dict[str, list[Span]] = defaultdict(list)
        for span in everywhere:
            self._occurrences[span.answer].append(span)

    def questions(
        self, document: Mapping[str, Any], drawn: Sequence[Span], count: int, rng: random.Random
    ) -> Iterator[dict[str, Any]]:
        """Rows of QUESTION_SCHEMA, at most `count`, for the spans `drawn` of the document, in this order."""
        words = _content_words(document["text"])
        # 1. questions, those with few content words behind the others
        asked: list[tuple[str, str]] = []
        short: list[tuple[str, str]] = []
        for span in drawn:
            if len(asked) == count:
                break
            source = (self._elsewhere(span, words, rng) if rng.random() < _ELSEWHERE else None) or span
            question = self._question(source, document["title"] or "", rng)
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
            clause = _content_words(" ".join(_around(other, _CONTENT_WORDS))) - own
            shared = len(clause & words)
            if shared >= _SHARED and 2 * shared >= len(clause) and shared > most:
                best, most = other, shared
        return best

    def _question(self, span: Span, title: str, rng: random.Random) -> str:
        """The clause of the span without it, behind a question word."""
        # 1. the words of the clause before and behind the answer
        before, behind = _around(span, rng.choice(_CLAUSE_WORDS))
        # 2. the question word; what it stands for is left out
        asking, before = self._question_words.of(span, before, behind, rng)
        starts, ends = _words(before), _words(behind)
        if starts and span.sentence.startswith(starts[0]) and FUNCTION_WORD.match(starts[0]):
            starts[0] = starts[0].lower()
        # 3. a pronoun most likely stands for what the title names
        if title and title not in span.answer:
            starts, ends = ([_without_pronoun(word, title, rng) for word in part] for part in (starts, ends))
        # 4. what a person asks with seldom surrounds the answer: often one side of it, and not the words beside it
        if rng.random() < _ONE_SIDE:
            starts, ends = (starts, []) if len(starts) > len(ends) else ([], ends)
        gap = rng.choice(_GAPS)
        if len(_content_words(" ".join([*starts[: len(starts) - gap], *ends[gap:]]))) >= _CONTENT_WORDS:
            starts, ends = starts[: len(starts) - gap], ends[gap:]
        # 5. the nearest words, in the order of a question
        most = rng.choice(_QUESTION_WORDS)
        while len(starts) + len(ends) > most:
            starts, ends = (starts[1:], ends) if len(starts) > len(ends) else (starts, ends[:-1])
        is_subject = not PREPOSITION.search(before) and _VERB_BEHIND.match(behind)
        if is_subject or asking.startswith("How many") or rng.random() < _TURNED:
            words = ends + starts
        elif starts:
            words = self._with_auxiliary_first(starts) + ends
        else:
            words = self._with_auxiliary_first(ends)
        # 6. noise, and other words for the same
        if rng.random() < _NOISY:
            words = _with_noise(words, rng)
        replaced = rng.uniform(0, _REPLACED)
        words = [self._similar_word(word, span.answer, rng) if rng.random() < replaced else word for word in words]
        return f"{asking} {' '.join(words)}?"

    def _with_auxiliary_first(self, words: Sequence[str]) -> list[str]:
        """The words with their first auxiliary verb before them, or with "did" where another verb is in the past."""
        auxiliary = next((place for place, word in enumerate(words) if word in _AUXILIARIES), None)
        if auxiliary is not None:
            return [words[auxiliary], *words[:auxiliary], *words[auxiliary + 1 :]]
        verb = next((place for place, word in enumerate(words) if _PAST.fullmatch(word)), None)
        if verb is None:
            return list(words)
        return ["did", *words[:verb], self._knowledge.infinitive(words[verb]), *words[verb + 1 :]]

    def _similar_word(self, word: str, answer: str, rng: random.Random) -> str:
        """A word similar to a content word that is no name, drawn by its similarity; else `word` itself."""
        if not word.islower() or FUNCTION_WORD.fullmatch(word):
            return word
        similar = [found for found in self._knowledge.similar(word) if found.word not in answer.lower()]
        if not similar:
            return word
        return rng.choices(similar, [found.similarity**_SHARPNESS for found in similar])[0].word


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


def _around(span: Span, content_words: int) -> tuple[str, str]:
    """What is before and behind the span in its clause, with the clauses beside it up to so many content words."""
    before, behind = (_IN_PARENTHESES.sub("", part) for part in (span.before, span.behind))
    starts = [0, *(match.end() for match in _CLAUSE_END.finditer(before))]
    ends = [*(match.start() for match in _CLAUSE_END.finditer(behind)), len(behind)]
    while True:
        clause = before[starts[-1] :], behind[: ends[0]]
        if len(_content_words(" ".join(clause))) >= content_words or len(starts) == len(ends) == 1:
            return clause
        if len(starts) > 1:
            starts.pop()
        if len(ends) > 1:
            ends.pop(0)


def _without_pronoun(word: str, title: str, rng: random.Random) -> str:
    """`title` for a pronoun, most of the time; else `word` itself."""
    if rng.random() < _NAMED:
        if word.lower() in _PRONOUNS:
            return title
        if word.lower() in _POSSESSIVES:
            return f"{title}'s"
    return word


def _with_noise(words: Sequence[str], rng: random.Random) -> list[str]:
    """The words without some of them, each at most `_MOVED` places from its own."""
    left_out = rng.uniform(0, _LEFT_OUT)
    kept = [word for word in words if rng.random() >= left_out] or words
    places = [place + rng.uniform(0, _MOVED) for place in range(len(kept))]
    return [word for _, word in sorted(zip(places, kept, strict=True))]


def _words(text: str) -> list[str]:
    return [bare for word in text.split() if (bare := word.strip(_PUNCTUATION))]


def _content_words(text: str) -> frozenset[str]:
    return frozenset(word.lower() for word in _words(text) if len(word) > 2 and not FUNCTION_WORD.fullmatch(word))
