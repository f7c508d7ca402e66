"""Finds the documents that state values of one fact: those that `supersedes` or a recorded change
links, and those that the judge takes for changes of each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cmt.answering._compare import Reading
from cmt.answering.answer import Source, Span
from cmt.answering.answerer import Answerer
from cmt.answering.confidence import confidence_of, evidence
from cmt.answering.dated_values import HowKnown
from cmt.answering.judge import PROBABLE, UPDATE, Judge, Statement, same_fact
from cmt.bank.changes import Change, ValueSpan
from cmt.bank.memory_ids import memory_id
from cmt.modeling.span_decoding import best_answer_span, token_log_probabilities
from cmt.modeling.token_scores import PRIOR_WEIGHT
from cmt.retrieval.selector import Key, Selection, select_memories
from cmt.text.answers import same_kind, same_value
from cmt.text.question_names import NamesFound

CONNECTED = 32  # memories that are read in addition to the near ones, the newest ones
NEAR = 16  # memories near the question that are read
LEAST = 0.3  # confidence, 0–1, from which a document of the fact states a value


@dataclass(frozen=True)
class ReadDocument:
    """What one memory says about the question."""

    row: dict[str, Any]  # of the bank, with its text, which may be decoded
    has_text: bool  # whether the bank has the text
    statement: Statement
    confidence: float  # uncalibrated, of this memory read by itself

    @property
    def value(self) -> str:
        """The value, a part of the text."""
        return self.statement.answer

    @property
    def published_at(self) -> datetime:
        """The date of the document's version."""
        return self.statement.published_at

    @property
    def since(self) -> datetime:
        """The date from which the value holds."""
        return self.statement.holds_from

    @property
    def source(self) -> Source:
        """The document as a source, with its value as the quote if the bank has its text."""
        row, statement = self.row, self.statement
        confidence = round(self.confidence, 4)
        return Source(
            row["doc_id"],
            row["title"],
            row["published_at"],
            row["similarity"],
            confidence,
            statement.text if self.has_text else None,
            quote=Span(statement.first, statement.last, confidence) if self.has_text else None,
            supersedes=row["supersedes"],
        )


def near_memories(
    answerer: Answerer, question: str, key: Key, *, as_of: datetime | None, past: bool = True
) -> Selection:
    """The NEAR memories for `question`, whose search key is `key` (p,); with `past` including
    superseded ones.
    """
    wider = answerer.params.selection.model_copy(update={"top_k": NEAR})
    bank, model = answerer.bank, answerer.model
    return select_memories(bank, model, wider, question=question, key=key, as_of=as_of, past=past)


def read_documents(
    reading: Reading, statements: Sequence[Statement], names: NamesFound
) -> list[ReadDocument]:
    """The memories of `reading` with their `statements`, each with the confidence of an answer
    from it.

    `names`: the names of the question in the best document.
    """
    documents = []
    scores = reading.scores.scores[reading.row].cpu()  # (S, n, 2)
    for memory, row in enumerate(reading.selection.rows):
        text, limits = reading.texts[memory], reading.scores.limits[reading.row][memory]
        tokens = reading.scores.memories[reading.row][memory].tokens
        # remove the prior of the selection, of which the scores of both ends of a span have half
        without_prior = scores[None, memory : memory + 1] - PRIOR_WEIGHT * row["prior"] / 2
        log_probability = token_log_probabilities(without_prior)[0]  # (1, n, 2)
        quote = best_answer_span(log_probability, [tokens], [limits])
        signs = evidence(reading.question, [text], log_probability[..., 0].exp(), quote)
        confidence = confidence_of(signs, names)
        has_text, row = row["text"] is not None, {**row, "text": text}
        documents.append(ReadDocument(row, has_text, statements[memory], confidence))
    return documents


class FactLinks:
    """The links between documents on the fact that the document `anchor` states.

    `changes`: the recorded changes that name a near document.
    """

    def __init__(
        self, answerer: Answerer, question: str, anchor: ReadDocument, changes: Sequence[Change]
    ) -> None:
        self.question = question
        self._answerer, self._anchor = answerer, anchor
        versions = answerer.bank.connected({anchor.row["doc_id"]}).to_pylist()
        self._declared = {version["doc_id"] for version in versions}
        self._memory_ids = [
            version["memory_id"]
            for version in sorted(versions, key=lambda one: one["published_at"])
        ]
        known = {change.id: change for change in (*changes, *answerer.changes_of(self._declared))}
        self._changes = list(known.values())

    def unread(self, read: set[str]) -> set[str]:
        """Ids of the memories that `supersedes` or a recorded change links with the best document,
        except those that are already `read`.
        """
        others = [name for name in self._memory_ids if name not in read]
        for change in self._changes:
            if change.state == "found" and self._declared.intersection(change.doc_ids):
                for end in (change.old, change.new):
                    for version in (None, end.published_at):
                        others.append(memory_id(end.doc_id, end.chunk, version))
        return set(others[-CONNECTED:]) - read

    def select(self, memory_ids: set[str], key: Key, as_of: datetime | None) -> Selection:
        """The memories of the bank with these ids, with the log-probability of the best one."""
        rows = self._answerer.bank.memories(memory_ids, key=key, as_of=as_of, past=True)
        prior = self._anchor.row["prior"]
        return Selection([{**row, "prior": prior} for row in rows.to_pylist()])

    def between(self, first: ReadDocument, second: ReadDocument) -> HowKnown | None:
        """How two documents are connected; None: not, or a change between them was rejected.

        1. Versions of one document.
        2. Documents that `supersedes` connects.
        3. Documents of which a recorded change names both values.
        4. Otherwise their words decide, if the later source may change the earlier one.
        """
        earlier, later = sorted((first, second), key=lambda one: one.published_at)
        doc_ids = {earlier.row["doc_id"], later.row["doc_id"]}
        if len(doc_ids) == 1:
            return "corrected"
        if doc_ids <= self._declared or earlier.row["doc_id"] == later.row["supersedes"]:
            return "declared"
        recorded = [change for change in self._changes if {*change.doc_ids} == doc_ids]
        for change in recorded:
            if change.state == "rejected":
                return None
            if _names_value(change, earlier) or _names_value(change, later):
                return "found"
        if not self._answerer.may_change(later.row["source"], earlier.row["source"]):
            return None
        related = same_fact(self.question, earlier.row, later.row) != "no"
        return "compared" if related else None

    def keeps(self, document: ReadDocument, judge: Judge) -> bool:
        """Whether `document` states a value of the fact.

        1. ψ reads a value in it, and it is connected with the best document.
        2. Both state one value, or values of one kind of which the judge finds that the later one
           changes the earlier one; a declared change makes that likelier.
        """
        if document is self._anchor:
            return True
        if document.confidence < LEAST or document.statement.score <= 0:
            return False
        link = self.between(self._anchor, document)
        if link is None:
            return False
        if link == "found" or same_value(self._anchor.value, document.value):
            return True
        if not same_kind(self._anchor.value, document.value):
            return False
        earlier, later = sorted((self._anchor, document), key=lambda one: one.published_at)
        if not judge.cross_encoder:
            return True
        changed = judge.judge(self.question, earlier.statement, later.statement).changed
        return changed >= (PROBABLE if link == "compared" else UPDATE)


def _names_value(change: Change, document: ReadDocument) -> bool:
    """Whether a recorded change names the value that ψ reads in `document`."""
    statement = document.statement
    if statement.first == statement.last:
        return False
    value = ValueSpan.of(document.row, statement.first, statement.last)
    return value.overlaps(change.old) or value.overlaps(change.new)
