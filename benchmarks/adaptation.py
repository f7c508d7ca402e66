"""What bar 10 (`benchmarks/model_bars.py`) runs in a process of its own: adapting documents."""

from pathlib import Path
from typing import Any

import pyarrow as pa
from bars import timed
from protocol import Sample

import cmt
from cmt.modeling.model import MemoryModel
from cmt.retrieval.indexer import compress_documents


def adapt(params: Path, source: Path, folder: Path, window: int | None, count: int) -> tuple[float, int]:
    """Seconds, and peak memory in bytes over that before, of compressing `count` articles with `folder`."""
    opened = cmt.open(params=params)
    model = MemoryModel.load(folder, lm=opened.lm, window=window, merged=True)
    articles = Sample.draw(source, "jsonl", documents=10**6, questions=1, seed=0).documents
    documents = pa.concat_tables([articles] * (1 + count // len(articles))).slice(0, count)
    options: dict[str, Any] = {"keep_text": True, "number_format": opened.params.bank.codes, "slice_id": "bench"}
    batch_tokens = opened.params.compressor.batch_tokens
    compress_documents(model, documents.slice(0, 1), batch_tokens=batch_tokens, **options)  # warm up
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak counts from here
    taken = timed(lambda: compress_documents(model, documents, batch_tokens=batch_tokens, **options))
    return taken, memory("VmHWM") - before


def memory(name: str) -> int:
    """A figure of /proc/self/status in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
