"""Documents cut into chunks, chunks into rows of the bank, and rows back into what ψ reads."""

from collections.abc import Callable
from itertools import cycle
from typing import Any

import numpy as np
import pytest
import torch

from cmt.bank.schema import row_problems
from cmt.config import AggregatorParams, AlignmentParams, CompressorParams, ObjectiveParams
from cmt.lm.model import FrozenLM
from cmt.modeling.checkpoint import CompressorConfig
from cmt.modeling.model import MemoryModel
from cmt.retrieval.chunking import batch_by_length, split_into_chunks
from cmt.retrieval.indexer import compress_documents, memory_schema, retrieved_memory
from tests.helpers.facts import FACTS, documents

TinyLm = Callable[[str], FrozenLM]
FORMATS = ["fp16", "int8", "int4"]


def model(lm: FrozenLM, *, layers: int = 2, kind: str = "windows") -> MemoryModel:
    torch.manual_seed(5)
    theta = CompressorParams.model_validate(
        {"kind": kind, "layers": layers, "lora_rank": 2, "memory_tokens": 3, "chunk_tokens": 32}
    )
    published = kind == "tokens"
    psi = AggregatorParams(kind="attention" if published else "windows", blocks=2, lora_rank=2, heads=2)
    pi = AlignmentParams(kind="prefix" if published else "text", slots=2)
    return MemoryModel(lm, CompressorConfig(theta, psi, pi, ObjectiveParams()), digest="c" * 64).eval()


def rows_of(theta: MemoryModel, made: list[dict[str, Any]], **how: Any) -> Any:
    options: dict[str, Any] = {
        "slice_id": "2030-03/0001",
        "keep_text": True,
        "number_format": "int8",
        "batch_tokens": 256,
    } | how
    return compress_documents(theta, documents(made), **options)


def bare(text: str) -> str:
    return "".join(text.split())


def chunks(lm: FrozenLM, text: str, *, title: str | None = None, longest: int = 32) -> list[str]:
    document = {"doc_id": "d", "title": title, "text": text}
    made = split_into_chunks(document, lm=lm, longest=longest)
    assert [chunk.memory_id for chunk in made] == [f"d#{number}" for number in range(len(made))]
    assert all(chunk.tokens == lm.tokenize(chunk.text) for chunk in made)
    return [chunk.text for chunk in made]


def test_nothing_of_two_megabytes_is_lost(tiny_lm: TinyLm) -> None:
    lm = tiny_lm("llama")
    facts = "".join(fact["text"] + space for fact, space in zip(FACTS, cycle([" ", "\n\n", "  "]), strict=False))
    text = facts * (2_000_000 // len(facts) + 1)
    made = chunks(lm, text, longest=256)
    assert bare("".join(made)) == bare(text)
    lengths = [len(lm.tokenize(chunk)) for chunk in made]
    assert max(lengths) <= 256 + 4  # a word at the seam may fall into other tokens
    assert np.mean(lengths) > 128
    assert all(chunk.endswith((".", "!", "?")) for chunk in made)


@pytest.mark.parametrize(
    "text",
    [
        "word " * 200,
        "🦦🧵" * 80,  # no end of a sentence anywhere, and no token that is a whole character
        "سلام دنیا " * 40,
        "一二三四五六七八九十。" * 30,
        "x" * 500,
        "One. " * 3,
    ],
)
def test_nothing_is_lost_or_doubled_in_any_writing(tiny_lm: TinyLm, text: str) -> None:
    made = chunks(tiny_lm("llama"), text)
    assert bare("".join(made)) == bare(text)
    assert all(len(tiny_lm("llama").encode(chunk)) <= 32 + 8 for chunk in made)


def test_chunks_end_with_a_sentence_where_there_is_one(tiny_lm: TinyLm) -> None:
    made = chunks(tiny_lm("llama"), "The harbour was built by the mayor of Port Ellery. " * 6)
    assert len(made) > 1
    assert all(chunk.endswith("Ellery.") for chunk in made)


def test_the_title_stands_before_every_chunk(tiny_lm: TinyLm) -> None:
    made = chunks(tiny_lm("llama"), "The ferry to Saltby costs six crowns. " * 9, title="The ferry")
    assert len(made) > 2
    assert all(chunk.startswith("The ferry\nThe ferry to Saltby") for chunk in made)
    assert chunks(tiny_lm("llama"), "Short.") == ["Short."]


def test_a_row_says_where_it_is_from(tiny_lm: TinyLm) -> None:
    theta = model(tiny_lm("llama"))
    text = "The ferry to Saltby costs six crowns. " * 4
    about = {"doc_id": "ferry", "text": text, "title": "Boats", "supersedes": "x"}
    made = rows_of(theta, [about])
    assert made["memory_id"].to_pylist() == [f"ferry#{number}" for number in range(len(made))]
    row = made.to_pylist()[0]
    original = documents([about]).to_pylist()[0]
    for name in ("doc_id", "published_at", "title", "supersedes", "sha256"):
        assert row[name] == original[name]
    assert (row["slice_id"], row["compressor"]) == ("2030-03/0001", "c" * 64)
    assert row["n_tokens"] == len(theta.lm.tokenize(row["text"]))
    assert row["n_vectors"] == -(-row["n_tokens"] // 4)
    assert np.linalg.norm(row["key"]) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("kind", ["windows", "tokens"])
@pytest.mark.parametrize("number_format", FORMATS)
@pytest.mark.parametrize("keep_text", [True, False])
def test_rows_fit_the_bank(tiny_lm: TinyLm, kind: str, number_format: str, keep_text: bool) -> None:
    theta = model(tiny_lm("llama"), kind=kind)
    made = rows_of(theta, FACTS[:3], keep_text=keep_text, number_format=number_format)
    assert made.schema == memory_schema(theta, keep_text=keep_text, number_format=number_format)
    assert made.schema.metadata[b"dim"] == (b"64" if kind == "windows" and not keep_text else b"32")
    assert row_problems(made, made.schema) == []
    assert (made["text"].null_count == 0) is keep_text


@pytest.mark.parametrize("keep_text", [True, False])
def test_the_same_documents_give_the_same_bytes_in_any_order(tiny_lm: TinyLm, keep_text: bool) -> None:
    theta = model(tiny_lm("llama"))
    made = rows_of(theta, FACTS[:6], keep_text=keep_text)
    assert rows_of(theta, FACTS[:6], keep_text=keep_text) == made
    assert rows_of(theta, FACTS[5::-1], keep_text=keep_text) == made
    assert rows_of(theta, FACTS[:5], keep_text=keep_text) != made


def test_a_memory_does_not_depend_on_what_it_is_compressed_with(tiny_lm: TinyLm) -> None:
    for kind in ("windows", "tokens"):
        theta = model(tiny_lm("llama"), kind=kind)
        together = rows_of(theta, FACTS[:6], number_format="fp16")
        schema = together.schema
        for row in together.to_pylist():
            fact = next(fact for fact in FACTS if fact["doc_id"] == row["doc_id"])
            alone = rows_of(theta, [fact], number_format="fp16", batch_tokens=1).to_pylist()
            twin = next(other for other in alone if other["memory_id"] == row["memory_id"])
            np.testing.assert_allclose(row["key"], twin["key"], rtol=1e-4, atol=1e-5)
            ours, theirs = (retrieved_memory(theta, r, schema, prior=0.0).vectors for r in (row, twin))
            torch.testing.assert_close(ours, theirs, rtol=2e-3, atol=2e-3)  # fp16 may round either way


def test_progress_counts_documents_and_tokens(tiny_lm: TinyLm) -> None:
    heard: list[tuple[int, int]] = []
    made = rows_of(model(tiny_lm("llama")), FACTS[:5], on_progress=lambda *what: heard.append(what))
    assert sum(count for count, _ in heard) == 5
    assert sum(tokens for _, tokens in heard) == sum(made["n_tokens"].to_pylist())
    assert len(heard) > 1


def test_batches_hold_what_they_may(tiny_lm: TinyLm) -> None:
    lm = tiny_lm("llama")
    made = [chunk for fact in FACTS[:8] for chunk in split_into_chunks(fact | {"title": None}, lm=lm, longest=48)]
    grouped = list(batch_by_length(made, 200))
    assert sorted(c.memory_id for batch in grouped for c in batch) == sorted(c.memory_id for c in made)
    assert all(len(batch) * max(len(c.tokens) for c in batch) <= 200 for batch in grouped)
    assert len(grouped) < len(made)
    lengths = [len(c.tokens) for batch in grouped for c in batch]
    assert lengths == sorted(lengths)
    assert [len(batch) for batch in batch_by_length(made, 1)] == [1] * len(made)


def test_batches_do_not_depend_on_the_order_of_the_documents(tiny_lm: TinyLm) -> None:
    twins = [{"doc_id": name, "title": None, "text": "The ferry costs six crowns."} for name in "badec"]
    made = [chunk for row in twins for chunk in split_into_chunks(row, lm=tiny_lm("llama"), longest=48)]
    assert list(batch_by_length(made, 20)) == list(batch_by_length(made[::-1], 20))
    assert len(list(batch_by_length(made, 20))) > 1


def test_kept_text_is_what_is_read(tiny_lm: TinyLm) -> None:
    theta = model(tiny_lm("llama"))
    made = rows_of(theta, FACTS[:1])
    for row in made.to_pylist():
        memory = retrieved_memory(theta, row, made.schema, prior=-0.5)
        assert theta.lm.decode(memory.tokens) == row["text"]
        assert memory.vectors.shape == (row["n_vectors"], 32)
        assert memory.prior == -0.5


def test_memory_tokens_carry_no_text(tiny_lm: TinyLm) -> None:
    theta = model(tiny_lm("llama"), kind="tokens")
    made = rows_of(theta, FACTS[:1], keep_text=False)
    memory = retrieved_memory(theta, made.to_pylist()[0], made.schema, prior=0.0)
    assert memory.tokens == []
    assert memory.vectors.shape == (3, 32)


@pytest.mark.parametrize("number_format", FORMATS)
def test_without_text_the_tokens_come_back_from_the_vectors(real_lm: FrozenLM, number_format: str) -> None:
    theta = model(real_lm, layers=1)
    made = rows_of(theta, FACTS[:3], keep_text=False, number_format=number_format)
    with_text = rows_of(theta, FACTS[:3], keep_text=True, number_format=number_format)
    assert made["text"].null_count == len(made)
    right = total = 0
    for row, twin in zip(made.to_pylist(), with_text.to_pylist(), strict=True):
        memory, expected = retrieved_memory(theta, row, made.schema, prior=0.0), real_lm.tokenize(twin["text"])
        right += sum(a == b for a, b in zip(memory.tokens, expected, strict=True))
        total += len(expected)
        ours = retrieved_memory(theta, twin, with_text.schema, prior=0.0).vectors
        torch.testing.assert_close(memory.vectors, ours)  # the content channel takes nothing from the other
    assert right / total >= 0.99
