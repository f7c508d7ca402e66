"""Fine-tuning baselines: a copy of the LM is trained on the documents and then answers without any in the prompt.

The three weightings differ only in the weight of each token in the language-model loss. The LM of the memory is not
changed.
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
"""Token ids without BOS, and the weight of each in the loss."""


@dataclass(frozen=True)
class Recipe:
    """Hyperparameters: one epoch of AdamW at a constant learning rate, in the order of the documents."""

    learning_rate: float = 1e-5
    batch_size: int = 4
    """Pieces per step."""
    longest: int = 512
    """Maximum number of tokens of a piece; a longer document is cut into several."""
    cap: float = 8.0
    """Maximum weight of a token with the weighting `camels`, in nats."""


@dataclass(frozen=True)
class Adapted:
    """A fine-tuned copy of the LM in float32, and the wall-clock seconds of its training."""

    lm: FrozenLM
    seconds: float


_MONTH = r"(?:January|February|March|April|May|June|July|August|September|October|November|December)"
# digits with inner separators: 12 · 1,200.50 · 2031-03-05 · 18:30
_NUMBER = r"\d+(?:[.,:/-]\d+)*"
_ORDINAL = r"(?:st|nd|rd|th)?"
_CAPITALS = "".join(filter(str.isupper, map(chr, range(0x530))))  # Latin, Greek and Cyrillic
# a word that begins with a capital, with inner apostrophes and hyphens: Vell · O’Hara · Baden-Baden
_NAME = rf"[{_CAPITALS}][\w’'-]*"
# a month, with an optional day before or behind it and an optional year: 5 March 2031 · December 16th, 1811 · May
_DATE = re.compile(rf"\b(?:{_NUMBER}{_ORDINAL}\s+)?{_MONTH}\b(?:\s+{_NUMBER}{_ORDINAL})?(?:,?\s+\d{{4}}\b)?")
# a number with an optional currency sign, unit or percent sign: $1,200.50 · 30% · 12km
_FIGURE = re.compile(rf"[$€£]?\b{_NUMBER}\w*%?")
# names in a row, joined by a particle or not: Tomas Vell · University of Port Ellery
_NAMES = re.compile(rf"\b{_NAME}(?:\s+(?:(?:of|de|van|von|da|la)\s+)?{_NAME})*")
# the end of a sentence or a colon, with closing quotes or brackets, at the end of the text
_SENTENCE_END = re.compile(r"[.!?:][\"”’)]*\s*$")


def salient_spans(text: str) -> list[tuple[int, int]]:
    """Half-open ranges of characters that a question is likely to ask for, in the order of the text.

    A rule-based stand-in for a tagger: dates with a month name, numbers with their sign and unit, and runs of
    capitalised words. A single capitalised word at the beginning of a sentence is not a name. Overlapping ranges are
    merged.
    """
    # 1. find candidates; a date is blanked, so that its month is not a name
    candidates = [match.span() for pattern in (_DATE, _FIGURE) for match in pattern.finditer(text)]
    undated = _DATE.sub(lambda match: " " * len(match[0]), text)
    for match in _NAMES.finditer(undated):
        before = undated[: match.start()]
        begins_sentence = not before.strip() or bool(_SENTENCE_END.search(before))
        if " " in match[0] or not begins_sentence:
            candidates.append(match.span())
    # 2. merge those that overlap
    spans: list[tuple[int, int]] = []
    for first, last in sorted(candidates):
        if spans and first < spans[-1][1]:
            spans[-1] = spans[-1][0], max(spans[-1][1], last)
        else:
            spans.append((first, last))
    return spans


def pieces(lm: FrozenLM, texts: Sequence[str], recipe: Recipe) -> int:
    """Number of pieces that `texts` are cut into."""
    return sum(len(_cut(lm, lm.tokenize(text), recipe)) for text in texts)


def adapt(
    lm: FrozenLM,
    texts: Sequence[str],
    *,
    weighting: str,
    seed: int,
    recipe: Recipe | None = None,
    on_progress: OnProgress | None = None,
) -> Adapted:
    """Fine-tune a copy of `lm` on `texts`; `on_progress` counts pieces. Raises ConfigError on an unknown `weighting`.

    `uniform`: all tokens weigh 1. `salient`: only tokens in `salient_spans` weigh 1, all others 0. `camels`: a token
    weighs its negative log-likelihood under the frozen LM, capped. CaMeLS itself (Hu et al. 2023, arXiv 2305.15076)
    meta-learns the weights, so its published numbers are not comparable.

    The copy is trained and kept in float32, because bfloat16 rounds away steps of this size. If the LM computes in
    bfloat16, so does the training.
    """
    if weighting not in TOKEN_WEIGHTS:
        raise ConfigError(f"unknown fine-tuning {weighting!r}; available: {', '.join(TOKEN_WEIGHTS)}")
    recipe, started = recipe or Recipe(), time.perf_counter()
    weighted: list[Piece] = []
    for text in texts:
        weights = iter(TOKEN_WEIGHTS[weighting](lm, text, recipe))
        weighted += [(piece, list(islice(weights, len(piece)))) for piece in _cut(lm, lm.tokenize(text), recipe)]
    model = copy.deepcopy(lm.model).float().requires_grad_(True)
    if weighted:
        _train(model, weighted, lm, seed=seed, recipe=recipe, on_progress=on_progress)
    return Adapted(FrozenLM(model, lm.tokenizer, weights_digest(model)), time.perf_counter() - started)


def _cut(lm: FrozenLM, ids: list[int], recipe: Recipe) -> list[list[int]]:
    """`ids` in pieces that fit the recipe and, with BOS, the LM's context."""
    longest = min(recipe.longest, lm.model.config.max_position_embeddings - 1)
    return [ids[start : start + longest] for start in range(0, len(ids), longest)]


def _uniform(lm: FrozenLM, text: str, recipe: Recipe) -> list[float]:
    return [1.0] * len(lm.tokenize(text))


def _salient(lm: FrozenLM, text: str, recipe: Recipe) -> list[float]:
    spans = salient_spans(text)
    # overlap is enough: the range of a token includes the space before a word, which is not in the span
    return [
        float(any(span_first < last and first < span_last for span_first, span_last in spans))
        for first, last in lm.offsets(text)
    ]


@torch.no_grad()
def _negative_log_likelihood(lm: FrozenLM, text: str, recipe: Recipe) -> list[float]:
    weights: list[float] = []
    for piece in _cut(lm, lm.tokenize(text), recipe):
        ids, mask = pad([[lm.bos, *piece]], left=False, device=lm.device)
        weights += _losses(lm.model, ids, mask)[0, : len(piece)].clamp(max=recipe.cap).tolist()
    return weights


TOKEN_WEIGHTS: dict[str, Callable[[FrozenLM, str, Recipe], list[float]]] = {
    "uniform": _uniform,
    "salient": _salient,
    "camels": _negative_log_likelihood,
}
"""Weighting → function that returns the weight of each token of a text."""


def _losses(model: Any, ids: Tensor, mask: Tensor) -> Tensor:
    """Negative log-likelihood of each token except the first, in nats: (B, T − 1)."""
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1].float()  # (B, T − 1, V)
    return F.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")


class _WeightedTrainer(Trainer):  # type: ignore[misc] # transformers is not followed
    """Weighted mean of the tokens' losses; pieces keep their order."""

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
        losses, weights = _losses(model, inputs["ids"], inputs["mask"]), inputs["weights"]  # (B, T)
        loss = (losses * weights).sum() / weights.sum().clamp(min=1e-6)
        return (loss, {}) if return_outputs else loss

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        return SequentialSampler(train_dataset or self.train_dataset)


class _ProgressCallback(TrainerCallback):  # type: ignore[misc]
    """Reports the pieces of each step."""

    def __init__(self, pieces: int, batch_size: int, on_progress: OnProgress) -> None:
        self.remaining, self.batch_size, self.on_progress = pieces, batch_size, on_progress

    def on_step_end(self, *_: Any, **__: Any) -> None:
        done = min(self.remaining, self.batch_size)
        self.remaining -= done
        self.on_progress(done)


def _train(
    model: Any, weighted: Sequence[Piece], lm: FrozenLM, *, seed: int, recipe: Recipe, on_progress: OnProgress | None
) -> None:
    """Train `model` in place."""

    def collate(batch: Sequence[Piece]) -> dict[str, Tensor]:
        ids, mask = pad([[lm.bos, *tokens] for tokens, _ in batch], left=False, device="cpu")
        weights = torch.zeros(len(batch), ids.shape[1] - 1)
        for row, (_, piece_weights) in enumerate(batch):
            weights[row, : len(piece_weights)] = torch.tensor(piece_weights)
        return {"ids": ids, "mask": mask, "weights": weights}

    with tempfile.TemporaryDirectory() as folder:
        trainer = _WeightedTrainer(
            model=model,
            args=_arguments(folder, lm, seed=seed, recipe=recipe),
            train_dataset=list(weighted),
            data_collator=collate,
            callbacks=[_ProgressCallback(len(weighted), recipe.batch_size, on_progress)] if on_progress else [],
        )
        trainer.remove_callback(PrinterCallback)  # it prints to stdout, which is for results
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
