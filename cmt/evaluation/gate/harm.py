"""Why a slice changed the answer to a canary: update, harm, or neither.

1. A document of an authorised source (the canary's own, one with authority, a peer) updates the
   canary if it states another value of the same fact. It never harms it.
2. A document of any other source is unauthorised. A change that two unauthorised sources report
   independently is an update, too (`cmt.evaluation._independence`).
3. Otherwise unauthorised documents that flip a canary harm it, unless the reader mistakes a
   document about something else for the answer.
"""

import re
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from cmt.answering.answer import Answer
from cmt.answering.answerer import Answerer
from cmt.answering.judge import STATED, SURE, UPDATE
from cmt.common.progress import OnProgress
from cmt.evaluation._independence import Claim, PastDocuments, reported_independently
from cmt.evaluation.gate._contradiction import (
    compare_documents,
    contradicted,
    current_memories,
    stated_question,
)
from cmt.evaluation.gate.canary import RIGHT, Canary, Outcome, contradicts
from cmt.evaluation.metrics import f1
from cmt.retrieval.selector import Selection
from cmt.stream.admission.authority import Authority
from cmt.text.answers import same_value, words_of
from cmt.text.numbers import NUMBER

MAX_GROUPS = 4  # groups of documents that are left out in turn until a canary is right again

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
    past: PastDocuments

    def without(self, doc_ids: Collection[str]) -> "NewSlice":
        """This slice without some documents."""
        documents = {
            doc_id: document for doc_id, document in self.documents.items() if doc_id not in doc_ids
        }
        return replace(self, documents=documents)

    def unauthorised(self, canary: Canary) -> set[str]:
        """The documents whose sources may not change what the source of `canary` states."""
        sources = {document.source for document in self.documents.values()}
        unauthorised = {
            source for source in sources if not self.authority.may_change(source, canary.source)
        }
        return {name for name, new in self.documents.items() if new.source in unauthorised}

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
    replies = []
    for canary, answer in zip(canaries, answers, strict=True):
        # the quoted one first
        sources = sorted(answer.sources, key=lambda source: source.quote is None)
        selected = tuple(source.doc_id for source in sources)
        text = answer.text if answer.known else ""
        outcome = outcome_of(text, canary.references, selected[0] if selected else None)
        replies.append(Reply(outcome, selected, answer.uncalibrated))
    return replies


def outcome_of(answer: str, references: Sequence[str], doc_id: str | None) -> Outcome:
    """`answer`, which comes from the document `doc_id`, judged by the right answers."""
    score = f1(answer, references)
    return Outcome(answer, score, score >= RIGHT and not contradicts(answer, references), doc_id)


def explain(answerer: Answerer, canary: Canary, reply: Reply, new: NewSlice) -> Canary:
    """Explain why documents of `new` made `canary` regress in `reply`; returns the canary with its
    update, if there is one, and with the documents that harm it.
    """
    unauthorised = new.unauthorised(canary)
    # 1. Documents that may change it: another value is its new reference.
    trusted = reply
    if not unauthorised.isdisjoint(reply.selected):
        [trusted] = replies(answerer, [canary], without=unauthorised)
    if replace(canary, now=trusted.outcome).regressed:
        doc_id = trusted.outcome.doc_id or ""
        if doc_id not in new.documents or _is_older(canary, new.documents[doc_id]):
            return canary
        update = _update(answerer, canary, new, doc_id)
        if update is None:
            # it is open whether the reference still holds: without its best outcome the canary
            # leaves
            return replace(canary, best=canary.now) if trusted.outcome.answer else canary
        canary = update
        outcome = outcome_of(trusted.outcome.answer, canary.references, trusted.outcome.doc_id)
        trusted = Reply(outcome, trusted.selected)
    canary = replace(canary, before=trusted.outcome)
    if not canary.regressed:
        return canary
    # 2. A change that two unauthorised sources report independently.
    if update := _independent_update(answerer, canary, reply, new, unauthorised):
        canary = update
        if not canary.regressed:
            return canary
    # 3. Harm.
    harmful = _harmful(answerer, canary, reply, trusted, new, unauthorised)
    return replace(canary, harmed_by=tuple(harmful))


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
    answerer: Answerer, canary: Canary, reply: Reply, new: NewSlice, unauthorised: Set[str]
) -> Canary | None:
    """`canary` with a value that two sources report independently; None if there is none."""
    # 1. The later documents of at least two unauthorised sources.
    doc_ids = [doc_id for doc_id in reply.selected if doc_id in unauthorised]
    doc_ids = [doc_id for doc_id in doc_ids if not _is_older(canary, new.documents[doc_id])]
    if len({new.documents[doc_id].source for doc_id in doc_ids}) < 2:
        return None
    # 2. The first value that two of them report independently.
    claims = _claims(answerer, canary, new, doc_ids)
    for first in claims:
        same = [claim for claim in claims if same_value(first.value, claim.value)]
        if reported_independently(same, canary.source, about=reply.selected, past=new.past):
            return _updated(canary, new, first.doc_id, first.value)
    return None


def _claims(
    answerer: Answerer, canary: Canary, new: NewSlice, doc_ids: Sequence[str]
) -> list[Claim]:
    """The documents that surely state another value than `canary`, with this value."""
    memories = [new.memories(doc_id) for doc_id in doc_ids]
    answers = answerer.answer_from([canary.question] * len(doc_ids), memories)
    claims = []
    for doc_id, answer in zip(doc_ids, answers, strict=True):
        is_sure = answer.known and answer.uncalibrated >= SURE
        if is_sure and contradicts(answer.text, canary.references):
            document = new.documents[doc_id]
            claims.append(Claim(doc_id, document.source, document.text, answer.text))
    return claims


def _is_older(canary: Canary, document: NewDocument) -> bool:
    return canary.published_at is not None and document.published_at < canary.published_at


def _harmful(
    answerer: Answerer,
    canary: Canary,
    reply: Reply,
    trusted: Reply,
    new: NewSlice,
    unauthorised: Set[str],
) -> list[str]:
    """The unauthorised documents that flip `canary`, without those about something else that
    mislead the reader.

    A document is about something else if it surely answers the question, with a value, and neither
    changes what the canary's document says nor contradicts it. If the unauthorised documents crowd
    the document that gave the right answer out of the selection, none of them counts as being about
    something else.
    """
    culprits = _culprits(answerer, canary, reply, new, unauthorised)
    if trusted.outcome.doc_id not in reply.selected:
        return culprits
    # 1. What each answers to the canary, and to the question that the canary's document answers.
    own = current_memories(answerer.bank, canary.doc_id)
    numbers = [re.search(NUMBER, reference) for reference in canary.references]
    pairs = zip(numbers, canary.references, strict=True)
    values = [number[0] if number else reference for number, reference in pairs]
    stated = stated_question(own, values) or canary.question
    memories = [new.memories(doc_id) for doc_id in culprits]
    answers = answerer.answer_from([canary.question] * len(culprits), memories)
    crosswise = answerer.answer_from([stated] * len(culprits), memories)
    # 2. Keep a document that states no value, or another value of the same fact, or a change of it.
    harmful = []
    for doc_id, rows, answer, stated_answer in zip(
        culprits, memories, answers, crosswise, strict=True
    ):
        is_stated = stated != canary.question and stated_answer.uncalibrated >= STATED
        if (
            not _is_value(answer)
            or (is_stated and same_value(answer.text, stated_answer.text))
            or (own and compare_documents(answerer, canary.question, own, rows)[1] >= UPDATE)
            or _is_contradicted(answerer, canary, reply, new, doc_id)
        ):
            harmful.append(doc_id)
    return harmful


def _is_value(answer: Answer) -> bool:
    """Whether a document surely answers, with a value."""
    return answer.known and answer.uncalibrated >= SURE and not _NOTHING.search(answer.text)


def _is_contradicted(
    answerer: Answerer, canary: Canary, reply: Reply, new: NewSlice, doc_id: str
) -> bool:
    """Whether the document `doc_id` contradicts the canary's, if it gave the answer."""
    flipped = replace(canary, now=replace(reply.outcome, doc_id=doc_id))
    texts = {doc_id: new.documents[doc_id].text}
    return bool(contradicted(answerer, [flipped], new.rows, texts))


def _culprits(
    answerer: Answerer, canary: Canary, reply: Reply, new: NewSlice, unauthorised: Set[str]
) -> list[str]:
    """The unauthorised documents without which `canary` is right again.

    1. Leave out the quoted document, then all that are selected, MAX_GROUPS times at most.
    2. If the canary is still wrong, add every document of their sources with half of the question's
       words.
    """
    left_out: list[str] = []
    for number in range(MAX_GROUPS):
        selected = [doc_id for doc_id in reply.selected if doc_id in unauthorised]
        if not selected:
            break
        only_quoted = number == 0 and reply.outcome.doc_id == selected[0]
        left_out += selected[:1] if only_quoted else selected
        [reply] = replies(answerer, [canary], without=left_out)
        if not replace(canary, now=reply.outcome).regressed:
            return left_out
    sources = {new.documents[doc_id].source for doc_id in left_out}
    question = words_of(canary.question)
    culprits = list(left_out)
    for doc_id in sorted(unauthorised - set(left_out)):
        document = new.documents[doc_id]
        shared = question & words_of(document.text)
        if document.source in sources and 2 * len(shared) >= len(question):
            culprits.append(doc_id)
    return culprits
