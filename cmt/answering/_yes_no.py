"""Yes or no, with the sentence that says so (docs/concepts.md#yes-or-no)."""

import re
from bisect import bisect_right
from dataclasses import replace
from datetime import datetime
from itertools import pairwise

from cmt.answering._why import answer_why
from cmt.answering.answer import Answer, Quoted, Source, Span
from cmt.answering.answerer import Answerer
from cmt.questions.forms import AskedForm
from cmt.questions.yes_no import are_about, asserted
from cmt.text.answers import same_kind, same_value, words_of
from cmt.text.sentences import sentence_starts

MOST_ASKED = 3  # names and numbers of a question
LEAST_SURE = 0.4  # confidence, uncalibrated, of the answer that is held against one of them
_PAST = re.compile(r"\W*(?:was|were|did|had)\b", re.IGNORECASE)


def answer_yes_no(
    answerer: Answerer, question: str, asked: AskedForm, *, as_of: datetime | None
) -> Answer | None:
    """ "yes: …" or "no: …" with the sentence that says so; the best sentences without either if
    none does.

    1. Quote the best sentences. A question in the present reads superseded documents only if no
       other has an answer.
    2. Ask for each name and number of the question. If the surest answer is another one, it does
       not hold; if it is the same one, in sentences with the question's words, it does.
    """
    # 1. quote
    past = bool(_PAST.match(question))
    quoted = answer_why(answerer, question, asked, as_of=as_of, past=past)
    if quoted is not None and not (quoted.known or past):
        quoted = answer_why(answerer, question, asked, as_of=as_of)
    if quoted is None or not quoted.sources or quoted.sources[0].text is None:
        return quoted
    # 2. decide
    holds, given = _asserted_value(answerer, question, as_of)
    if given is None:
        return quoted
    source, stretch = _quote(given)
    if holds and not (quoted.known and are_about(question, [source.text or ""])):
        return quoted
    draft = replace(quoted, confidence=given.confidence, uncalibrated=given.uncalibrated)
    draft = replace(draft, verdict="unsure", missing=())
    return _decided(draft, source, stretch, holds=holds)


def _asserted_value(
    answerer: Answerer, question: str, as_of: datetime | None
) -> tuple[bool, Answer | None]:
    """The surest answer that a name or number of the question may be held against, and whether it
    is the same one; None without one.
    """
    terms = asserted(question)[:MOST_ASKED]
    given = answerer.answer([term.question for term in terms], as_of=[as_of] * len(terms))
    best: tuple[bool, Answer | None] = False, None
    for term, answer in zip(terms, given, strict=True):
        surest = best[1].uncalibrated if best[1] else LEAST_SURE
        quoted = answer.known and any(source.quote for source in answer.sources)
        if not quoted or answer.uncalibrated < surest:
            continue
        if same_value(answer.text, term.value):
            best = True, answer
        elif _is_other(term.value, answer):
            best = False, answer
    return best


def _is_other(value: str, answer: Answer) -> bool:
    """Whether an answer gives another name or number than `value`, in a sentence without it."""
    source, stretch = _quote(answer)
    sentence = words_of((source.text or "")[slice(*stretch)])
    alike = answer.text[:1].isupper() == value[:1].isupper() and same_kind(answer.text, value)
    return alike and not words_of(value) <= sentence


def _stretches(source: Source) -> list[tuple[int, int]]:
    """The characters of each sentence of the source's text, without blanks around it."""
    text = source.text or ""
    found = []
    for first, last in pairwise(sorted({0, len(text), *sentence_starts(text)})):
        words = text[first:last]
        first += len(words) - len(words.lstrip())
        if words.strip():
            found.append((first, first + len(words.strip())))
    return found


def _quote(given: Answer) -> tuple[Source, tuple[int, int]]:
    """The source of an answer with its quote, and the sentence around it."""
    source = next(one for one in given.sources if one.quote)
    assert source.quote  # noqa: S101 - narrows the type
    stretches = _stretches(source)
    place = bisect_right([first for first, _ in stretches], source.quote.first) - 1
    return source, stretches[max(place, 0)]


def _decided(quoted: Answer, source: Source, stretch: tuple[int, int], *, holds: bool) -> Answer:
    """The answer in the sentence with the characters `stretch` of the source's text."""
    words = (source.text or "")[slice(*stretch)]
    span = Span(*stretch, source.weight)
    return replace(
        quoted,
        text=f"{'yes' if holds else 'no'}: {words}",
        items=(Quoted(words, source.doc_id, source.published_at),),
        sources=(replace(source, spans=(span,), quote=span),),
    )
