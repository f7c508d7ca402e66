from datetime import timedelta

import pyarrow as pa

from cmt.stream.schema import DOCUMENT_SCHEMA, QUESTION_SCHEMA
from cmt.stream.storage import rows_digest
from tests.helpers.rows import make_document, make_question, validated

DOCUMENTS, QUESTIONS = (rows.table for rows in validated(*map(make_document, "abc"), *map(make_question, "xy")))


def test_the_digest_of_a_slice_is_a_stable_value() -> None:
    # slices, memories and rounds that exist are identified by it
    assert rows_digest(DOCUMENTS, QUESTIONS) == "f79b27b0eab6e0d4b10bb1f5a61af96e0ec46a3090348eceb1ab2a147f2f6315"


def test_the_digest_depends_on_the_rows_and_not_on_their_order_or_chunks() -> None:
    digest = rows_digest(DOCUMENTS, QUESTIONS)
    assert rows_digest(DOCUMENTS.take([2, 0, 1]), QUESTIONS.take([1, 0])) == digest
    assert rows_digest(pa.concat_tables([DOCUMENTS[:1], DOCUMENTS[1:]]), QUESTIONS) == digest
    assert rows_digest(DOCUMENTS[:2], QUESTIONS) != digest
    assert rows_digest(DOCUMENTS, QUESTION_SCHEMA.empty_table()) != digest
    first, *others = DOCUMENTS.to_pylist()
    first["published_at"] += timedelta(microseconds=1)
    assert rows_digest(pa.Table.from_pylist([first, *others], schema=DOCUMENT_SCHEMA), QUESTIONS) != digest
