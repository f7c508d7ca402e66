"""All things of a kind: a sentence from each document that answers
(docs/concepts.md#lists).
"""

from datetime import datetime

import numpy as np

from cmt.answering._compare import Compared
from cmt.answering._fact_links import near_memories, read_documents
from cmt.answering._why import newest_versions, quote_sentences
from cmt.answering.answer import JOIN, NOT_IN_MEMORY, Answer
from cmt.answering.answerer import Answerer
from cmt.answering.confidence import verdict_of
from cmt.questions.forms import AskedForm
from cmt.retrieval.selector import Key, Selection

MOST = 8  # documents
GAP = 7.0  # nats by which a document may be behind the best one
AS_SURE = 0.5  # of the best one's confidence
MAY_BE_INCOMPLETE = "other documents may name more"


def answer_list(
    answerer: Answerer, question: str, asked: AskedForm, *, as_of: datetime | None
) -> Answer | None:
    """The best sentence of each document that answers, by date; at most unsure, because other
    documents may name more. None if one document has the whole list, or ψ scores no tokens.

    1. Read the near memories, superseded documents included, with the question for one thing.
    2. The verdict is that on the best one.
    3. Documents up to GAP behind it count, MOST at most. If none of them is at least AS_SURE as
       the best one, it has the whole list, and the question is answered as a plain one.
    """

    def select_near(key: Key) -> Selection:
        return newest_versions(near_memories(answerer, asked.fact, key, as_of=as_of))

    # 1. read
    reading = answerer.read(asked.fact, select_near, as_of=as_of)
    statements = reading.statements()
    if not statements:
        return None
    # 2. decide
    total = [statement.score + statement.prior for statement in statements]
    best = int(np.argmax(total))
    names = answerer.find_names(Compared(reading, statements, [], []), best)
    documents = read_documents(reading, statements, names)
    confidence = documents[best].confidence
    calibrated = answerer.calibration.apply(confidence)
    limits = answerer.params.selection
    known = verdict_of(confidence, calibrated, limits, names) != "not_in_memory"
    # 3. quote
    ranked = sorted(range(len(total)), key=total.__getitem__, reverse=True)
    chosen = dict[str, int]()  # the best memory of each document
    for memory in ranked:
        if total[memory] >= total[best] - GAP and len(chosen) < MOST:
            chosen.setdefault(documents[memory].row["doc_id"], memory)
    others = (documents[memory].confidence for memory in [*chosen.values()][1:])
    if known and max(others, default=0.0) < AS_SURE * confidence:
        return None
    parts = [
        quote_sentences(asked.fact, reading, memory, documents[memory], most=1)
        for memory in chosen.values()
    ]
    items, sources = zip(
        *sorted(parts, key=lambda part: (part[0].published_at, part[0].doc_id)), strict=True
    )
    return Answer(
        question,
        JOIN.join(item.text for item in items) if known else NOT_IN_MEMORY,
        "unsure" if known else "not_in_memory",
        calibrated if known else confidence,
        sources,
        uncalibrated=confidence,
        form=asked.form,
        items=items if known else (),
        reason=MAY_BE_INCOMPLETE if known else "",
        missing=names.missing,
    )
