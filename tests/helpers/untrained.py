"""Answerers over a small real bank, with an untrained compressor."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from cmt.answering.answer import Answer
from cmt.answering.answerer import Answerer
from cmt.bank.bank import open_bank
from cmt.bank.location import BankLocation
from cmt.config import Params
from cmt.lm.model import FrozenLM
from cmt.modeling.checkpoint import CompressorConfig
from cmt.modeling.loading import new_memory_model
from cmt.retrieval.indexer import compress_documents, memory_schema
from tests.helpers.facts import documents

Sections = dict[str, dict[str, Any]]

SMALL: Sections = {
    "compressor": {"layers": 2, "lora_rank": 2, "chunk_tokens": 32, "memory_tokens": 3},
    "aggregator": {"blocks": 2, "lora_rank": 2, "heads": 2},
    "alignment": {"slots": 3},
    "answering": {"max_new_tokens": 8, "batch_size": 3},
    "selection": {"abstain_below": -1.0, "max_logprob_gap": math.inf},
}
PUBLISHED: Sections = {"aggregator": {"kind": "attention"}, "alignment": {"kind": "prefix"}}
SETUPS: dict[str, Sections] = {
    "text": {},
    "vectors": {"bank": {"keep_text": False}},
    "published": PUBLISHED,
    "published tokens": PUBLISHED | {"compressor": {"kind": "tokens"}},
}
MAYORS: list[dict[str, Any]] = [
    {
        "doc_id": "moss",
        "published_at": "2031-01-06T07:00:00Z",
        "text": "Moss is the mayor of Port Ellery.",
    },
    {
        "doc_id": "vell",
        "published_at": "2031-02-20T07:00:00Z",
        "text": "Vell is the mayor of Port Ellery now.",
        "supersedes": "moss",
    },
    {
        "doc_id": "ferry",
        "published_at": "2031-01-09T07:00:00Z",
        "text": "The ferry to Saltby costs six crowns.",
    },
]
QUESTIONS = [
    "Who is the mayor of Port Ellery?",
    "What does the ferry to Saltby cost a trip, and since when has it been so dear?",
    "Six?",
    "Who?",
]
NOW = [None] * len(QUESTIONS)


def small_params(**sections: dict[str, Any]) -> Params:
    """SMALL, with `sections` over it."""
    merged = {
        name: SMALL.get(name, {}) | sections.get(name, {})
        for name in SMALL.keys() | sections.keys()
    }
    return Params.model_validate(merged)


def untrained_answerer(
    lm: FrozenLM,
    folder: Path,
    rows: Sequence[dict[str, Any]],
    *,
    params: Params | None = None,
    one_by_one: bool = False,
) -> Answerer:
    """An answerer whose bank in `folder` holds `rows`; its compressor is untrained, with random
    adapters and heads.
    """
    params = params or small_params()
    torch.manual_seed(5)
    model = new_memory_model(lm, CompressorConfig.of(params), digest="c" * 64).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and "lora_A" not in name and name != "log_temperature":
                parameter.add_(0.1 * torch.randn(parameter.shape))
    keep_text, number_format = params.bank.keep_text, params.bank.codes
    bank = open_bank(
        BankLocation(str(folder)),
        schema=memory_schema(model, keep_text=keep_text, number_format=number_format),
    )
    batches = [[row] for row in rows] if one_by_one else [list(rows)] if rows else []
    for batch in batches:
        memories = compress_documents(
            model,
            documents(batch),
            slice_id="2031-01/0001",
            params=params.with_values(compressor={"batch_tokens": 256}),
        )
        bank.upsert(memories)
    return Answerer(model=model, lm=lm, bank=bank, params=params)


def with_params(answerer: Answerer, **sections: dict[str, Any]) -> Answerer:
    """The same model and bank with other parameters of selection and answering."""
    return replace(answerer, params=small_params(**sections))


def source_ids(answer: Answer) -> set[str]:
    return {source.doc_id for source in answer.sources}
