"""What changed about a subject in a stretch of time: sentences of the documents about it, by date
(docs/concepts.md#questions-over-time). ψ and the LM read nothing.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time
from itertools import pairwise
from typing import Any

import numpy as np

from cmt.answering.answer import NOT_IN_MEMORY, Answer, Quoted, Source, Verdict
from cmt.answering.answerer import Answerer
from cmt.bank.changes import ValueSpan
from cmt.questions.forms import AskedForm
from cmt.retrieval.indexer import retrieved_memory
from cmt.retrieval.selector import log_scores
from cmt.text.display import heading, without_publisher
from cmt.text.names import NAME
from cmt.text.numbers import QUANTITY, TIME
from cmt.text.overlap import coverage
from cmt.text.question_names import find_names
from cmt.text.sentences import sentence_starts
from cmt.text.words import stems

NEAR = 32  # memories about the subject that are searched among all, and among those of the time
LISTED = 8  # documents in an answer at most, the newest ones
LEAD = 1  # sentences behind the heading, which with it say what a text is about
ABOUT = 0.5  # share of the subject's words in heading and lead, relative to the best document
GAP = 14.0  # nats by which a memory may score lower than the best one
SENTENCES = 3  # of a document
# Points of a sentence: of the subject's words and of words of the document before, of each value
# that this one lacks, of words that announce a change, of the place in the text, and of a value
# that a round recorded as a change. Chosen on data/forms/seen.jsonl.xz.
SUBJECT, SHARED, NEW, ANNOUNCED, FIRST, RECORDED = 2.0, 2.0, 0.5, 0.7, (1.5, 0.8), 3.0
MOST_NEW = 3  # new values of a sentence that count
_VALUE = re.compile(f"{TIME}|{QUANTITY}|{NAME}")
_ANNOUNCES = re.compile(
    r"\b(?:now|new|(?:up|down) from|instead|rather than|no longer|replac\w+|succe\w+|again"
    r"|after all|until|beg[aiu]n\w*|r[io]se[ns]?|raise[ds]?|lift\w+|cut|f[ae]ll\w*|fewer|more"
    r"|moved?|back|first)\b",
    re.IGNORECASE,
)

Row = dict[str, Any]


@dataclass(frozen=True)
class _Document:
    """The memories of a version of a document that are near the subject."""

    rows: Sequence[Row]  # in the order of the text; `text` may be decoded
    about: float  # share of the subject's words in heading and lead, 0–1
    covered: float  # … in the whole text

    @classmethod
    def of(cls, rows: Sequence[Row], subject: str) -> "_Document":
        texts = [without_publisher(row) for row in rows]
        leads = (text[: _starts(text)[: LEAD + 2][-1]] for text in texts)
        return cls(
            rows, max(coverage(subject, lead) for lead in leads), coverage(subject, " ".join(texts))
        )

    @property
    def first(self) -> Row:
        return self.rows[0]

    def has_names(self, subject: str) -> bool:
        """Whether the text has one of the names in `subject`, or `subject` has none."""
        text = "\n".join(row["text"] for row in self.rows)
        day = self.first["published_at"].date()
        return not find_names(subject, text, day=day).all_missing

    def quoted(self, before: "_Document | None", subject: str, new: Sequence[ValueSpan]) -> str:
        """The SENTENCES with most points, in their order; `new`: recorded values."""
        known = set(stems(" ".join(row["text"] for row in before.rows))) if before else set()
        scored = list[tuple[float, int, str]]()
        for row in self.rows:
            line = f"{heading(row['title'], row['source'])}\n"
            start = len(line) if row["text"].startswith(line) else 0
            starts = [start, *(at for at in _starts(row["text"]) if at > start)]
            for place, (first, last) in enumerate(pairwise(starts)):
                sentence = row["text"][first:last].strip()
                if not sentence:
                    continue
                points = _points(sentence, subject, known) + sum(FIRST[place : place + 1])
                if any(ValueSpan.of(row, first, last).overlaps(value) for value in new):
                    points += RECORDED
                scored.append((points, -len(scored), sentence))
        best = sorted(scored, reverse=True)[:SENTENCES]
        best.sort(key=lambda one: -one[1])
        quoted = best[0][2]
        for (_, place, _), (_, following, sentence) in pairwise(best):
            quoted += (" " if place - following == 1 else " … ") + sentence
        return quoted

    def source(self) -> Source:
        """The document as a source."""
        row = self.first
        names = ("doc_id", "title", "published_at", "similarity", "text", "supersedes")
        return Source(**{name: row[name] for name in names}, weight=round(self.covered, 4))


def answer_changed(
    answerer: Answerer, question: str, asked: AskedForm, *, as_of: datetime | None
) -> Answer:
    """What the documents of the asked time report about the subject; likely if each has all words
    of the subject, and "not in memory" without a document.

    1. Search the subject among the documents of all times, and of the asked time.
    2. Add the documents that `supersedes` or a recorded change links with the best one.
    3. Quote of each document of the asked time the sentences with new values.
    """
    documents = _documents(answerer, asked, as_of)
    before = dict(zip(range(1, len(documents)), documents, strict=False))
    ids = {one.first["doc_id"]: one for one in documents}
    new = [one.new for one in answerer.changes_of(set(ids)) if one.state == "found"] if ids else []
    items, sources, covered = [], [], []
    for place, document in enumerate(documents):
        row = document.first
        if asked.time and not asked.time.first <= row["published_at"].date() <= asked.time.last:
            continue
        earlier = ids.get(row["supersedes"]) or before.get(place)
        text = document.quoted(earlier, asked.fact, new)
        items.append(Quoted(text, row["doc_id"], row["published_at"]))
        sources.append(document.source())
        covered.append(document.covered)
    items, sources = items[-LISTED:], sources[-LISTED:]
    confidence = min(covered[-LISTED:], default=0.0)
    verdict: Verdict = "likely" if confidence == 1 else "unsure" if items else "not_in_memory"
    return Answer(
        question,
        "\n".join(f"{item.published_at.date()}: {item.text}" for item in items) or NOT_IN_MEMORY,
        verdict,
        round(confidence, 4),
        tuple(sources),
        uncalibrated=confidence,
        form=asked.form,
        items=tuple(items),
    )


def _documents(answerer: Answerer, asked: AskedForm, as_of: datetime | None) -> list[_Document]:
    """The documents about the subject that were published by `as_of`, by date."""
    # 1. search among all, and among those since the first day of the asked time
    bank, subject, date = answerer.bank, asked.fact, as_of or answerer.params.stream.now()
    [key] = answerer.keys([subject])
    text = None if "words" in bank.schema.names else subject
    found = dict[str, Row]()
    starts = [datetime.combine(asked.time.first, time.min, UTC)] if asked.time else []
    for since in (None, *starts):
        table = bank.search(key=key, text=text, k=NEAR, as_of=date, past=True, since=since)
        found |= {row["memory_id"]: row for row in table.to_pylist()}
    rows = list(found.values())
    if not rows:
        return []
    temperature = answerer.model.temperature.item()
    scores = log_scores(rows, subject, answerer.params.selection, temperature=temperature)
    near = [rows[at] for at in np.argsort(scores)[::-1] if scores[at] >= max(scores) - GAP]
    documents = _grouped(answerer, near, subject)
    best = max(one.about for one in documents)
    kept = [one for one in documents if one.about >= ABOUT * best > 0 and one.has_names(subject)]
    if not kept:
        return []
    # 2. what is linked with the best one
    ids = {one.first["doc_id"] for one in kept}
    anchor = next(row["doc_id"] for row in near if row["doc_id"] in ids)
    linked = set(bank.connected({anchor})["doc_id"].to_pylist())
    for change in answerer.changes_of({anchor}):
        linked |= set(change.doc_ids) if change.state == "found" else set()
    others = bank.documents(linked - ids).to_pylist() if linked - ids else []
    others = [{**row, "similarity": 0.0} for row in others if row["published_at"] <= date]
    kept += _grouped(answerer, others, subject)
    return sorted(kept, key=lambda one: (one.first["published_at"], one.first["doc_id"]))


def _grouped(answerer: Answerer, rows: Iterable[Row], subject: str) -> list[_Document]:
    """The memories `rows` by version of a document."""
    groups = defaultdict[tuple[str, datetime], list[Row]](list)
    for row in sorted(rows, key=lambda row: row["memory_id"]):
        memory = retrieved_memory(answerer.model, row, answerer.bank.schema)
        text = row["text"] or answerer.lm.decode(memory.tokens)
        groups[row["doc_id"], row["published_at"]].append({**row, "text": text})
    return [_Document.of(of_document, subject) for of_document in groups.values()]


def _points(sentence: str, subject: str, known: set[str]) -> float:
    """Points of a sentence, without those of its place; `known`: stems of the document before."""
    own = set(stems(sentence))
    values = [set(stems(match[0])) for match in _VALUE.finditer(sentence)]
    new = sum(not value <= known for value in values)
    return (
        SUBJECT * coverage(subject, sentence)
        + SHARED * len(own & known) / max(1, len(own))
        + NEW * min(MOST_NEW, new)
        + ANNOUNCED * bool(_ANNOUNCES.search(sentence))
    )


def _starts(text: str) -> list[int]:
    """Where the sentences of `text` begin, and its end."""
    return sorted({0, *sentence_starts(text), len(text)})
