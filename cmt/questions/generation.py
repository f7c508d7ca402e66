"""Training questions generated from texts by rule, for streams with few questions or none.

The words around an answer, after a question word, become the question: "Ines Vell opened the school
in 1987." becomes "When did Ines Vell open the school?" (Lewis et al. 2019, arXiv 1906.04980). The
question often uses another sentence with the same answer, so ψ does not learn to match runs of
words, and often puts the words after the answer first (Fabbri et al. 2020, arXiv 2004.11892). The
frozen LM (`cmt.questions.word_knowledge`) classifies names, for the question word, and supplies
similar words, since people paraphrase.
"""

import random
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import pyarrow as pa

from cmt.questions._spans import FUNCTION_WORD, PAST_VERB, Span, spans
from cmt.questions._words import PREPOSITION, QuestionWords
from cmt.questions.word_knowledge import WordKnowledge
from cmt.stream.schema import QUESTION_SCHEMA

# relative frequency of the kinds that a document has, near their shares in SQuAD (Rajpurkar et al.
# 2016)
_SHARES = {
    "when": 0.15,
    "number": 0.13,
    "name": 0.33,
    "phrase": 0.22,
    "reason": 0.03,
    "way": 0.02,
    "rest": 0.12,
}
# a phrase or name of several words is drawn this many times as early as a single word
_SINGLE_WORD = 3
_ELSEWHERE = 0.6  # share of the questions that use another sentence, if one exists
_COMPARED = 24  # most other sentences with the same answer that are compared
_SHARED = 3  # fewest content words that another sentence shares with the document
_TRIED = 3  # spans drawn per question, because some make a short question
_TURNED = 0.35  # share of the questions in which the words after the answer come first
_NOISY = 0.35  # share of the questions with noise
_LEFT_OUT = 0.3  # largest share of the words that a noisy question omits; drawn for each question
_MOVED = 3  # most positions that a word moves: section 2.2 of Lewis et al.
# largest share of the content words that similar words replace; drawn for each question
_REPLACED = 0.3
_SHARPNESS = 4  # power of the cosine in the draw among similar words
_NAMED = 0.7  # share of the pronouns that the title of the document replaces
_QUESTION_WORDS = range(6, 17)  # most words after the question word; drawn for each question
_ONE_SIDE = 0.6  # share of the questions that use the words on one side of the answer only
_GAPS = (0, 0, 1, 2, 3, 4, 5)  # words omitted on either side of the answer; drawn for each question
_CLAUSE_WORDS = range(4, 11)  # fewest content words around the answer; drawn for each question
_CONTENT_WORDS = 4  # fewest of a question, if the document has enough such questions

_IN_PARENTHESES = re.compile(r"\s*\([^()]*\)|\s*\[[^\[\]]*\]")
_CLAUSE_END = re.compile(
    r"[;:()–—]| - |, | (?=(?:but|which|who|while|where|although|because|that)\b)"
)
VERB_BEHIND = re.compile(
    r" (?:also |often |later |then |first |still |now )?"
    rf"(?:is|are|was|were|has|have|had|can|could|will|would|may|must|did|{PAST_VERB}|\w{{3,}}s)\b"
)
AUXILIARIES = frozenset(
    ["is", "are", "was", "were", "has", "had", "have", "can", "could", "will", "would", "did"]
)
_PRONOUNS, _POSSESSIVES = ("it", "he", "she", "they"), ("its", "his", "her", "their")
_PUNCTUATION = ".,;:()[]{}\"“”‘’'–—-!?"


def generate_questions(
    documents: pa.Table, *, numbers: Mapping[str, int], seed: int, knowledge: WordKnowledge
) -> pa.Table:
    """Questions (QUESTION_SCHEMA) on `documents` (DOCUMENT_SCHEMA), at most `numbers` (doc_id → how
    many) on each.

    A question has the date of its document and one answer, verbatim from the text. The result
    depends only on the arguments; the LM in `knowledge` classifies names.
    """
    # 1. draw spans of each document, each answer once
    drafts, everywhere = [], list[Span]()
    for document in documents.select(["doc_id", "title", "text", "published_at"]).to_pylist():
        rng = random.Random(f"{seed} {document['doc_id']} {document['published_at']}")
        inside = list(spans(document["text"]))
        everywhere += inside
        distinct = {span.answer: span for span in inside}.values()
        drafts.append(
            (
                document,
                list(islice(_drawn(distinct, rng), _TRIED * numbers[document["doc_id"]])),
                rng,
            )
        )
    # 2. classify the names among them
    kinds = knowledge.kinds(
        span.answer for _, drawn, _ in drafts for span in drawn if span.kind == "name"
    )
    # 3. the questions
    writer, rows = _QuestionWriter(everywhere, kinds, knowledge), list[dict[str, Any]]()
    for document, drawn, rng in drafts:
        rows += writer.questions(document, drawn, numbers[document["doc_id"]], rng)
    return pa.Table.from_pylist(rows, schema=QUESTION_SCHEMA)


class _QuestionWriter:
    """Writes questions from all occurrences of an answer and the LM's knowledge of words."""

    def __init__(
        self, everywhere: Sequence[Span], kinds: Mapping[str, str], knowledge: WordKnowledge
    ) -> None:
        self._question_words, self._knowledge = QuestionWords(everywhere, kinds), knowledge
        self._occurrences: dict[str, list[Span]] = defaultdict(list)
        for span in everywhere:
            self._occurrences[span.answer].append(span)

    def questions(
        self, document: Mapping[str, Any], drawn: Sequence[Span], count: int, rng: random.Random
    ) -> Iterator[dict[str, Any]]:
        """At most `count` rows of QUESTION_SCHEMA for the spans `drawn` of the document, in this
        order.
        """
        words = content_words(document["text"])
        # 1. questions, those with few content words last
        made: list[tuple[str, str]] = []
        short: list[tuple[str, str]] = []
        for span in drawn:
            if len(made) == count:
                break
            source = (
                self._elsewhere(span, words, rng) if rng.random() < _ELSEWHERE else None
            ) or span
            question = self._question(source, document["title"] or "", rng)
            few = len(content_words(question)) < _CONTENT_WORDS
            (short if few else made).append((question, span.answer))
        # 2. rows
        for number, (question, answer) in enumerate([*made, *short][:count]):
            yield {
                "question_id": f"made-{document['doc_id']}-{number}",
                "doc_id": document["doc_id"],
                "question": question,
                "answers": [answer],
                "asked_at": document["published_at"],
            }

    def _elsewhere(self, span: Span, words: frozenset[str], rng: random.Random) -> Span | None:
        """The same answer in the clause elsewhere that shares most words with the document, if it
        shares enough.
        """
        others = [
            other for other in self._occurrences[span.answer] if other.sentence != span.sentence
        ]
        if len(others) > _COMPARED:
            others = rng.sample(others, _COMPARED)
        answer_words = content_words(span.answer)
        best, best_shared = None, 0.0
        for other in others:
            clause = content_words(" ".join(_around(other, _CONTENT_WORDS))) - answer_words
            shared = len(clause & words)
            if shared >= _SHARED and 2 * shared >= len(clause) and shared > best_shared:
                best, best_shared = other, shared
        return best

    def _question(self, span: Span, title: str, rng: random.Random) -> str:
        """The clause around the span, after a question word."""
        # 1. the words of the clause before and after the answer
        before, behind = _around(span, rng.choice(_CLAUSE_WORDS))
        # 2. the question word, without the words that it replaces
        asking, before = self._question_words.of(span, before, behind, rng)
        starts, ends = _words(before), _words(behind)
        if starts and span.sentence.startswith(starts[0]) and FUNCTION_WORD.match(starts[0]):
            starts[0] = starts[0].lower()
        # 3. a pronoun most likely refers to the title
        if title and title not in span.answer:
            starts, ends = _named(starts, title, rng), _named(ends, title, rng)
        # 4. the words that people repeat, in the order of a question
        starts, ends = _repeated(starts, ends, rng)
        is_subject = not PREPOSITION.search(before) and VERB_BEHIND.match(behind)
        if is_subject or asking.startswith("How many") or rng.random() < _TURNED:
            words = ends + starts
        elif starts:
            words = self._with_auxiliary_first(starts) + ends
        else:
            words = self._with_auxiliary_first(ends)
        # 5. noise and similar words
        words, replaced = _noisy(words, rng), rng.uniform(0, _REPLACED)
        for index, word in enumerate(words):
            if rng.random() < replaced:
                words[index] = self._similar_word(word, span.answer, rng)
        return f"{asking} {' '.join(words)}?"

    def _with_auxiliary_first(self, words: Sequence[str]) -> list[str]:
        """The words with their first auxiliary verb in front, or with "did" for their first other
        verb in the past.
        """
        verbs = [index for index, word in enumerate(words) if word in AUXILIARIES]
        verbs = verbs or [
            index for index, word in enumerate(words) if re.fullmatch(PAST_VERB, word)
        ]
        return with_verb_first(words, verbs[0], self._knowledge) if verbs else list(words)

    def _similar_word(self, word: str, answer: str, rng: random.Random) -> str:
        """A similar word, drawn by its similarity; `word` itself if it is a name or a function
        word.
        """
        if not word.islower() or FUNCTION_WORD.fullmatch(word):
            return word
        cosines = self._knowledge.similar(word)
        similar = {other: cosines[other] for other in cosines if other not in answer.lower()}
        if not similar:
            return word
        return rng.choices(list(similar), [cosine**_SHARPNESS for cosine in similar.values()])[0]


def _drawn(found: Iterable[Span], rng: random.Random) -> Iterator[Span]:
    """The spans in random order; the kind of the next span is drawn by the shares of the remaining
    kinds.
    """
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


def _around(span: Span, fewest: int) -> tuple[str, str]:
    """The text before and after the span in its clause, and in neighbouring clauses up to `fewest`
    content words.
    """
    before, behind = (_IN_PARENTHESES.sub("", part) for part in (span.before, span.behind))
    starts = [0, *(match.end() for match in _CLAUSE_END.finditer(before))]
    ends = [*(match.start() for match in _CLAUSE_END.finditer(behind)), len(behind)]
    while True:
        clause = before[starts[-1] :], behind[: ends[0]]
        if len(content_words(" ".join(clause))) >= fewest or len(starts) == len(ends) == 1:
            return clause
        if len(starts) > 1:
            starts.pop()
        if len(ends) > 1:
            ends.pop(0)


def _named(words: Sequence[str], title: str, rng: random.Random) -> list[str]:
    """The words with the title in place of some pronouns."""
    pronouns = dict.fromkeys(_PRONOUNS, title) | dict.fromkeys(_POSSESSIVES, f"{title}'s")
    return [pronouns.get(word.lower(), word) if rng.random() < _NAMED else word for word in words]


def _repeated(
    starts: list[str], ends: list[str], rng: random.Random
) -> tuple[list[str], list[str]]:
    """The words before and after an answer that a question repeats.

    People seldom repeat the words on both sides of an answer: often only one side, without the
    nearest words. At most _QUESTION_WORDS stay, the nearest ones.
    """
    if rng.random() < _ONE_SIDE:
        starts, ends = (starts, []) if len(starts) > len(ends) else ([], ends)
    gap = rng.choice(_GAPS)
    far_starts, far_ends = starts[: max(0, len(starts) - gap)], ends[gap:]
    if len(content_words(" ".join([*far_starts, *far_ends]))) >= _CONTENT_WORDS:
        starts, ends = far_starts, far_ends
    limit = rng.choice(_QUESTION_WORDS)
    while len(starts) + len(ends) > limit:
        starts, ends = (starts[1:], ends) if len(starts) > len(ends) else (starts, ends[:-1])
    return starts, ends


def _noisy(words: list[str], rng: random.Random) -> list[str]:
    """The words, of some questions without a few and with the others moved a little."""
    if rng.random() >= _NOISY:
        return list(words)
    left_out = rng.uniform(0, _LEFT_OUT)
    words = [word for word in words if rng.random() >= left_out] or words
    positions = [index + rng.uniform(0, _MOVED) for index in range(len(words))]
    return [word for _, word in sorted(zip(positions, words, strict=True))]


def with_verb_first(words: Sequence[str], verb: int, knowledge: WordKnowledge) -> list[str]:
    """The words with the auxiliary verb at index `verb` in front, or with "did" for another verb in
    the past.
    """
    if words[verb] in AUXILIARIES:
        return [words[verb], *words[:verb], *words[verb + 1 :]]
    return ["did", *words[:verb], knowledge.infinitive(words[verb]), *words[verb + 1 :]]


def _words(text: str) -> list[str]:
    return [bare for word in text.split() if (bare := word.strip(_PUNCTUATION))]


def content_words(text: str) -> frozenset[str]:
    """The words of `text` in lower case, without short ones and function words."""
    return frozenset(
        word.lower() for word in _words(text) if len(word) > 2 and not FUNCTION_WORD.fullmatch(word)
    )
