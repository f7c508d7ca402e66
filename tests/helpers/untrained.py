"""A real answerer over a real bank, with an untrained compressor and small parameters."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from cmt.answering.answerer import Answerer
from cmt.bank.bank import Bank
from cmt.config import Params
from cmt.lm.model import FrozenLM
from cmt.modeling.checkpoint import CompressorConfig
from cmt.modeling.model import MemoryModel
from cmt.retrieval.indexer import compress_documents, memory_schema
from tests.helpers.facts import documents

SMALL: dict[str, dict[str, Any]] = {
    "compressor": {"layers": 2, "lora_rank": 2, "chunk_tokens": 32, "memory_tokens": 3},
    "aggregator": {"blocks": 2, "lora_rank": 2, "heads": 2},
    "alignment": {"slots": 3},
    "answering": {"max_new_tokens": 8, "batch_size": 3},
    "selection": {"threshold": -1.0, "reach": math.inf},
}
PUBLISHED: dict[str, dict[str, Any]] = {"aggregator": {"kind": "attention"}, "alignment": {"kind": "prefix"}}
MAYORS = [
    {"doc_id": "moss", "published_at": "2031-01-06T07:00:00Z", "text": "Moss is the mayor of Port Ellery."},
    {
        "doc_id": "vell",
        "published_at": "2031-02-20T07:00:00Z",
        "text": "Vell is the mayor of Port Ellery now.",
        "supersedes": "moss",
    },
    {"doc_id": "ferry", "published_at": "2031-01-09T07:00:00Z", "text": "The ferry to Saltby costs six crowns."},
]


def small_params(**sections: dict[str, Any]) -> Params:
    """SMALL, with some values replaced."""
    merged = {name: SMALL.get(name, {}) | sections.get(name, {}) for name in SMALL.keys() | sections.keys()}
    return Params.model_validate(merged)


def untrained_answerer(
    lm: FrozenLM, folder: Path, rows: Sequence[dict[str, Any]], *, params: Params | None = None
) -> Answerer:
    """An answerer over a bank of `rows` in `folder`; adapters and heads of its compressor are not at zero."""
    params = params or small_params()
    torch.manual_seed(5)
    model = MemoryModel(lm, CompressorConfig.of(params), digest="c" * 64).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and "lora_A" not in name and name != "log_temperature":
                parameter.add_(0.1 * torch.randn(parameter.shape))
    bank_params = params.bank
    schema = memory_schema(model, keep_text=bank_params.keep_text, number_format=bank_params.codes)
    bank = Bank.open(uri=str(folder), schema=schema)
    bank.upsert(
        compress_documents(
            model,
            documents(list(rows)),
            slice_id="2031-01/0001",
            keep_text=bank_params.keep_text,
            number_format=bank_params.codes,
            batch_tokens=256,
        )
    )
    return Answerer(model=model, lm=lm, bank=bank, params=params)
