"""Fitting the codebook of a compressor (`cmt.modeling.codebook`) to its vectors of some
documents.
"""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from cmt.bank import quantization
from cmt.config import Params
from cmt.errors import ConfigError
from cmt.lm.model import FrozenLM
from cmt.modeling.codebook import Codebook
from cmt.modeling.loading import load_memory_model
from cmt.retrieval.indexer import compress_documents

MAX_DOCUMENTS = 2_000  # compressed for a fit: some 40,000 vectors at a window of 8
NUMBERS_PER_BYTE = 16
"""Smallest default number of vector elements per byte. With the default LM and a window of 16, F1
on held-out articles was 0.1 below fp16 (docs/experiments.md, E85)."""


def fit_codebook(
    folder: Path,
    documents: pa.Table,
    *,
    lm: FrozenLM,
    params: Params,
    parts: int | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Codebook:
    """Fit the codebook of the compressor in `folder` for `compressor.window` to a sample of
    `documents`, and write it.

    `parts`: bytes of a vector (M); None: the largest divisor of D that leaves at least
    NUMBERS_PER_BYTE elements per byte. `on_progress` gets the number of documents of each batch.
    Raises ConfigError as `Codebook.fit`, ModelError as `load_memory_model`.
    """
    window, dim = params.compressor.window, lm.hidden_size
    # 1. the vectors of a sample
    rows = random.Random(params.seed).sample(
        range(len(documents)), min(MAX_DOCUMENTS, len(documents))
    )
    memories = compress_documents(
        load_memory_model(folder, lm=lm, window=window, merged=True),
        documents.take(pa.array(sorted(rows), pa.int64())),
        slice_id="codebook",
        params=params.with_values(bank={"keep_text": True, "codes": "fp16"}),
        on_progress=None if on_progress is None else lambda count, _tokens: on_progress(count),
    )
    vectors = [
        quantization.dequantize(blob, "fp16", dim) for blob in memories["memory"].to_pylist()
    ]
    # 2. the centroids of each part
    divisors = (parts for parts in range(1, dim + 1) if dim % parts == 0)
    usual = max(parts for parts in divisors if parts == 1 or dim // parts >= NUMBERS_PER_BYTE)
    codebook = Codebook.fit(np.concatenate(vectors), parts=parts or usual, seed=params.seed)
    codebook.save(folder, window)
    return codebook


def renew_codebook(
    start: Path, folder: Path, documents: pa.Table, *, lm: FrozenLM, params: Params
) -> None:
    """If the compressor in `start` has a codebook, fit one of the same size for the compressor in
    `folder`.

    With too few documents the codebook of `start` is copied. `bank.codes: auto` uses the codebook.
    """
    window = params.compressor.window
    if codebook := Codebook.load(start, window):
        try:
            fit_codebook(folder, documents, lm=lm, params=params, parts=len(codebook.centroids))
        except ConfigError:
            codebook.save(folder, window)
