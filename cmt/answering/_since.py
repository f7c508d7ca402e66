"""When a statement began or ended, or how long it has held: the moment that a document of the
history names (docs/concepts.md#questions-over-time).
"""

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime
from itertools import pairwise

from cmt.answering._compare import Compared, Reading
from cmt.answering._fact_links import near_memories, read_documents
from cmt.answering.answer import Answer, Source, Span, Verdict
from cmt.answering.answerer import Answerer
from cmt.answering.confidence import verdict_of
from cmt.answering.fact_history import fact_history
from cmt.answering.judge import LARGEST_GAP
from cmt.questions.forms import AskedForm
from cmt.retrieval.selector import Key, Selection
from cmt.text.answers import same_value
from cmt.text.moments import Moment, moments_of, time_between
from cmt.text.overlap import coverage
from cmt.text.sentences import sentence_starts

SAME_SENTENCE = 10.0  # nats for a moment in a sentence with all words of the question
_AHEAD = re.compile(r"\b(?:will|does|do|is|are|can|may)\b", re.IGNORECASE)
_UNTIL = re.compile(r"\b(?:until|till) when\b", re.IGNORECASE)
_WHEN = re.compile(r"\W*when\b", re.IGNORECASE)
_HOW_LONG = re.compile(r"\bhow long\b", re.IGNORECASE)
# words before a moment that make it an end, or the other side of a comparison
_OF_END = re.compile(r"\b(?:until|till|than(?: on)?|before)(?: the)? $", re.IGNORECASE)
_OF_START = re.compile(r"\b(?:since|from) $", re.IGNORECASE)
_YEAR = re.compile(r"\b\d{4}\b")


def answer_since(
    answerer: Answerer, question: str, asked: AskedForm, *, as_of: datetime | None
) -> Answer | None:
    """The date of the last change, or the moment that a document near the question names.

    None without one: such a question is answered as a plain one.
    """
    if asked.changes:
        return _last_change(answerer, question, asked, as_of)
    # 1. read the near memories, superseded ones included

    def select_near(key: Key) -> Selection:
        return near_memories(answerer, question, key, as_of=as_of)

    reading = answerer.read(question, select_near, as_of=as_of)
    best = max(_candidates(reading), key=lambda one: one.score, default=None)
    statements = reading.statements()
    if best is None or best.read < statements[best.memory].score - LARGEST_GAP:
        return None
    # 2. the verdict is that on the document; another best span there leaves it open
    names = answerer.find_names(Compared(reading, statements, [], []), best.memory)
    document = read_documents(reading, statements, names)[best.memory]
    calibrated = answerer.calibration.apply(document.confidence)
    verdict = verdict_of(document.confidence, calibrated, answerer.params.selection, names)
    if verdict == "not_in_memory":
        return None
    agree = same_value(document.value, best.moment.text)
    # "when did … begin" may also ask for an earlier time than that of the best sentence
    sure = verdict == "likely" and agree and not _WHEN.match(question)
    quote = Span(best.moment.begin, best.moment.end, round(document.confidence, 4))
    source = replace(document.source, quote=quote if document.has_text else None)
    text = _written(best.moment, question, (as_of or answerer.params.stream.now()).date())
    return _answer(question, text, "likely" if sure else "unsure", calibrated, source)


@dataclass(frozen=True)
class _Candidate:
    """A moment in a memory."""

    memory: int
    moment: Moment
    read: float  # ψ's log-score against "nowhere", in nats
    score: float  # with the selection's and that of its sentence


def _candidates(reading: Reading) -> Iterator[_Candidate]:
    """The moments of the memories that may answer the question.

    1. What a text gives as an end is no start, and the reverse.
    2. A moment of a later year than its document's answers only a question that looks ahead.
    """
    question, scores = reading.question, reading.scores
    if scores.scores.shape[1] == 0:  # a ψ that scores no tokens
        return
    wrong_side = _OF_START if _UNTIL.search(question) else _OF_END
    for memory, (row, text) in enumerate(zip(reading.selection.rows, reading.texts, strict=True)):
        published = row["published_at"].date()
        starts = [first for first, _ in reading.offsets(text)]
        sentences = sorted({0, len(text), *sentence_starts(text)})
        shares = [coverage(question, text[a:b]) for a, b in pairwise(sentences)]
        for moment in moments_of(text, published, durations=bool(_HOW_LONG.search(question))):
            later = any(int(year) > published.year for year in _YEAR.findall(moment.text))
            if wrong_side.search(text[: moment.begin]) or (later and not _AHEAD.search(question)):
                continue
            first, last = (bisect_right(starts, at) - 1 for at in (moment.begin, moment.end - 1))
            span = scores.span_at(reading.row, memory, first, last)
            share = shares[bisect_right(sentences, moment.begin) - 1]
            score = span.score + span.prior + SAME_SENTENCE * share
            yield _Candidate(memory, moment, span.score, score)


def _written(moment: Moment, question: str, today: date) -> str:
    """The moment as an answer: a day of the past as a date, after "how long has" with the time
    since.
    """
    if moment.day is None or _AHEAD.search(question):
        return moment.text
    day = f"{moment.day.day} {moment.day:%B %Y}"
    return f"since {day}: {time_between(moment.day, today)}" if _HOW_LONG.search(question) else day


def _last_change(
    answerer: Answerer, question: str, asked: AskedForm, as_of: datetime | None
) -> Answer | None:
    """The date from which the value in force holds; None if no earlier one is known."""
    history = fact_history(answerer, asked.fact, as_of=as_of)
    value = history.at(as_of or answerer.params.stream.now())
    if value is None or value is history.values[0]:
        return None
    text = f"{value.since.day} {value.since:%B %Y}: {value.text}"
    return _answer(question, text, value.verdict, value.confidence, value.sources[0])


def _answer(
    question: str, text: str, verdict: Verdict, confidence: float, source: Source
) -> Answer:
    weight = source.weight
    return Answer(question, text, verdict, confidence, (source,), uncalibrated=weight, form="since")
