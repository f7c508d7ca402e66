"""Questions in the words of one sentence, for people to read.

"Ines Vell opened the school in 1987." gives "Who opened the school in 1987?" and "When did Ines
Vell open the school?".

Those of `cmt.questions.generation` are made hard, for training.
"""

import re
from operator import itemgetter
from typing import NamedTuple

import pyarrow as pa

from cmt.questions._spans import FUNCTION_WORD, PAST_VERB, Span, spans
from cmt.questions._words import QuestionWords
from cmt.questions.generation import AUXILIARIES, VERB_BEHIND, content_words, with_verb_first
from cmt.questions.word_knowledge import WordKnowledge
from cmt.text.markdown import prose
from cmt.text.words import PRONOUNS

_LEAST_CONTENT = 3  # content words of a question
_WORDS = range(4, 17)
_CLAUSE_END = re.compile(
    r"[;:()–—.]| - |, |\b(?:and|but|because|when|while|who|which|whom|whose|that|where|if)\b"
)
_DATED = re.compile(r"(?:,? \b(?:in|on|since|until|by|from)(?: the)?) $", re.IGNORECASE)
_UNCLEAR = re.compile(rf"\b(?:{'|'.join(sorted(PRONOUNS))}|such|so|one)\b", re.IGNORECASE)
"""Words that need the sentences before."""
_VERB = re.compile(rf" (?:{'|'.join(sorted(AUXILIARIES))}|{PAST_VERB})\b")


class PlainQuestion(NamedTuple):
    """A question with the answer that its document gives."""

    doc_id: str
    question: str
    answer: str


def plain_questions(documents: pa.Table, knowledge: WordKnowledge) -> list[PlainQuestion]:
    """Questions on `documents` (DOCUMENT_SCHEMA): the longest one of each document, then the other
    ones.
    """
    # 1. the subjects and dates of clauses, and what their names mean
    asked_for = list[tuple[str, Span]]()
    for row in documents.select(["doc_id", "text"]).to_pylist():
        for span in spans("\n".join(prose(row["text"]))):
            if span.kind in ("name", "when"):
                asked_for.append((row["doc_id"], span))
    names = [span for _, span in asked_for if span.kind == "name"]
    subjects = [span.answer for span in names if _is_subject(span)]
    words = QuestionWords(names, knowledge.kinds(subjects))
    # 2. their questions by document
    questions: dict[str, list[PlainQuestion]] = {}
    for doc_id, span in asked_for:
        text = _who(span, words) if span.kind == "name" else _when(span, knowledge)
        if text and not _UNCLEAR.search(text) and len(content_words(text)) >= _LEAST_CONTENT:
            questions.setdefault(doc_id, []).append(PlainQuestion(doc_id, text, span.answer))
    # 3. the longest one of each document first
    ranked = list[tuple[int, PlainQuestion]]()
    for of_document in questions.values():
        of_document.sort(key=lambda question: -len(content_words(question.question)))
        ranked += enumerate(of_document)
    return [question for _, question in sorted(ranked, key=itemgetter(0))]


def _is_subject(span: Span) -> bool:
    """Whether a clause begins with the span; a single word, which may be no name, needs an
    unmistakable verb.
    """
    verb = VERB_BEHIND if " " in span.answer else _VERB
    return span.before in ("", "The ") and bool(verb.match(span.behind))


def _who(span: Span, words: QuestionWords) -> str | None:
    """The clause after its subject, which is the answer."""
    rest = _CLAUSE_END.split(span.behind)[0].strip()
    if not _is_subject(span) or len(rest.split()) not in _WORDS:
        return None
    return f"{'Who' if words.acts(span.answer) else 'What'} {rest}?"


def _when(span: Span, knowledge: WordKnowledge) -> str | None:
    """The clause before its date, which is the answer, with its auxiliary verb or "did" in
    front.
    """
    before = _DATED.sub("", span.before)
    clause = before.split()
    if before == span.before or _CLAUSE_END.search(before) or len(clause) not in _WORDS:
        return None
    verb = next(
        (
            n
            for n, word in enumerate(clause)
            if word in AUXILIARIES or re.fullmatch(PAST_VERB, word)
        ),
        0,
    )
    if not verb:
        return None
    if FUNCTION_WORD.match(clause[0]):
        clause[0] = clause[0].lower()
    return f"When {' '.join(with_verb_first(clause, verb, knowledge))}?"
