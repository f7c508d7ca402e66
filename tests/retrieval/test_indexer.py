"""Documents compressed to bank rows, and rows decoded for ψ."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch

from cmt.bank.schema import row_problems
from cmt.config import (
    AggregatorParams,
    AlignmentParams,
    CompressorParams,
    ObjectiveParams,
    Params,
)
from cmt.errors import ModelError
from cmt.lm.model import FrozenLM
from cmt.modeling.checkpoint import CompressorConfig
from cmt.modeling.codebook import Codebook
from cmt.modeling.loading import new_memory_model
from cmt.modeling.model import MemoryModel
from cmt.retrieval.indexer import compress_documents, memory_schema, retrieved_memory
from tests.helpers.facts import FACTS, documents
from tests.helpers.lms import TinyLm

FORMATS = ["fp16", "int8", "int4"]


def model(lm: FrozenLM, *, layers: int = 2, kind: str = "windows") -> MemoryModel:
    torch.manual_seed(5)
    compressor = CompressorParams.model_validate(
        {"kind": kind, "layers": layers, "lora_rank": 2, "memory_tokens": 3, "chunk_tokens": 32}
    )
    published = kind == "tokens"
    aggregator = AggregatorParams(
        kind="attention" if published else "windows", blocks=2, lora_rank=2, heads=2
    )
    alignment = AlignmentParams(kind="prefix" if published else "text", slots=2)
    config = CompressorConfig(compressor, aggregator, alignment, ObjectiveParams())
    return new_memory_model(lm, config, digest="c" * 64).eval()


def rows_of(compressor: MemoryModel, facts: list[dict[str, Any]], **options: Any) -> pa.Table:
    bank = {
        "keep_text": options.pop("keep_text", True),
        "codes": options.pop("number_format", "int8"),
    }
    params = Params().with_values(bank=bank, compressor={"batch_tokens": 256})
    options = {"slice_id": "2030-03/0001"} | options
    return compress_documents(compressor, documents(facts), params=params, **options)


def test_a_row_carries_the_fields_of_its_document(tiny_lm: TinyLm) -> None:
    compressor = model(tiny_lm("llama"))
    text = "The ferry to Saltby costs six crowns. " * 4
    fields = {"doc_id": "ferry", "text": text, "title": "Boats", "supersedes": "x"}
    rows = rows_of(compressor, [fields])
    assert rows["memory_id"].to_pylist() == [f"ferry#{number}" for number in range(len(rows))]
    row = rows.to_pylist()[0]
    original = documents([fields]).to_pylist()[0]
    for name in ("doc_id", "published_at", "title", "supersedes", "sha256"):
        assert row[name] == original[name]
    assert (row["slice_id"], row["compressor"]) == ("2030-03/0001", "c" * 64)
    assert row["n_tokens"] == len(compressor.lm.tokenize(row["text"]))
    assert row["n_vectors"] == -(-row["n_tokens"] // 4)
    assert np.linalg.norm(row["key"]) == pytest.approx(1.0, abs=1e-3)  # fp16


@pytest.mark.parametrize("kind", ["windows", "tokens"])
@pytest.mark.parametrize("number_format", FORMATS)
@pytest.mark.parametrize("keep_text", [True, False])
def test_rows_are_valid_in_their_schema(
    tiny_lm: TinyLm, kind: str, number_format: str, keep_text: bool
) -> None:
    compressor = model(tiny_lm("llama"), kind=kind)
    rows = rows_of(compressor, FACTS[:3], keep_text=keep_text, number_format=number_format)
    assert rows.schema == memory_schema(
        compressor, keep_text=keep_text, number_format=number_format
    )
    assert rows.schema.metadata[b"dim"] == (b"64" if kind == "windows" and not keep_text else b"32")
    assert row_problems(rows, rows.schema) == []
    assert (rows["text"].null_count == 0) is keep_text


def test_the_same_documents_give_the_same_rows_in_any_order(tiny_lm: TinyLm) -> None:
    compressor = model(tiny_lm("llama"))
    rows = rows_of(compressor, FACTS[:6], keep_text=False)
    assert rows_of(compressor, FACTS[:6], keep_text=False) == rows
    assert rows_of(compressor, FACTS[5::-1], keep_text=False) == rows
    assert rows_of(compressor, FACTS[:5], keep_text=False) != rows


def test_vectors_are_stored_and_read_by_the_codebook(tiny_lm: TinyLm) -> None:
    compressor = model(tiny_lm("llama"))
    with pytest.raises(ModelError, match="no codebook for its window"):
        rows_of(compressor, FACTS[:1], number_format="pq")
    exact = rows_of(compressor, FACTS, number_format="fp16")
    vectors = [
        retrieved_memory(compressor, row, exact.schema).vectors.numpy() for row in exact.to_pylist()
    ]
    compressor.codebook = Codebook.fit(np.concatenate(vectors), parts=8, seed=0)
    rows = rows_of(compressor, FACTS, number_format="pq")
    assert rows.schema == memory_schema(compressor, keep_text=True, number_format="pq")
    assert row_problems(rows, rows.schema) == []
    assert pc.binary_length(rows["memory"]).to_pylist() == [
        8 * count for count in rows["n_vectors"].to_pylist()
    ]
    for row, twin in zip(rows.to_pylist(), exact.to_pylist(), strict=True):
        ours = retrieved_memory(compressor, row, rows.schema).vectors
        theirs = retrieved_memory(compressor, twin, exact.schema).vectors
        assert torch.nn.functional.cosine_similarity(ours, theirs).min() > 0.7
    compressor.codebook = None
    with pytest.raises(ModelError, match=r"filled with codebook pq8-\w+, the compressor has none"):
        retrieved_memory(compressor, rows.to_pylist()[0], rows.schema)


def test_on_progress_counts_documents_and_tokens(tiny_lm: TinyLm) -> None:
    calls: list[tuple[int, int]] = []
    rows = rows_of(
        model(tiny_lm("llama")), FACTS[:5], on_progress=lambda *counts: calls.append(counts)
    )
    assert sum(count for count, _ in calls) == 5
    assert sum(tokens for _, tokens in calls) == sum(rows["n_tokens"].to_pylist())
    assert len(calls) > 1


def test_a_stored_text_is_tokenized_for_reading(tiny_lm: TinyLm) -> None:
    compressor = model(tiny_lm("llama"))
    rows = rows_of(compressor, FACTS[:1])
    for row in rows.to_pylist():
        memory = retrieved_memory(compressor, row, rows.schema, prior=-0.5)
        assert compressor.lm.decode(memory.tokens) == row["text"]
        assert memory.vectors.shape == (row["n_vectors"], 32)
        assert memory.prior == -0.5
    # memories of learned tokens have no text tokens
    learned = model(tiny_lm("llama"), kind="tokens")
    rows = rows_of(learned, FACTS[:1], keep_text=False)
    memory = retrieved_memory(learned, rows.to_pylist()[0], rows.schema, prior=0.0)
    assert (memory.tokens, memory.vectors.shape) == ([], (3, 32))


def test_without_text_tokens_are_decoded_from_the_vectors(real_lm: FrozenLM) -> None:
    compressor = model(real_lm, layers=1)
    number_format = "int4"  # the coarsest
    rows = rows_of(compressor, FACTS[:3], keep_text=False, number_format=number_format)
    with_text = rows_of(compressor, FACTS[:3], keep_text=True, number_format=number_format)
    assert rows["text"].null_count == len(rows)
    correct = total = 0
    for row, twin in zip(rows.to_pylist(), with_text.to_pylist(), strict=True):
        memory = retrieved_memory(compressor, row, rows.schema, prior=0.0)
        expected = real_lm.tokenize(twin["text"])
        correct += sum(a == b for a, b in zip(memory.tokens, expected, strict=True))
        total += len(expected)
        ours = retrieved_memory(compressor, twin, with_text.schema, prior=0.0).vectors
        torch.testing.assert_close(
            memory.vectors, ours
        )  # the content channel leaves the other one unchanged
    assert correct / total >= 0.99
