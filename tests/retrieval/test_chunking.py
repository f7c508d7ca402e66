"""Splitting documents into chunks, and batching chunks by length."""

from itertools import cycle

import numpy as np
import pytest

from cmt.lm.model import FrozenLM
from cmt.retrieval._chunking import batch_by_length, split_into_chunks
from tests.helpers.facts import FACTS
from tests.helpers.lms import TinyLm


def without_spaces(text: str) -> str:
    return "".join(text.split())


def chunk_texts(
    lm: FrozenLM,
    text: str,
    *,
    title: str | None = None,
    source: str | None = None,
    longest: int = 32,
) -> list[str]:
    document = {"doc_id": "d", "title": title, "source": source, "text": text}
    chunks = split_into_chunks(document, lm=lm, longest=longest)
    assert [chunk.memory_id for chunk in chunks] == [f"d#{number}" for number in range(len(chunks))]
    assert all(chunk.tokens == lm.tokenize(chunk.text) for chunk in chunks)
    assert all(chunk.document is document for chunk in chunks)
    return [chunk.text for chunk in chunks]


def test_a_long_text_is_split_without_loss(tiny_lm: TinyLm) -> None:
    lm = tiny_lm("llama")
    facts = "".join(
        fact["text"] + space for fact, space in zip(FACTS, cycle([" ", "\n\n", "  "]), strict=False)
    )
    text = facts * (50_000 // len(facts) + 1)
    texts = chunk_texts(lm, text, longest=256)
    assert without_spaces("".join(texts)) == without_spaces(text)
    lengths = [len(lm.tokenize(chunk)) for chunk in texts]
    assert max(lengths) <= 256 + 4  # a word at the cut may be tokenized differently
    assert np.mean(lengths) > 128
    assert all(chunk.endswith((".", "!", "?")) for chunk in texts)


@pytest.mark.parametrize(
    "text",
    [
        "word " * 200,
        "🦦🧵" * 80,  # no sentence end, and no token that is a whole character
        "سلام دنیا " * 40,
        "一二三四五六七八九十。" * 30,
        "x" * 500,
        "One. " * 3,
    ],
)
def test_any_script_is_split_without_loss_or_repetition(tiny_lm: TinyLm, text: str) -> None:
    texts = chunk_texts(tiny_lm("llama"), text)
    assert without_spaces("".join(texts)) == without_spaces(text)
    assert all(len(tiny_lm("llama").tokenize(chunk)) <= 32 + 8 for chunk in texts)


def test_chunks_end_at_sentence_ends_and_begin_with_publisher_and_title(tiny_lm: TinyLm) -> None:
    lm = tiny_lm("llama")
    texts = chunk_texts(lm, "The ferry to Saltby costs six crowns. " * 9, title="The ferry")
    assert len(texts) > 2
    assert all(
        chunk.startswith("The ferry\nThe ferry to Saltby") and chunk.endswith("crowns.")
        for chunk in texts
    )
    assert (
        chunk_texts(lm, "Short.") == chunk_texts(lm, "Short.", source="file:fares.md") == ["Short."]
    )
    assert chunk_texts(lm, "Short.", title="The ferry", source="Northline") == [
        "Northline: The ferry\nShort."
    ]
    assert chunk_texts(lm, "", title="The ferry") == chunk_texts(lm, " \n ") == []


def test_batches_group_similar_lengths_within_the_limit(tiny_lm: TinyLm) -> None:
    lm = tiny_lm("llama")
    facts = [fact | {"title": None, "source": None} for fact in FACTS[:8]]
    chunks = [chunk for fact in facts for chunk in split_into_chunks(fact, lm=lm, longest=48)]
    batches = list(batch_by_length(chunks, 200))
    assert sorted(chunk.memory_id for batch in batches for chunk in batch) == sorted(
        chunk.memory_id for chunk in chunks
    )
    assert all(len(batch) * max(len(chunk.tokens) for chunk in batch) <= 200 for batch in batches)
    assert len(batches) < len(chunks)
    lengths = [len(chunk.tokens) for batch in batches for chunk in batch]
    assert lengths == sorted(lengths)
    assert [len(batch) for batch in batch_by_length(chunks, 1)] == [1] * len(chunks)


def test_batches_do_not_depend_on_the_order_of_documents(tiny_lm: TinyLm) -> None:
    twins = [
        {"doc_id": name, "title": None, "source": None, "text": "The ferry costs six crowns."}
        for name in "badec"
    ]
    chunks = [
        chunk for row in twins for chunk in split_into_chunks(row, lm=tiny_lm("llama"), longest=48)
    ]
    assert list(batch_by_length(chunks, 20)) == list(batch_by_length(chunks[::-1], 20))
    assert len(list(batch_by_length(chunks, 20))) > 1
