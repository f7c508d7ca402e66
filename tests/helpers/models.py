"""Memory models with random weights, and their inputs."""

from collections.abc import Sequence

import pytest
import torch

from cmt.config import (
    AggregatorParams,
    AlignmentParams,
    CompressorParams,
    ObjectiveParams,
    SelectionParams,
)
from cmt.lm.decoding import generate
from cmt.lm.model import FrozenLM
from cmt.modeling.checkpoint import CompressorConfig
from cmt.modeling.loading import new_memory_model
from cmt.modeling.model import MemoryModel, ReaderOutput
from cmt.modeling.token_scores import RetrievedMemory

TEXTS = [
    "The harbour was built by the mayor of Port Ellery.",
    "The ferry costs six crowns.",
    "a mayor",
]
QUESTIONS = ["Who built it?", "What does the ferry to Saltby cost, and who says so?"]
SELECTION = SelectionParams(best_windows=2, neighbour_windows=1)


def make_config(
    *, published: bool = False, kind: str = "windows", layers: int = 2, aggregator: str = "windows"
) -> CompressorConfig:
    """A small configuration; `published` uses ψ and π of the papers."""
    return CompressorConfig(
        CompressorParams.model_validate(
            {"kind": kind, "layers": layers, "lora_rank": 2, "memory_tokens": 3}
        ),
        AggregatorParams.model_validate(
            {
                "kind": "attention" if published else aggregator,
                "blocks": 2,
                "lora_rank": 2,
                "heads": 2,
            }
        ),
        AlignmentParams(kind="prefix" if published else "text", slots=3),
        ObjectiveParams(),
    )


CONFIGS = {
    "windows": make_config(),
    "whole": make_config(aggregator="none"),
    "published windows": make_config(published=True),
    "published tokens": make_config(published=True, kind="tokens"),
}
EVERY_CONFIG = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


def make_model(lm: FrozenLM, config: CompressorConfig) -> MemoryModel:
    """A model with random weights also in adapters, reader and highlight, which start at zero."""
    torch.manual_seed(5)
    model = new_memory_model(lm, config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and "lora_A" not in name:
                parameter.add_(0.1 * torch.randn(parameter.shape))
    return model.eval()


def retrieved_memories(
    model: MemoryModel, texts: Sequence[str], *, priors: Sequence[float] = (0.0, -1.0, -2.0)
) -> list[RetrievedMemory]:
    """Memories of `texts`, with their priors in this order."""
    ids = [model.lm.tokenize(text) for text in texts]
    with torch.no_grad():
        encoding = model.encode(ids)
    vectors = [
        encoding.vectors[row, :count]
        for row, count in enumerate(encoding.vector_mask.sum(1).tolist())
    ]
    return [RetrievedMemory(*fields) for fields in zip(vectors, ids, priors, strict=False)]


def read(
    model: MemoryModel,
    memories: list[list[RetrievedMemory]],
    *,
    questions: Sequence[str] = QUESTIONS,
    expanded: int = SELECTION.expanded_memories,
) -> ReaderOutput:
    """What the model reads for each of `questions` in its memories."""
    ids = [model.lm.tokenize(" " + question) for question in questions]
    with torch.no_grad():
        scored = model.score(model.encode(ids), ids, memories, expanded=expanded)
        return model.decode(scored, SELECTION)


def answer_tokens(
    model: MemoryModel, questions: Sequence[str], memories: list[list[RetrievedMemory]]
) -> list[list[int]]:
    """Token ids of the answers to `questions` from the memories of each."""
    return generate(
        model.lm, read(model, memories, questions=questions).prompt, max_new_tokens=8
    ).tokens
