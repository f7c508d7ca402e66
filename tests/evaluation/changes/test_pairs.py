"""Which earlier memories a new one is compared with."""

from datetime import timedelta

import pyarrow as pa
import pytest

import cmt
from cmt.evaluation.changes._pairs import OF_DOCUMENT, only_speaks, similar_pairs


@pytest.mark.parametrize(("chunks", "documents"), [(8, 1), (4, 2)])
def test_of_a_document_with_many_memories_few_are_compared(
    adapted: cmt.Workspace, chunks: int, documents: int
) -> None:
    """Otherwise the search for changes takes longer than compressing a long article."""
    answerer = adapted.project.answerer
    hitch = adapted.project.store.documents(adapted.project.store.slices()[-1]).to_pylist()[-1]
    stored = answerer.bank.memories_of({hitch["sha256"]})
    (row,) = stored.to_pylist()
    later = row["published_at"] + timedelta(days=900)
    rows = [
        row | {"doc_id": f"new{number}", "chunk": chunk, "published_at": later}
        for number in range(documents)
        for chunk in range(chunks)
    ]
    pairs = similar_pairs(answerer, pa.Table.from_pylist(rows, schema=stored.schema))
    by_words = [pair for pair in pairs if not pair.subject]
    assert len(by_words) == min(chunks, OF_DOCUMENT) * documents
    assert len(pairs) - len(by_words) <= documents
    assert {pair.later["doc_id"] for pair in pairs} == {row["doc_id"] for row in rows}


@pytest.mark.parametrize(
    ("text", "speaks"),
    [
        ("#quay\nOren Pell: the crane is stuck\nAda Moss: again?\noren pell: yes", True),
        ("#quay\nAda Moss: where is Oren Pell?\nOren Pell: here", False),
        ("Oren Pell has joined Saltby Town: a debut follows.", False),
    ],
)
def test_a_speaker_is_not_what_a_message_is_about(text: str, speaks: bool) -> None:
    assert only_speaks("Oren Pell", text) == speaks
