"""Training pairs from the stream: its documents up to a date, with their questions and generated ones."""

from collections import Counter
from datetime import datetime
from operator import itemgetter

import pyarrow as pa
import pyarrow.compute as pc

from cmt.common.arrow import rows_with, rows_without
from cmt.errors import StreamError
from cmt.stream.schema import DOCUMENT_SCHEMA, INSTANT, QUESTION_SCHEMA
from cmt.stream.store import SliceStore
from cmt.training.question_generation import generate_questions
from cmt.training.word_knowledge import WordKnowledge


def stream_pairs(
    store: SliceStore, *, until: datetime | None, per_document: int, seed: int, knowledge: WordKnowledge
) -> tuple[pa.Table, pa.Table, tuple[str, ...]]:
    """The documents published and the questions asked up to `until` (None: all), without forgotten documents.

    Returns the latest version of each document (DOCUMENT_SCHEMA), the questions (QUESTION_SCHEMA), generated ones last,
    and the slice_ids with a document or a question among these.
    A document with fewer than `per_document` questions gets generated ones (`generate_questions`), up to that number.
    Raises StreamError if a slice is damaged or no document is left.
    """
    forgotten, documents, questions, slices = store.forgotten(), [], [], []
    # 1. documents and questions of the slices up to the date
    for slice_ in store.slices():
        published = _up_to(rows_without(store.documents(slice_), "doc_id", forgotten), "published_at", until)
        asked = _up_to(store.questions(slice_), "asked_at", until)
        if len(published) or len(asked):
            slices.append(slice_.slice_id)
        documents.append(published)
        questions.append(asked)
    all_documents = pa.concat_tables([DOCUMENT_SCHEMA.empty_table(), *documents])
    if not len(all_documents):
        when = f" up to {until.isoformat()}" if until else ""
        raise StreamError(f"{store.path} has no document{when} to train on: ingest some, or set train.until later")
    # 2. of each document its latest version, unless it has no question and repeats a text, and the questions on it
    own = pa.concat_tables([QUESTION_SCHEMA.empty_table(), *questions])
    asked, texts = set(own["doc_id"].to_pylist()), set[tuple[str | None, str]]()
    latest = {row["doc_id"]: row for row in sorted(all_documents.to_pylist(), key=itemgetter("published_at"))}
    rows = []
    for doc_id, row in latest.items():
        if doc_id in asked or (row["source"], row["sha256"]) not in texts:
            rows.append(row)
            texts.add((row["source"], row["sha256"]))
    kept = pa.Table.from_pylist(rows, schema=DOCUMENT_SCHEMA)
    own = rows_with(own, "doc_id", kept["doc_id"])
    # 3. more questions on documents with few
    asked_on = Counter(own["doc_id"].to_pylist())
    missing = {row["doc_id"]: max(0, per_document - asked_on[row["doc_id"]]) for row in rows}
    made = generate_questions(kept, numbers=missing, seed=seed, knowledge=knowledge)
    return kept, pa.concat_tables([own, made]), tuple(slices)


def _up_to(rows: pa.Table, column: str, until: datetime | None) -> pa.Table:
    """The rows whose `column` is not after `until`."""
    return rows if until is None else rows.filter(pc.less_equal(rows[column], pa.scalar(until, INSTANT)))
