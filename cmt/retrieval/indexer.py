"""Documents ⇄ memories: compress documents to bank rows, and decode bank rows to the input of ψ and
π.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from cmt.bank import quantization
from cmt.bank.lexical import sketch
from cmt.bank.memory_ids import chunk_number, memory_id
from cmt.bank.schema import bank_schema, schema_value
from cmt.config import Params
from cmt.errors import ModelError
from cmt.modeling.codebook import stored_codes
from cmt.modeling.model import MemoryModel
from cmt.modeling.token_scores import RetrievedMemory
from cmt.retrieval._chunking import Chunk, batch_by_length, split_into_chunks
from cmt.text.display import heading

Array = NDArray[np.float32]
Encoded = list[tuple[Array, Array]]
"""Key (p,) and vectors (k, D) of each text of a batch; (k, 2·D) with the content channel."""

EncodeBatches = Callable[..., Iterator[Encoded]]
"""Encodes batches of token ids, in order, in several processes
(`cmt.retrieval.ray_engine.RayEncoder`).
"""


def memory_schema(model: MemoryModel, *, keep_text: bool, number_format: str) -> pa.Schema:
    """Schema of the bank that holds the memories of `model`.

    Without text, each vector has the content channel as a second half, and each row has a sketch of
    its words. `number_format`: `bank.codes`. Raises ModelError as
    `cmt.modeling.codebook.stored_codes`.
    """
    codes = stored_codes(number_format, model.codebook, keep_text=keep_text)
    channels = 1 if keep_text or model.config.compressor.kind == "tokens" else 2
    return bank_schema(
        key_dim=model.key_dim,
        codes=codes,
        dim=channels * model.lm.hidden_size,
        compressor=model.digest,
        sketched=not keep_text,
    )


def compress_documents(
    model: MemoryModel,
    documents: pa.Table,
    *,
    slice_id: str,
    params: Params,
    compressed: pa.Table | None = None,
    encode_batches: EncodeBatches | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> pa.Table:
    """Compress `documents` (DOCUMENT_SCHEMA) to bank rows (memory_schema), sorted by memory_id.

    If a document has several rows of one date, the last wins. Equal headings and texts are
    compressed once, and not at all if `compressed` (rows of the bank) has their memories. `params`
    give the form of the bank and the tokens of a forward pass. `on_progress` gets, for each batch,
    the number of documents that begin in it and its number of tokens. Batches depend only on the
    documents, so the same slice gives the same bytes in every bank that has none of its texts.
    `encode_batches` computes them; None: this process does.
    """
    bank = params.bank
    schema = memory_schema(model, keep_text=bank.keep_text, number_format=bank.codes)
    # 1. Collect the memories that are there, and cut the other documents into chunks.
    rows = list(
        {(row["doc_id"], row["published_at"]): row for row in documents.to_pylist()}.values()
    )
    memories = defaultdict[tuple[str, str], list[dict[str, Any]]](list)  # of each text and heading
    for memory in compressed.to_pylist() if compressed else ():
        memories[_content(memory)].append(memory)
    new = {_content(row): row for row in reversed(rows) if _content(row) not in memories}
    longest, chunks = model.config.compressor.chunk_tokens, list[Chunk]()
    for row in new.values():
        chunks += split_into_chunks(row, lm=model.lm, longest=longest)
    if on_progress and len(rows) > len(new):
        on_progress(len(rows) - len(new), 0)
    # 2. Compress these.
    for content, memory in _compressed(model, chunks, schema, params, encode_batches, on_progress):
        memories[content].append(memory)
    # 3. Give every version of a document its rows.
    return _bank_rows(rows, memories, schema, slice_id)


def _compressed(
    model: MemoryModel,
    chunks: Sequence[Chunk],
    schema: pa.Schema,
    params: Params,
    encode_batches: EncodeBatches | None,
    on_progress: Callable[[int, int], None] | None,
) -> Iterator[tuple[tuple[str, str], dict[str, Any]]]:
    """Text and heading, and memory, of each chunk, in batches of similar length."""
    batches = list(batch_by_length(chunks, params.compressor.batch_tokens))
    tokens = [[chunk.tokens for chunk in batch] for batch in batches]
    with_content = int(schema_value(schema, "dim")) != model.lm.hidden_size
    if encode_batches:
        encoded = encode_batches(tokens, with_content=with_content)
    else:
        encoded = (encode_batch(model, batch, with_content=with_content) for batch in tokens)
    codes = schema_value(schema, "codes")
    quantize: Callable[[Array], bytes] = partial(quantization.quantize, codes=codes)
    if model.codebook and codes == model.codebook.name:
        quantize = model.codebook.encode
    for batch, encoded_batch in zip(batches, encoded, strict=True):
        for chunk, (key, vectors) in zip(batch, encoded_batch, strict=True):
            memory = {
                "memory_id": chunk.memory_id,
                "n_tokens": len(chunk.tokens),
                "n_vectors": len(vectors),
                "key": key.astype(np.float16),
                "memory": quantize(vectors),
            }
            if params.bank.keep_text:
                memory["text"] = chunk.text
            else:
                memory |= {"text": None, "words": sketch(chunk.text)}
            yield _content(chunk.document), memory
        if on_progress:
            begun = sum(chunk.memory_id.endswith("#0") for chunk in batch)
            on_progress(begun, sum(len(chunk.tokens) for chunk in batch))


def _bank_rows(
    documents: Sequence[Mapping[str, Any]],
    memories: Mapping[tuple[str, str], Sequence[Mapping[str, Any]]],
    schema: pa.Schema,
    slice_id: str,
) -> pa.Table:
    """The rows of all versions of the documents; the latest one of the slice has plain
    memory_ids.

    `memories`: those of each text and heading, in the order of chunks.
    """
    latest = {}
    for row in sorted(documents, key=itemgetter("published_at")):
        latest[row["doc_id"]] = row["published_at"]
    common: dict[str, Any] = {"superseded_at": None, "hidden": None}
    common |= {"slice_id": slice_id, "compressor": schema_value(schema, "compressor")}
    names = ("doc_id", "published_at", "source", "supersedes", "sha256", "title")
    bank_rows = []
    for row in documents:
        version = None if latest[row["doc_id"]] == row["published_at"] else row["published_at"]
        for memory in memories.get(_content(row), ()):
            chunk = chunk_number(memory["memory_id"])
            record = {name: row[name] for name in names}
            record["memory_id"] = memory_id(row["doc_id"], chunk, version)
            bank_rows.append({**memory, **common, **record})
    return pa.Table.from_pylist(sorted(bank_rows, key=itemgetter("memory_id")), schema=schema)


def _content(document: Mapping[str, Any]) -> tuple[str, str]:
    return document["sha256"], heading(document["title"], document["source"])


def retrieved_memory(
    model: MemoryModel,
    row: Mapping[str, Any],
    schema: pa.Schema,
    *,
    prior: float = 0.0,
    before: Sequence[int] = (),
) -> RetrievedMemory:
    """Decode a row of a search for ψ and π; tokens come from the text or from the content channel.

    `schema`: of the bank. `prior`: log-probability of the row's document given the question.
    `before`: tokens of the superseded document. Raises ModelError if the memory was encoded with
    another codebook.
    """
    codes, dim = schema_value(schema, "codes"), int(schema_value(schema, "dim"))
    if not codes.startswith("pq"):
        decoded = quantization.dequantize(row["memory"], codes, dim)
    elif model.codebook and model.codebook.name == codes:
        decoded = model.codebook.decode(row["memory"])
    else:
        raise ModelError(
            f"the bank was filled with codebook {codes}, the compressor has "
            f"{model.codebook.name if model.codebook else 'none'}: restore its "
            "codebooks.safetensors, "
            "or set bank.uri to a new folder"
        )
    stored = torch.from_numpy(decoded)  # (k, D) or (k, 2·D)
    vectors, content = stored.tensor_split(
        [model.lm.hidden_size], dim=1
    )  # (k, D), (k, 0) or (k, D)
    if row["text"] is not None:
        tokens = model.lm.tokenize(row["text"])
    elif content.shape[1]:
        tokens = model.content.read(content, row["n_tokens"])
    else:
        tokens = []
    return RetrievedMemory(vectors, tokens, prior, before)


@torch.no_grad()
def encode_batch(
    model: MemoryModel, batch: Sequence[Sequence[int]], *, with_content: bool
) -> Encoded:
    """Θ's keys and vectors of a batch of token ids; `with_content` appends the content channel to
    the vectors.
    """
    with model.autocast():
        encoding = model.encode(batch, group=len(batch))
    encoded = []
    for row, (tokens, count) in enumerate(
        zip(batch, encoding.vector_mask.sum(1).tolist(), strict=True)
    ):
        vectors = encoding.vectors[row, :count].float()  # (k, D)
        if with_content:
            content = model.content.write(list(tokens))  # (k, D)
            # Both halves share the scale of a quantized vector; decoding the content does not
            # depend on its norm.
            content = content * (
                vectors.abs().amax(1, keepdim=True) / content.abs().amax(1, keepdim=True)
            )
            vectors = torch.cat([vectors, content], 1)  # (k, 2·D)
        encoded.append((encoding.key[row].float().cpu().numpy(), vectors.cpu().numpy()))
    return encoded
