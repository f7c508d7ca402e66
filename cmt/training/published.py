"""The training step of the published ψ and π, and of an LM without ψ. Neither has a span loss."""

import random

from torch import Tensor

from cmt.config import Params
from cmt.lm.prompt import Prompt
from cmt.modeling.model import MemoryModel
from cmt.modeling.published import AttentionModel
from cmt.modeling.span_decoding import whole_memory_spans
from cmt.training._step import Pairs, TrainingStep


def new_step(model: MemoryModel, params: Params) -> TrainingStep:
    """The training step that fits the ψ of `model`."""
    steps = {"windows": TrainingStep, "attention": AttentionStep, "none": WholeTextStep}
    return steps[model.config.aggregator.kind](model, params)


class AttentionStep(TrainingStep):
    """The published ψ and π over all memories of the step (MAC, arXiv 2403.04317)."""

    model: AttentionModel

    def _read(
        self, pairs: Pairs, window: int, teacher_forcing: float
    ) -> tuple[Prompt, dict[str, Tensor]]:
        memories = pairs.memories
        shape = pairs.count, *memories.vectors.shape  # (A, N, k, D)
        vectors, mask = memories.vectors.expand(shape), memories.vector_mask.expand(shape[:-1])
        encoding = pairs.answered_encoding
        aggregated = self.model.aggregator(encoding, vectors, mask)  # (A, k_C, D)
        ends = self._prompt_ends(pairs.answered)
        return self.model.prompts.prefix_prompt(encoding, aggregated, ends, left=False), {}


class WholeTextStep(TrainingStep):
    """The LM reads the whole texts of the candidates in random order."""

    def _read(
        self, pairs: Pairs, window: int, teacher_forcing: float
    ) -> tuple[Prompt, dict[str, Tensor]]:
        rng = random.Random(str(pairs.candidates.tolist()))
        texts = []
        for rows in pairs.candidates[: pairs.count].tolist():
            present = [pairs.documents[row] for row in rows if row >= 0]
            texts.append(rng.sample(present, len(present)))
        spans = [whole_memory_spans([len(tokens) for tokens in text]) for text in texts]
        ends = self._prompt_ends(pairs.answered)
        prompt = self.model.prompts.text_prompt(
            pairs.answered_encoding, spans, texts, None, ends, left=False
        )
        return prompt, {}
