"""The fine-tuning systems of the published protocol: a copy of the LM learns the documents and answers without them.

The three weightings differ in the weight of a token in the language-model loss:

- `uniform`: 1.
- `salient`: 1 in a date, a number or a name, else 0.
- `camels`: its negative log-likelihood under the frozen LM, at most CAP. CaMeLS itself (Hu et al. 2023, arXiv
  2305.15076) meta-learns the weights, so its published scores do not compare.
"""

import copy
import re
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from cmt.lm.model import FrozenLM, weights_digest
from cmt.lm.prompt import pad

WEIGHTINGS = ("uniform", "salient", "camels")
LEARNING_RATE = 1e-5
BATCH = 4  # pieces a step
LONGEST = 512  # tokens of a piece; a longer document is cut into several
CAP = 8.0  # nats

_MONTH = r"(?:January|February|March|April|May|June|July|August|September|October|November|December)"
_NUMBER = r"\d+(?:[.,:/-]\d+)*"
_DAY = rf"{_NUMBER}(?:st|nd|rd|th)?"
_CAPITALS = "".join(filter(str.isupper, map(chr, range(0x530))))  # Latin, Greek and Cyrillic
_NAME = rf"[{_CAPITALS}][\w’'-]*"
# 5 March 2031 · December 16th, 1811 · May
_DATE = re.compile(rf"\b(?:{_DAY}\s+)?{_MONTH}\b(?:\s+{_DAY})?(?:,?\s+\d{{4}}\b)?")
# $1,200.50 · 30% · 12km
_FIGURE = re.compile(rf"[$€£]?\b{_NUMBER}\w*%?")
# Tomas Vell · University of Port Ellery
_NAMES = re.compile(rf"\b{_NAME}(?:\s+(?:(?:of|de|van|von|da|la)\s+)?{_NAME})*")
_SENTENCE_END = re.compile(r"[.!?:][\"”’)]*\s*$")


def salient_spans(text: str) -> list[tuple[int, int]]:
    """Half-open character ranges of dates, numbers and names, a rule-based stand-in for a tagger; they may overlap.

    A single capitalised word at the beginning of a sentence is not a name.
    """
    spans = [match.span() for pattern in (_DATE, _FIGURE) for match in pattern.finditer(text)]
    undated = _DATE.sub(lambda match: " " * len(match[0]), text)  # a month is no name
    for match in _NAMES.finditer(undated):
        before = undated[: match.start()]
        if " " in match[0] or (before.strip() and not _SENTENCE_END.search(before)):
            spans.append(match.span())
    return sorted(spans)


def finetuned(lm: FrozenLM, texts: Sequence[str], weighting: str) -> FrozenLM:
    """A copy of `lm` after one epoch of AdamW on `texts`, in their order and at a constant rate; `lm` stays as it is.

    The copy is in float32, because bfloat16 rounds away steps of this size; it computes in the type of `lm`.
    """
    pieces: list[tuple[list[int], list[float]]] = []
    for text in texts:
        tokens, weights = lm.tokenize(text), token_weights(lm, text, weighting)
        pieces += [(tokens[i : i + LONGEST], weights[i : i + LONGEST]) for i in range(0, len(tokens), LONGEST)]
    model = copy.deepcopy(lm.model).float().requires_grad_(True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
    half = lm.model.dtype == torch.bfloat16
    for start in range(0, len(pieces), BATCH):
        batch = pieces[start : start + BATCH]
        weight = pad_sequence([torch.tensor(weights) for _, weights in batch], batch_first=True).to(lm.device)  # (B, T)
        with torch.autocast(lm.device.type, torch.bfloat16) if half else nullcontext():
            losses = _losses(model, lm, [tokens for tokens, _ in batch])[:, : weight.shape[1]]  # without padding
        torch.autograd.backward((losses * weight).sum() / weight.sum().clamp(min=1e-6))
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return FrozenLM(model, lm.tokenizer, weights_digest(model))


def token_weights(lm: FrozenLM, text: str, weighting: str) -> list[float]:
    """The weight of each token of `text` in the loss."""
    tokens = lm.tokenize(text)
    if weighting == "uniform":
        return [1.0] * len(tokens)
    if weighting == "salient":
        spans = salient_spans(text)  # overlap is enough: the range of a token includes the space before a word
        return [float(any(first < end and begin < last for begin, end in spans)) for first, last in lm.offsets(text)]
    weights: list[float] = []
    with torch.no_grad():
        for start in range(0, len(tokens), LONGEST):
            piece = tokens[start : start + LONGEST]
            weights += _losses(lm.model, lm, [piece])[0, : len(piece)].clamp(max=CAP).tolist()
    return weights


def _losses(model: Any, lm: FrozenLM, rows: Sequence[Sequence[int]]) -> Tensor:
    """Negative log-likelihood of each token of `rows`, in nats: (B, T), T rounded up."""
    ids, mask = pad([[lm.bos, *tokens] for tokens in rows], left=False, device=lm.device)  # (B, 1 + T)
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1].float()  # (B, T, V)
    return F.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
