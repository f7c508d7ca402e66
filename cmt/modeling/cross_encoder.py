"""The cross-encoder: reads a question and two dated documents in one pass, and says whether the
later one changes the answer (docs/method.md#changes).

It consists of the LM's first layers with their own LoRA adapters, and two linear heads on the state
of the last token. `benchmarks/train_cross_encoder.py` trains it; its weights are next to a
compressor's.
"""

import re
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from cachetools import LRUCache
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from cmt.config import SHIPPED
from cmt.errors import ModelError
from cmt.lm.model import FrozenLM, slice_layers
from cmt.lm.prompt import PROMPT_WIDTH_STEP
from cmt.modeling.lora import merge_lora
from cmt.text.numbers import MONTHS

FILE = "cross_encoder.safetensors"
LONGEST = 170  # tokens of a document that are read
REMEMBERED = 4096  # pairs whose odds are remembered; a round asks many of its questions again
_LAYER = re.compile(r"layers\.(\d+)\.")


class DatedText(NamedTuple):
    """A document that answers the question, or part of one."""

    text: str  # the heading in the first line, if there is one
    published: date


class Odds(NamedTuple):
    """Log-odds of two outcomes for an earlier and a later text."""

    # the later text gives the answer, and not the earlier one
    holds: float
    changed: float  # both texts answer the question, and the later one changes the answer


class CrossEncoder:
    """Reads a question and two dated texts."""

    def __init__(self, lm: FrozenLM, path: Path) -> None:
        self.lm, self.path = lm, path
        self._remembered: LRUCache[tuple[str, DatedText, DatedText], Odds] = LRUCache(REMEMBERED)

    @classmethod
    def load(cls, folder: Path, lm: FrozenLM) -> "CrossEncoder | None":
        """The cross-encoder for `lm` in a compressor's `folder`, or the shipped one, or None.
        Raises ModelError.
        """
        for path in [path for path in (folder / FILE, SHIPPED / FILE) if path.exists()]:
            try:
                with safe_open(path, "pt") as file:
                    digest = (file.metadata() or {}).get("lm_digest")
            except (SafetensorError, OSError) as error:
                raise _damaged(path, error) from None
            if digest == lm.digest:
                return cls(lm, path)
        return None

    @cached_property
    def _parts(self) -> tuple[nn.Module, Tensor, Tensor]:
        """The layers, the heads (2, D), their bias (2,). Raises ModelError if the file is damaged
        or of another LM.
        """
        try:
            adapters = load_file(self.path)
            if wrong := [
                name for name, values in adapters.items() if not torch.isfinite(values).all()
            ]:
                raise ValueError(f"the weight {wrong[0]} holds NaN or infinite numbers")
            weight, bias = (
                adapters.pop(name).to(self.lm.device) for name in ("head.weight", "head.bias")
            )
            if (*weight.shape, *bias.shape) != (
                len(Odds._fields),
                self.lm.hidden_size,
                len(Odds._fields),
            ):
                raise ValueError(f"heads {tuple(weight.shape)}, {tuple(bias.shape)}")
            layers = 1 + max(int(found[1]) for name in adapters if (found := _LAYER.search(name)))
        except (SafetensorError, OSError, ValueError, KeyError) as error:
            raise _damaged(self.path, error) from None
        decoder = slice_layers(self.lm, 0, layers)
        try:
            merge_lora(decoder, adapters)
        except ModelError as error:
            raise _damaged(self.path, error) from None
        return decoder, weight, bias

    @torch.no_grad()
    def odds(self, question: str, earlier: DatedText, later: DatedText) -> Odds:
        """The odds for `question`, asked when `later` is published."""
        pair = question, earlier, later
        if odds := self._remembered.get(pair):
            return odds
        decoder, weight, bias = self._parts
        ids = reading(self.lm, question, earlier, later, later.published)
        # few shapes; causal states ignore what follows
        width = -(-len(ids) // PROMPT_WIDTH_STEP) * PROMPT_WIDTH_STEP
        row = torch.tensor([ids + [0] * (width - len(ids))], device=self.lm.device)  # (1, T)
        states = decoder(
            inputs_embeds=self.lm.embed(row), use_cache=False
        ).last_hidden_state  # (1, T, D)
        odds = Odds(*F.linear(states[0, len(ids) - 1].float(), weight, bias).tolist())
        self._remembered[pair] = odds
        return odds


def _damaged(path: Path, error: Exception) -> ModelError:
    reason = " ".join(str(error).split())
    return ModelError(f"{path} is damaged ({reason}): restore it, or delete it")


def reading(
    lm: FrozenLM, question: str, earlier: DatedText, later: DatedText, asked: date
) -> list[int]:
    """The token ids that the cross-encoder reads."""
    today, before, after = (
        f"{day.day} {MONTHS[day.month - 1]} {day.year}"
        for day in (asked, earlier.published, later.published)
    )
    old, new = (report.text.replace("\n", ". ", 1) for report in (earlier, later))
    parts = [
        lm.tokenize(f"Question, asked on {today}: {question}\nEarlier report "),
        lm.tokenize(f"({before}) {old}")[:LONGEST],
        lm.tokenize("\nLater report "),
        lm.tokenize(f"({after}) {new}")[:LONGEST],
        lm.tokenize(f"\n{question} Does the later report change the answer? "),
    ]
    return [lm.bos, *(token for part in parts for token in part)]
