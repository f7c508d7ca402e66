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
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from cmt.stream.schema import QUESTION_SCHEMA
from cmt.training.question_spans import DETERMINER, FUNCTION_WORD, Span, spans

_SHARES = {"when": 0.15, "number": 0.13, "name": 0.35, "phrase": 0.27, "reason": 0.03, "way": 0.02, "rest": 0.05}
"""How often each kind is asked for, of those that a document has: near the shares of SQuAD (Rajpurkar et al. 2016)."""
_SINGLE_WORD = 3
"""A noun phrase or name of several words comes before three times as many single words."""
_ELSEWHERE = 0.6
"""Share of the questions that are asked with another sentence, of those for which there is one."""
_COMPARED = 24  # other sentences with the same answer that are compared, at most
_SHARED = 3  # content words of the document that another sentence has, at least
_TURNED = 0.25
"""Share of the questions with what is behind the answer first."""
_WHAT_KIND = 0.35
"""Share of the noun phrases of several words whose last word is in the question."""
_NOISY = 0.4
"""Share of the questions with noise."""
_LEFT_OUT = 0.3  # of the words of a noisy question, at most; drawn for each
_MOVED = 3  # places that a word moves at most: section 2.2 of Lewis et al.
_QUESTION_WORDS = range(6, 17)  # beside the question word, at most; drawn for each question
_CONTENT_WORDS = 4  # that a question has at least

_IN_PARENTHESES = re.compile(r"\s*\([^()]*\)|\s*\[[^\[\]]*\]")
_CLAUSE_END = re.compile(r"[;:()–—]| - |, | (?=(?:but|which|who|while|where|although|because|that)\b)")
_PREPOSITION = re.compile(
    r"\b(?P<word>in|on|at|to|from|by|near|for|of|with|between|since|until)(?: the)? ?$", re.IGNORECASE
)
_PAST_VERB = (
    r"\w{2,}ed|became|began|made|took|won|led|gave|found|built|wrote|held|lost|left|came|went|ran|said|saw|grew|fell|met|"
    "brought|bought|sold|sent|told|taught|thought|drew|rose|sang|spoke|kept|fought"
)
_PAST = re.compile(_PAST_VERB)
_VERB_BEHIND = re.compile(
    r" (?:also |often |later |then |first |still |now )?"
    rf"(?:is|are|was|were|has|have|had|can|could|will|would|may|must|did|{_PAST_VERB}|\w{{3,}}s)\b"
)
_AUXILIARIES = frozenset(["is", "are", "was", "were", "has", "had", "have", "can", "could", "will", "would", "did"])
_PUNCTUATION = ".,;:()[]{}\"“”‘’'–—-!?"

_TITLE = (
    "Mr|Mrs|Ms|Dr|Sir|King|Queen|President|Professor|General|Pope|Emperor|Prince|Princess|Lord|Lady|Captain|Colonel|"
    "Cardinal|Bishop|Senator|Judge"
)
_PERSON_BEFORE = re.compile(
    rf"\b(?:{_TITLE}|[Mm]inister|[Dd]irector|[Aa]uthor|[Ss]inger|[Ww]riter|[Aa]ctor|[Aa]ctress|[Pp]ainter|[Cc]omposer|"
    "[Pp]hilosopher|[Hh]istorian|[Ss]cientist|[Mm]ayor|brother|sister|wife|husband|son|daughter|father|mother)"
    r"\.?(?: of)? $"
)
_PERSON_BEHIND = re.compile(
    r",? who\b|,? was born\b|['’]s (?:wife|son|father|death|brother)\b|,? (?:said|says|wrote|argued|argues|died|married|"
    r"believed|claimed|stated|told|described|thought|proposed|directed|composed|sang|painted|was appointed|was elected)\b"
)
_NO_FIRST_NAME = frozenset(
    ["New", "North", "South", "East", "West", "Great", "Saint", "San", "Los", "Las", "Mount", "Lake", "Fort", "Port"]
    + ["United", "Royal", "National", "World", "Grand", "Old", "The", "Central", "Northern", "Southern", "Eastern"]
    + ["Western", "First", "Second", "American", "British", "French", "German", "Roman", "Greek", "Chinese", "Supreme"]
)
_PLACE_BEFORE = re.compile(r"\b(?:in|at|near|into|throughout|across|outside|from)(?: the)? $")
_WHERE = frozenset(["in", "at", "near"])
_APPOSITION = re.compile(r"\b(?:the|an?) (?:[a-z-]+ )?(?P<sort>[a-z]{3,})(?: of| called| named| known as|,)? $")
_APPOSITION_BEHIND = re.compile(
    r", (?:the|an?) (?:[\w-]+ ){0,2}?(?P<sort>[a-z]{4,})(?: (?:of|in|from|that|for|on|by)\b|,)"
)
_SORTS = frozenset(
    "university college school river party war battle empire museum army church act treaty league council island city "
    "county company sea ocean mountain mountains revolution dynasty republic kingdom bridge street airport station "
    "conference championship award prize band film magazine newspaper language institute bank court union agreement "
    "period age movement theory law effect society club team group province state region valley lake palace castle "
    "cathedral temple park stadium hotel system program association federation committee commission".split()
)
"""Last words of names that say what is named."""


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
        self._occurrences: dict[str, list[Span]] = defaultdict(list)
        self._sorts: dict[str, Counter[str]] = defaultdict(Counter)
        for span in everywhere:
            if span.kind != "rest":
                self._occurrences[span.answer].append(span)
            if span.kind == "name":
                self._sorts[span.answer][_sort_here(span)] += 1

    def questions(
        self, document: Mapping[str, Any], inside: Sequence[Span], count: int, rng: random.Random
    ) -> Iterator[dict[str, Any]]:
        """Rows of QUESTION_SCHEMA, at most `count`, for spans of the document, each answer once."""
        words = _content_words(document["text"])
        number = 0
        for span in _drawn({span.answer: span for span in inside}.values(), rng):
            if number == count:
                break
            source = (self._elsewhere(span, words, rng) if rng.random() < _ELSEWHERE else None) or span
            question = self._question(source, rng)
            if len(_content_words(question)) < _CONTENT_WORDS:
                continue
            yield {
                "question_id": f"made-{document['doc_id']}-{number}",
                "doc_id": document["doc_id"],
                "question": question,
                "answers": [span.answer],
                "asked_at": document["published_at"],
            }
            number += 1

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
        asking, before = self._asked(span, before, behind, rng)
        starts, ends = _words(before), _words(behind)
        if starts and span.sentence.startswith(starts[0]) and FUNCTION_WORD.match(starts[0]):
            starts[0] = starts[0].lower()
        # 3. the nearest words, in the order of a question
        most = rng.choice(_QUESTION_WORDS)
        while len(starts) + len(ends) > most:
            starts, ends = (starts[1:], ends) if len(starts) > len(ends) else (starts, ends[:-1])
        is_subject = not _PREPOSITION.search(before) and _VERB_BEHIND.match(behind)
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

    def _asked(self, span: Span, before: str, behind: str, rng: random.Random) -> tuple[str, str]:
        """The question word, and `before` without what the question word stands for beside the answer."""
        # 1. clauses: their conjunction goes
        if span.kind == "reason":
            return "Why", re.sub(r"\bbecause $", "", before)
        if span.kind == "way":
            return "How", re.sub(r"\bby $", "", before)
        # 2. names: a noun beside the name says what is asked for
        if span.kind == "name":
            apposition = _APPOSITION.search(before)
            if apposition:
                return f"{rng.choice(['What', 'Which'])} {apposition['sort']}", before[: apposition.start()]
        before = re.sub(rf"\b{DETERMINER} $", "", before)
        preposition = _PREPOSITION.search(before)
        word = preposition["word"].lower() if preposition else ""
        asking = self._question_word(span, word, behind, rng)
        # 3. a preposition that would stay alone goes
        if preposition and asking.split()[0] in ("When", "Where", "In", "On", "During", "How"):
            before = before[: preposition.start()]
        return asking, before

    def _question_word(self, span: Span, preposition: str, behind: str, rng: random.Random) -> str:
        if span.kind == "when":
            return _when(span.answer, rng)
        if span.kind == "number":
            return _how_many(span.answer, behind, rng)
        if span.kind == "name":
            return self._who_or_what(span, preposition, behind, rng)
        if span.kind == "phrase" and " " in span.answer and " of " not in span.answer and rng.random() < _WHAT_KIND:
            head = span.answer.split()[-1]
            return rng.choice([f"What kind of {head}", f"What type of {head}", f"What {head}", f"Which {head}"])
        return "What"

    def _who_or_what(self, span: Span, preposition: str, behind: str, rng: random.Random) -> str:
        first, *_, last = span.answer.split()[0], span.answer.split()[-1]
        if last.lower() in _SORTS and " " in span.answer:
            return rng.choice([f"What {last.lower()}", f"Which {last.lower()}", "What"])
        sorts = self._sorts[span.answer]
        surname = first != last and first not in _NO_FIRST_NAME and (" of " not in span.answer) and self._sorts[last]
        if 5 * sorts["person"] > sorts.total() or re.match(rf"(?:{_TITLE})\b", span.answer) or surname:
            return "Who"
        if (apposition := _APPOSITION_BEHIND.match(behind)) and rng.random() < 0.7:
            return f"{rng.choice(['What', 'Which'])} {apposition['sort']}"
        if preposition in _WHERE:
            return "Where"
        if 2 * sorts["place"] > sorts.total():
            return rng.choice(["What place", "What country", "Which city", "What"])
        return "Who" if preposition == "by" else rng.choice(["What", "What", "What", "Which", "Who"])


def _drawn(found: Any, rng: random.Random) -> Iterator[Span]:
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


def _when(answer: str, rng: random.Random) -> str:
    if re.fullmatch(r"\d{4}", answer):
        return rng.choice(["When", "When", "In what year", "What year"])
    if answer.endswith(("century", "s")):
        return rng.choice(["When", "During what period"])
    return rng.choice(["When", "When", "On what date"])


def _how_many(answer: str, behind: str, rng: random.Random) -> str:
    if answer.endswith(("%", "percent")):
        return rng.choice(["What percentage", "How much"])
    if answer[0] in "$£€":
        return "How much"
    unit = answer.split()[-1]
    if re.match("(?:year|month|week|day|hour|minute)", unit):
        return rng.choice(
            ["How long", "How old"] if re.match(r" (?:old|ago)", behind) else ["How long", "How many " + unit]
        )
    if unit[0].isalpha() and unit in ("km", "kilometres", "kilometers", "miles", "metres", "meters", "feet"):
        return rng.choice(["How far", "How long", "How many " + unit])
    return "How many" if re.match(r"\s+[a-z]", behind) else rng.choice(["How many", "How much", "What"])


def _sort_here(span: Span) -> str:
    """Whether the words around a name speak of a person or of a place: "person", "place" or ""."""
    if _PERSON_BEFORE.search(span.before) or _PERSON_BEHIND.match(span.behind):
        return "person"
    return "place" if _PLACE_BEFORE.search(span.before) else ""


def _words(text: str) -> list[str]:
    return [bare for word in text.split() if (bare := word.strip(_PUNCTUATION))]


def _content_words(text: str) -> frozenset[str]:
    return frozenset(word.lower() for word in _words(text) if len(word) > 2 and not FUNCTION_WORD.fullmatch(word))
