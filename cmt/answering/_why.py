"""The sentences that say why or how: quoted from the document that ψ reads best
(docs/concepts.md#reasons-and-summaries).
"""

import re
from bisect import bisect_right
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from typing import Any

import numpy as np

from cmt.answering._compare import Compared, Reading
from cmt.answering._fact_links import ReadDocument, near_memories, read_documents
from cmt.answering.answer import JOIN, NOT_IN_MEMORY, Answer, Quoted, Source, Span
from cmt.answering.answerer import Answerer
from cmt.answering.confidence import verdict_of
from cmt.questions.forms import AskedForm
from cmt.retrieval.selector import Key, Selection
from cmt.text.display import heading
from cmt.text.overlap import coverage
from cmt.text.sentences import sentence_starts

MOST = 4  # sentences of a document
GAP = 8.0  # nats by which the score of a sentence may be lower than the best one's
CAUSAL = 2.0  # nats for a sentence with words of a cause
NEXT = (
    2.0  # nats for the sentence behind the one that states what is asked about, half for the next
)
SAME_WORDS = 10.0  # nats for all words of the question, when that sentence is sought
AS_SURE = 1.0  # nats by which a second document may be behind the first one

_CAUSE = re.compile(
    r"\b(?:because|since(?! \W?\d| [A-Z])|after|due to|owing to|thanks to|traced|so that|reasons?"
    r"|(?:caus|blam)(?:e|es|ed|ing)|puts? (?:it |this |that )?down to|as a result|led to|in order"
    r"|to avoid|for fear|fail(?:ed|ing)|means|meant|said|says)\b"
)


def answer_why(
    answerer: Answerer,
    question: str,
    asked: AskedForm,
    *,
    as_of: datetime | None,
    past: bool = True,
) -> Answer | None:
    """The best sentences of the best document, and of a second one that is as sure.

    "not in memory" if an answer from the best document would be; None if ψ scores no tokens.
    """
    # 1. read the near memories, with `past` superseded documents included

    def select_near(key: Key) -> Selection:
        near = near_memories(answerer, asked.fact, key, as_of=as_of, past=past)
        return newest_versions(near)

    reading = answerer.read(asked.fact, select_near, as_of=as_of)
    statements = reading.statements()
    if not statements:
        return None
    total = [statement.score + statement.prior for statement in statements]
    best = int(np.argmax(total))
    # 2. the verdict is that on the best document
    names = answerer.find_names(Compared(reading, statements, [], []), best)
    documents = read_documents(reading, statements, names)
    confidence = documents[best].confidence
    calibrated = answerer.calibration.apply(confidence)
    verdict = verdict_of(confidence, calibrated, answerer.params.selection, names)
    # 3. quote
    quoted = [best]
    for other in sorted(range(len(total)), key=total.__getitem__, reverse=True):
        as_sure = (
            documents[other].confidence >= confidence and total[other] >= total[best] - AS_SURE
        )
        if as_sure and documents[other].row["doc_id"] != documents[best].row["doc_id"]:
            quoted.append(other)
            break
    parts = [quote_sentences(asked.fact, reading, memory, documents[memory]) for memory in quoted]
    items, sources = zip(*parts, strict=True)
    known = verdict != "not_in_memory"
    return Answer(
        question,
        JOIN.join(item.text for item in items) if known else NOT_IN_MEMORY,
        verdict,
        calibrated if known else confidence,
        sources,
        uncalibrated=confidence,
        form=asked.form,
        items=items if known else (),
        missing=names.missing,
    )


@dataclass(frozen=True)
class _Sentence:
    """The characters `first` … `last` of a text, the last one excluded, and their score in nats."""

    first: int
    last: int
    score: float


def newest_versions(selection: Selection) -> Selection:
    """Without the versions of a document that a correction replaced."""
    newest: dict[str, datetime] = {}
    for row in selection.rows:
        newest[row["doc_id"]] = max(
            row["published_at"], newest.get(row["doc_id"], row["published_at"])
        )
    rows = [row for row in selection.rows if row["published_at"] == newest[row["doc_id"]]]
    return selection._replace(rows=rows)


def quote_sentences(
    question: str, reading: Reading, memory: int, document: ReadDocument, *, most: int = MOST
) -> tuple[Quoted, Source]:
    """Up to `most` sentences of a memory, at most GAP behind the best one, in the order of the
    text; as an item, and as a source whose quote is the best one.
    """
    text, row = reading.texts[memory], document.row
    found = _sentences(question, reading, memory, start=_start(row, text))
    best = sorted(found, key=lambda one: one.score, reverse=True)[:most]
    chosen = sorted(
        (one for one in best if one.score >= best[0].score - GAP), key=lambda one: one.first
    )
    words = text[chosen[0].first : chosen[0].last]
    for before, sentence in pairwise(chosen):
        adjoin = not text[before.last : sentence.first].strip()
        words += (" " if adjoin else JOIN) + text[sentence.first : sentence.last]
    weight = round(document.confidence, 4)
    source = document.source
    if document.has_text:
        spans = tuple(Span(one.first, one.last, weight) for one in chosen)
        source = replace(source, spans=spans, quote=Span(best[0].first, best[0].last, weight))
    return Quoted(words, row["doc_id"], row["published_at"]), source


def _start(row: dict[str, Any], text: str) -> int:
    """Where the text behind its heading begins."""
    line = heading(row["title"], row["source"])
    rest = text.removeprefix(f"{line}\n") if line else text
    return len(text) - len(rest) if rest.strip() else 0


def _sentences(question: str, reading: Reading, memory: int, *, start: int) -> list[_Sentence]:
    """The sentences of a memory's text from `start` on, with their scores.

    1. ψ's log-score of the best span in the sentence.
    2. CAUSAL for words of a cause.
    3. NEXT for the sentence behind the one that states what is asked about; the following one has
       half of it.
    """
    text = reading.texts[memory]
    tokens = len(reading.scores.memories[reading.row][memory].tokens)
    begins, ends = (
        reading.scores.scores[reading.row, memory, :tokens].float().cpu().numpy().T
    )  # (n,)
    firsts = [first for first, _ in reading.offsets(text)][:tokens]
    found, shares = list[_Sentence](), list[float]()
    limits = sorted({start, len(text), *(at for at in sentence_starts(text) if at > start)})
    for first, last in pairwise(limits):
        words = text[first:last].strip()
        a, b = max(bisect_right(firsts, first) - 1, 0), bisect_right(firsts, last - 1)
        if not words or a >= b:
            continue
        # the best end at or behind each begin
        score = float((begins[a:b] + np.maximum.accumulate(ends[a:b][::-1])[::-1]).max())
        first += len(text[first:last]) - len(text[first:last].lstrip())
        found.append(
            _Sentence(first, first + len(words), score + CAUSAL * bool(_CAUSE.search(words)))
        )
        shares.append(score + SAME_WORDS * coverage(question, words))
    if not found:  # a text without words
        return [_Sentence(start, len(text), 0.0)]
    stated = int(np.argmax(shares))
    for behind, sentence in enumerate(found[stated + 1 : stated + 3], start=1):
        found[stated + behind] = replace(sentence, score=sentence.score + NEXT / behind)
    return found
