"""Baselines that put the documents into weights: a copy of the LM is adapted on them and then answers closed-book.

The three ways differ only in the weight of each token in the language-model loss. The memory's own LM stays frozen.
"""

import copy
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import SequentialSampler
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from cmt.common.progress import OnProgress
from cmt.errors import ConfigError
from cmt.lm.model import FrozenLM, weights_digest
from cmt.lm.prompt import pad

Piece = tuple[list[int], list[float]]
"""Token ids behind BOS, and the weight of each of them in the loss."""


@dataclass(frozen=True)
class Recipe:
    """How a copy is adapted: one epoch of AdamW at a constant rate, in the order of the documents."""

    learning_rate: float = 1e-5
    batch_size: int = 4
    """Pieces a step."""
    longest: int = 512
    """Tokens of a piece; longer documents become several."""
    cap: float = 8.0
    """Highest surprise, in nats, that the way `camels` gives a token as its weight."""


@dataclass(frozen=True)
class Adapted:
    """A reader of its own, its weights in float32, and the wall-clock seconds it took to make it."""

    lm: FrozenLM
    seconds: float


_MONTH = r"(?:January|February|March|April|May|June|July|August|September|October|November|December)"
_NUMBER = r"\d+(?:[.,:/-]\d+)*"
_CAPITALS = "".join(filter(str.isupper, map(chr, range(0x530))))  # Latin, Greek and Cyrillic
_NAME = rf"[{_CAPITALS}][\w’'-]*"
_DATE = re.compile(
    rf"\b(?:{_NUMBER}(?:st|nd|rd|th)?\s+)?{_MONTH}\b(?:\s+{_NUMBER}(?:st|nd|rd|th)?)?(?:,?\s+\d{{4}}\b)?"
)
_FIGURE = re.compile(rf"[$€£]?\b{_NUMBER}\w*%?")
_RUN = re.compile(rf"\b{_NAME}(?:\s+(?:(?:of|de|van|von|da|la)\s+)?{_NAME})*")
_SENTENCE_END = re.compile(r"[.!?:][\"”’)]*\s*$")


def salient_spans(text: str) -> list[tuple[int, int]]:
    """First and last character (excluded) of what a question may well ask for, in the order of the text.

    By rule, not by a tagger: month names with the day and year beside them; numbers with their sign and unit; runs of
    capitalised words, joined by "of", "de" and the like. One capitalised word that begins a sentence is no name.
    """
    found = [match.span() for pattern in (_DATE, _FIGURE) for match in pattern.finditer(text)]
    undated = _DATE.sub(lambda match: " " * len(match[0]), text)
    found += [match.span() for match in _RUN.finditer(undated) if not _only_begins(undated, match)]
    spans: list[tuple[int, int]] = []
    for first, last in sorted(found):
        if spans and first < spans[-1][1]:
            spans[-1] = spans[-1][0], max(spans[-1][1], last)
        else:
            spans.append((first, last))
    return spans


def pieces(lm: FrozenLM, texts: Sequence[str], recipe: Recipe) -> int:
    """How many pieces `texts` are cut into."""
    return sum(len(_cut(lm, lm.tokenize(text), recipe)) for text in texts)


def adapt(
    lm: FrozenLM,
    texts: Sequence[str],
    *,
    way: str,
    seed: int,
    recipe: Recipe | None = None,
    on_progress: OnProgress | None = None,
) -> Adapted:
    """Adapt a copy of `lm` on `texts`; `on_progress` hears of every piece. Raises ConfigError on an unknown `way`.

    `uniform`: the plain loss. `salient`: only tokens of `salient_spans` count. `camels`: every token counts by its
    surprise under the frozen LM, capped; CaMeLS (Hu et al. 2023, arXiv 2305.15076) meta-learns these weights instead,
    so this row is in its style and not its number.

    The copy has float32 masters and keeps them: a step of this size is below what bfloat16 can hold. Products are in
    bfloat16 where the LM's are.
    """
    if way not in TOKEN_WEIGHTS:
        raise ConfigError(f"no fine-tuning {way!r}; there are: {', '.join(TOKEN_WEIGHTS)}")
    recipe, started = recipe or Recipe(), time.perf_counter()
    lessons = [piece for text in texts for piece in _weighted(lm, text, way, recipe)]
    model = copy.deepcopy(lm.model).float().requires_grad_(True)
    if lessons:
        _train(model, lessons, lm, seed=seed, recipe=recipe, on_progress=on_progress)
    return Adapted(FrozenLM(model, lm.tokenizer, weights_digest(model)), time.perf_counter() - started)


def _weighted(lm: FrozenLM, text: str, way: str, recipe: Recipe) -> list[Piece]:
    weights = iter(TOKEN_WEIGHTS[way](lm, text, recipe))
    return [(piece, list(islice(weights, len(piece)))) for piece in _cut(lm, lm.tokenize(text), recipe)]


def _cut(lm: FrozenLM, ids: list[int], recipe: Recipe) -> list[list[int]]:
    longest = min(recipe.longest, lm.model.config.max_position_embeddings - 1)
    return [ids[start : start + longest] for start in range(0, len(ids), longest)]


def _uniform(lm: FrozenLM, text: str, recipe: Recipe) -> list[float]:
    return [1.0] * len(lm.tokenize(text))


def _salient(lm: FrozenLM, text: str, recipe: Recipe) -> list[float]:
    spans = salient_spans(text)
    # a token's leading space is no part of the span that begins behind it, but overlaps nothing else
    return [float(any(a < last and first < b for a, b in spans)) for first, last in lm.offsets(text)]


@torch.no_grad()
def _surprise(lm: FrozenLM, text: str, recipe: Recipe) -> list[float]:
    weights: list[float] = []
    for piece in _cut(lm, lm.tokenize(text), recipe):
        ids, mask = pad([[lm.bos, *piece]], left=False, device=lm.device)
        weights += _losses(lm.model, ids, mask)[0, : len(piece)].clamp(max=recipe.cap).tolist()
    return weights


TOKEN_WEIGHTS: dict[str, Callable[[FrozenLM, str, Recipe], list[float]]] = {
    "uniform": _uniform,
    "salient": _salient,
    "camels": _surprise,
}
"""Name of a way → the weight of each token of a text."""


def _losses(model: Any, ids: Tensor, mask: Tensor) -> Tensor:
    """(B, T − 1) negative log-likelihood of each token behind the first, in nats."""
    scores = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1].float()
    return F.cross_entropy(scores.transpose(1, 2), ids[:, 1:], reduction="none")


class _WeightedTrainer(Trainer):  # type: ignore[misc] # transformers is not followed
    """Mean of the tokens' losses by weight; pieces come in their own order."""

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
        losses, weights = _losses(model, inputs["ids"], inputs["mask"]), inputs["weights"]
        loss = (losses * weights).sum() / weights.sum().clamp(min=1e-6)
        return (loss, {}) if return_outputs else loss

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        return SequentialSampler(train_dataset or self.train_dataset)


class _Steps(TrainerCallback):  # type: ignore[misc]
    """Tells of the pieces of every step."""

    def __init__(self, pieces: int, size: int, on_progress: OnProgress) -> None:
        self.left, self.size, self.on_progress = pieces, size, on_progress

    def on_step_end(self, *_: Any, **__: Any) -> None:
        done = min(self.left, self.size)
        self.left -= done
        self.on_progress(done)


def _train(
    model: Any, lessons: Sequence[Piece], lm: FrozenLM, *, seed: int, recipe: Recipe, on_progress: OnProgress | None
) -> None:
    def collate(batch: Sequence[Piece]) -> dict[str, Tensor]:
        ids, mask = pad([[lm.bos, *tokens] for tokens, _ in batch], left=False, device="cpu")
        weights = torch.zeros(len(batch), ids.shape[1] - 1)
        for row, (_, values) in enumerate(batch):
            weights[row, : len(values)] = torch.tensor(values)
        return {"ids": ids, "mask": mask, "weights": weights}

    with tempfile.TemporaryDirectory() as folder:
        trainer = _WeightedTrainer(
            model=model,
            args=_arguments(folder, lm, seed=seed, recipe=recipe),
            train_dataset=list(lessons),
            data_collator=collate,
            callbacks=[_Steps(len(lessons), recipe.batch_size, on_progress)] if on_progress else [],
        )
        trainer.remove_callback(PrinterCallback)  # stdout is for reports
        trainer.train()


def _arguments(folder: str, lm: FrozenLM, *, seed: int, recipe: Recipe) -> TrainingArguments:
    return TrainingArguments(
        output_dir=folder,
        num_train_epochs=1,
        per_device_train_batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="constant",
        max_grad_norm=1.0,
        bf16=lm.model.dtype == torch.bfloat16,
        use_cpu=lm.device.type == "cpu",
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        seed=seed,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        disable_tqdm=True,
    )


def _only_begins(text: str, match: re.Match[str]) -> bool:
    """Whether the run is one capitalised word at the beginning of a sentence."""
    before = text[: match.start()]
    return " " not in match[0] and (not before.strip() or bool(_SENTENCE_END.search(before)))
