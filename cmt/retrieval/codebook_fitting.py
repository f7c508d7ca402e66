"""Fitting the codebook of a compressor (`cmt.modeling.codebook`) to its vectors of some documents."""

import random
from collections.abc import Callable

import numpy as np
import pyarrow as pa

from cmt.bank import quantization
from cmt.common.arrow import take
from cmt.modeling.codebook import Codebook
from cmt.modeling.model import MemoryModel
from cmt.retrieval.indexer import compress_documents

DOCUMENTS = 2_000  # that are compressed, at most: some 40,000 vectors at a window of 8
NUMBERS = 16
"""For which one byte stands, at least, unless it is told how many bytes a vector has. With the default LM and a window
of 16, F1 on held-out articles was 0.1 below fp16 (docs/experiments.md, E85)."""


def fit_codebook(
    model: MemoryModel,
    documents: pa.Table,
    *,
    parts: int | None,
    batch_tokens: int,
    seed: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> Codebook:
    """The codebook for the window of `model`, from a sample of `documents`.

    `parts`: bytes of a vector; None: as many as let a byte stand for NUMBERS numbers or a few more.

    Raises ConfigError as `Codebook.fit`.
    """
    rows = random.Random(seed).sample(range(len(documents)), min(DOCUMENTS, len(documents)))
    memories = compress_documents(
        model,
        take(documents, sorted(rows)),
        slice_id="codebook",
        keep_text=True,
        number_format="fp16",
        batch_tokens=batch_tokens,
        on_progress=on_progress,
    )
    dim = model.lm.hidden_size
    vectors = [quantization.dequantize(blob, "fp16", dim) for blob in memories["memory"].to_pylist()]
    return Codebook.fit(np.concatenate(vectors), parts=parts or _usual_parts(dim), seed=seed)


def _usual_parts(dim: int) -> int:
    return max(parts for parts in range(1, dim + 1) if dim % parts == 0 and (parts == 1 or dim // parts >= NUMBERS))
