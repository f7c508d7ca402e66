"""What documents of a slice did to a canary that they turned: an update, harm, or neither.

A document whose source may change what the canary's source states (its own source, one with
authority, a peer) updates the canary if it states another value of the same fact, and never harms
it. Any other document is a stranger. A change that two strangers tell independently is an update
too (`cmt.evaluation.changes.independence`); otherwise strangers that turn a canary harm it, unless
the reader mistakes a document about something else for the answer.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from cmt.answering.answerer import Answerer
from cmt.answering.judge import SURE, TOLD, UPDATE
from cmt.common.progress import OnProgress
from cmt.evaluation.changes.independence import History, Report, told_independently
from cmt.evaluation.gate.canary import RIGHT, Canary, Outcome, contradicts
from cmt.evaluation.gate.contradiction import (
    compare_documents,
    contradicted,
    current_memories,
    stated_question,
)
from cmt.evaluation.metrics import f1
from cmt.retrieval.selector import Selection
from cmt.stream.admission.authority import Authority
from cmt.text.answers import same_value, words_of
from cmt.text.numbers import NUMBER

TRIES = 4  # groups of documents that are left out in turn until a canary is right again

_NOTHING = re.compile(
    r"\b(?:no|not|none|nobody|nothing|never|neither|nor|unknown|unclear)\b", re.IGNORECASE
)


class NewDocument(NamedTuple):
    """A document of the slice."""

    text: str
    source: str
    published_at: datetime


@dataclass(frozen=True)
class NewSlice:
    """The slice of a round: its documents and banked memories, and who may change what."""

    rows: pa.Table  # its memories in the bank
    documents: Mapping[str, NewDocument]  # by doc_id
    authority: Authority
    history: History

    def without(self, doc_ids: Collection[str]) -> "NewSlice":
        """This slice without some documents."""
        documents = {
            doc_id: document for doc_id, document in self.documents.items() if doc_id not in doc_ids
        }
        return replace(self, documents=documents)

    def strangers(self, canary: Canary) -> set[str]:
        """The documents whose sources may not change what the source of `canary` states."""
        may = {
            source: self.authority.may_change(source, canary.source)
            for source in {document.source for document in self.documents.values()}
        }
        return {doc_id for doc_id, document in self.documents.items() if not may[document.source]}

    def memories(self, doc_id: str) -> list[dict[str, Any]]:
        """The memories of one document."""
        rows: list[dict[str, Any]] = self.rows.filter(
            pc.equal(self.rows["doc_id"], doc_id)
        ).to_pylist()
        return rows


class Reply(NamedTuple):
    """The outcome of a canary, and the documents that were selected for it, best first."""

    outcome: Outcome
    selected: tuple[str, ...]
    confidence: float = 0.0  # of the answer, before calibration


def replies(
    answerer: Answerer,
    canaries: Sequence[Canary],
    *,
    without: Collection[str] = (),
    selections: Sequence[Selection] | None = None,
    on_progress: OnProgress | None = None,
) -> list[Reply]:
    """Ask `canaries` as of now, without the documents `without`, or from `selections` of
    `Answerer.select`.
    """
    if without:
        bank = answerer.bank
        answerer = replace(answerer, bank=bank.excluding(bank.excluded_doc_ids.union(without)))
    questions = [canary.question for canary in canaries]
    as_of = [None] * len(questions)
    answers = answerer.answer(
        questions, as_of=as_of, selections=selections, on_progress=on_progress
    )
    found = []
    for canary, answer in zip(canaries, answers, strict=True):
        sources = sorted(
            answer.sources, key=lambda source: source.quote is None
        )  # the quoted one first
        selected = tuple(source.doc_id for source in sources)
        text = answer.text if answer.known else ""
        outcome = outcome_of(text, canary.references, selected[0] if selected else None)
        found.append(Reply(outcome, selected, answer.uncalibrated))
    return found


def outcome_of(answer: str, references: Sequence[str], doc_id: str | None) -> Outcome:
    """`answer`, which comes from the document `doc_id`, judged by the right answers."""
    score = f1(answer, references)
    return Outcome(answer, score, score >= RIGHT and not contradicts(answer, references), doc_id)


def explain(answerer: Answerer, canary: Canary, reply: Reply, new: NewSlice) -> Canary:
    """`canary`, which regressed with `reply` through documents of `new`, with its update and with
    what harms it.
    """
    strangers = new.strangers(canary)
    # 1. Documents that may change it: another value is its new reference.
    trusted = reply
    if not strangers.isdisjoint(reply.selected):
        [trusted] = replies(answerer, [canary], without=strangers)
    if replace(canary, now=trusted.outcome).regressed:
        doc_id = trusted.outcome.doc_id or ""
        if doc_id not in new.documents or _is_older(canary, new.documents[doc_id]):
            return canary
        update = _update(answerer, canary, new, doc_id)
        if (
            update is None
        ):  # whether the reference still holds is open: without its best outcome the canary leaves
            return replace(canary, best=canary.now) if trusted.outcome.answer else canary
        canary = update
        trusted = Reply(
            outcome_of(trusted.outcome.answer, canary.references, trusted.outcome.doc_id),
            trusted.selected,
        )
    canary = replace(canary, without=trusted.outcome)
    if not canary.regressed:
        return canary
    # 2. Strangers: a change that two of them tell independently.
    if update := _independent_update(answerer, canary, reply, new, strangers):
        canary = update
        if not canary.regressed:
            return canary
    # 3. Harm.
    return replace(
        canary, harmed_by=tuple(_harmful(answerer, canary, reply, trusted, new, strangers))
    )


def _updated(canary: Canary, new: NewSlice, doc_id: str, answer: str) -> Canary:
    """`canary` with the answer of the document `doc_id` as its reference."""
    document = new.documents[doc_id]
    now = canary.now and outcome_of(canary.now.answer, (answer,), canary.now.doc_id)
    return replace(
        canary,
        doc_id=doc_id,
        references=(answer,),
        source=document.source,
        published_at=document.published_at,
        best=Outcome(answer, 1.0, True, doc_id),
        now=now,
        updated_by=doc_id,
    )


def _update(answerer: Answerer, canary: Canary, new: NewSlice, doc_id: str) -> Canary | None:
    """`canary` with the value of the document `doc_id`; None if that does not change its fact."""
    own = current_memories(answerer.bank, canary.doc_id)
    if not own:
        return None
    later, changed = compare_documents(answerer, canary.question, own, new.memories(doc_id))
    answer = later.answer
    if changed < UPDATE or not contradicts(answer, canary.references):
        return None
    return _updated(canary, new, doc_id, answer)


def _independent_update(
    answerer: Answerer, canary: Canary, reply: Reply, new: NewSlice, strangers: Collection[str]
) -> Canary | None:
    """`canary` with a value that two sources tell independently; None if there is none."""
    told = [
        doc_id
        for doc_id in reply.selected
        if doc_id in strangers and not _is_older(canary, new.documents[doc_id])
    ]
    if len({new.documents[doc_id].source for doc_id in told}) < 2:
        return None
    answers = answerer.answer_from(
        [canary.question] * len(told), [new.memories(doc_id) for doc_id in told]
    )
    reports = [
        Report(doc_id, new.documents[doc_id].source, new.documents[doc_id].text, answer.text)
        for doc_id, answer in zip(told, answers, strict=True)
        if answer.known
        and answer.uncalibrated >= SURE
        and contradicts(answer.text, canary.references)
    ]
    for first in reports:
        same = [report for report in reports if same_value(first.value, report.value)]
        if told_independently(same, canary.source, about=reply.selected, history=new.history):
            return _updated(canary, new, first.doc_id, first.value)
    return None


def _is_older(canary: Canary, document: NewDocument) -> bool:
    return canary.published_at is not None and document.published_at < canary.published_at


def _harmful(
    answerer: Answerer,
    canary: Canary,
    reply: Reply,
    trusted: Reply,
    new: NewSlice,
    strangers: Collection[str],
) -> list[str]:
    """The strangers that turn `canary`, without the documents about something else that mislead the
    reader.

    A document is about something else if it surely answers the question, with a value, and neither
    changes what the canary's document says nor contradicts it. None is if together they crowd out
    the document that gave the right answer.
    """
    culprits = _culprits(answerer, canary, reply, new, strangers)
    if trusted.outcome.doc_id not in reply.selected:
        return culprits
    # 1. What each answers to the canary, and to the question that the canary's document answers.
    own = current_memories(answerer.bank, canary.doc_id)
    numbers = ((re.search(NUMBER, reference), reference) for reference in canary.references)
    values = [number[0] if number else reference for number, reference in numbers]
    stated = stated_question(own, values) or canary.question
    memories = [new.memories(doc_id) for doc_id in culprits]
    alone = answerer.answer_from([canary.question] * len(culprits), memories)
    crosswise = answerer.answer_from([stated] * len(culprits), memories)
    # 2. Keep a document that states no value, or another value of the same fact, or a change of it.
    harmful = []
    for doc_id, rows, answer, other in zip(culprits, memories, alone, crosswise, strict=True):
        turned = replace(canary, now=replace(reply.outcome, doc_id=doc_id))
        texts = {doc_id: new.documents[doc_id].text}
        is_value = answer.known and answer.uncalibrated >= SURE and not _NOTHING.search(answer.text)
        is_told = (
            stated != canary.question
            and other.uncalibrated >= TOLD
            and same_value(answer.text, other.text)
        )
        if (
            not is_value
            or is_told
            or (own and compare_documents(answerer, canary.question, own, rows)[1] >= UPDATE)
            or contradicted(answerer, [turned], new.rows, texts)
        ):
            harmful.append(doc_id)
    return harmful


def _culprits(
    answerer: Answerer, canary: Canary, reply: Reply, new: NewSlice, strangers: Collection[str]
) -> list[str]:
    """The strangers without which `canary` is right again: the quoted one, else all that were
    selected, in turn.

    If it is still wrong after TRIES, also every document of their sources with half of the
    question's words.
    """
    left_out: list[str] = []
    for number in range(TRIES):
        selected = [doc_id for doc_id in reply.selected if doc_id in strangers]
        if not selected:
            break
        only_quoted = number == 0 and reply.outcome.doc_id == selected[0]
        left_out += selected[:1] if only_quoted else selected
        [reply] = replies(answerer, [canary], without=left_out)
        if not replace(canary, now=reply.outcome).regressed:
            return left_out
    sources = {new.documents[doc_id].source for doc_id in left_out}
    asked = words_of(canary.question)
    return left_out + [
        doc_id
        for doc_id in sorted(strangers)
        if doc_id not in left_out and new.documents[doc_id].source in sources
        if 2 * len(asked & words_of(new.documents[doc_id].text)) >= len(asked)
    ]
