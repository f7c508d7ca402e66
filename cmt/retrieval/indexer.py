"""Documents ⇄ memories: text in, rows of the bank out; a row of the bank in, what ψ and π need out."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from cmt.bank import quantization
from cmt.bank.lexical import sketch
from cmt.bank.schema import bank_schema
from cmt.modeling.model import MemoryModel, RetrievedMemory
from cmt.retrieval.chunking import Chunk, batch_by_length, split_into_chunks

Array = NDArray[np.float32]


def memory_schema(model: MemoryModel, *, keep_text: bool, number_format: str) -> pa.Schema:
    """Schema of the bank that `model` writes.

    Without text each vector carries its content channel as a second half, and a row the sketch of its words.
    """
    channels = 1 if keep_text or model.config.compressor.kind == "tokens" else 2
    width = model.key_dim
    return bank_schema(
        key_dim=width, codes=number_format, dim=channels * width, compressor=model.digest, sketched=not keep_text
    )


def compress_documents(
    model: MemoryModel,
    documents: pa.Table,
    *,
    slice_id: str,
    keep_text: bool,
    number_format: str,
    batch_tokens: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> pa.Table:
    """`documents` (DOCUMENT_SCHEMA) as rows of the bank, sorted by memory_id.

    `on_progress` is called with documents begun and tokens. Batches depend on the documents alone: the same slice gives
    the same bytes however often it is repeated.
    """
    longest = model.config.compressor.chunk_tokens
    chunks = [chunk for row in documents.to_pylist() for chunk in split_into_chunks(row, lm=model.lm, longest=longest)]
    schema = memory_schema(model, keep_text=keep_text, number_format=number_format)
    rows: list[dict[str, Any]] = []
    for batch in batch_by_length(chunks, batch_tokens):
        encoded = _encode(model, batch, content=schema.metadata[b"dim"] != str(model.key_dim).encode())
        rows += [
            _row(chunk, key, vectors, schema, slice_id=slice_id, keep_text=keep_text) for chunk, key, vectors in encoded
        ]
        if on_progress:
            on_progress(sum(chunk.first for chunk in batch), sum(len(chunk.tokens) for chunk in batch))
    return pa.Table.from_pylist(sorted(rows, key=lambda row: str(row["memory_id"])), schema=schema)


def retrieved_memory(
    model: MemoryModel, row: Mapping[str, Any], schema: pa.Schema, *, prior: float = 0.0, before: Sequence[int] = ()
) -> RetrievedMemory:
    """A row that the bank's search found, as ψ gets it; its tokens come from the text or from the content channel."""
    vectors, content = channels(model, row, schema)
    if row["text"] is not None:
        tokens = model.lm.tokenize(row["text"])
    else:
        tokens = model.content.read(content, row["n_tokens"]) if len(content) else []
    return RetrievedMemory(vectors, tokens, prior, before)


def channels(model: MemoryModel, row: Mapping[str, Any], schema: pa.Schema) -> tuple[torch.Tensor, torch.Tensor]:
    """A row's memory (k, D), and its content channel (k, D), or (0, D) where the bank has none."""
    metadata = schema.metadata
    whole = torch.from_numpy(quantization.dequantize(row["memory"], metadata[b"codes"].decode(), int(metadata[b"dim"])))
    vectors, content = whole[:, : model.key_dim], whole[:, model.key_dim :]
    return vectors, content if content.shape[1] else content.new_zeros(0, model.key_dim)


@torch.no_grad()
def _encode(model: MemoryModel, batch: Sequence[Chunk], *, content: bool) -> list[tuple[Chunk, Array, Array]]:
    """Each chunk with its key (p,) and its vectors (k, D), or (k, 2·D) with the content channel."""
    with model.autocast():
        code = model.encode([chunk.tokens for chunk in batch], group=len(batch))
    made = []
    for row, (chunk, count) in enumerate(zip(batch, code.vector_mask.sum(1).tolist(), strict=True)):
        vectors = code.vectors[row, :count].float()
        if content:
            held = model.content.write(chunk.tokens)
            # both halves share a scale in the codes; reading does not mind how long a vector is
            held = held * (vectors.abs().amax(1, keepdim=True) / held.abs().amax(1, keepdim=True))
            vectors = torch.cat([vectors, held], 1)
        made.append((chunk, code.key[row].float().cpu().numpy(), vectors.cpu().numpy()))
    return made


def _row(
    chunk: Chunk, key: Array, vectors: Array, schema: pa.Schema, *, slice_id: str, keep_text: bool
) -> dict[str, Any]:
    document = chunk.document
    kept = {"text": chunk.text} if keep_text else {"text": None, "words": sketch(chunk.text)}
    return kept | {
        "memory_id": chunk.memory_id,
        "doc_id": document["doc_id"],
        "slice_id": slice_id,
        "published_at": document["published_at"],
        "supersedes": document["supersedes"],
        "sha256": document["sha256"],
        "compressor": schema.metadata[b"compressor"].decode(),
        "title": document["title"],
        "key": key,
        "memory": quantization.quantize(vectors, schema.metadata[b"codes"].decode()),
        "n_vectors": len(vectors),
        "n_tokens": len(chunk.tokens),
    }
