"""Greedy writing: texts that grow side by side in front of the frozen LM, each up to its own end."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from cmt.lm.copy_mechanism import CopyHypothesis, mix_with_copies, update_hypotheses
from cmt.lm.prompt import Prompt

if TYPE_CHECKING:
    from cmt.lm.model import FrozenLM

OnToken = Callable[[int, int], None]
"""Row of a prompt and the next token of its continuation."""


class Generation(NamedTuple):
    """What the LM wrote for each row of a batch."""

    tokens: list[list[int]]
    margins: list[float]
    """The least lead, in logits, of a row's tokens over the next best ones."""


def generate_equal_width(
    lm: "FrozenLM",
    prompts: Sequence[Prompt],
    max_new_tokens: int,
    alpha: float,
    copies: Sequence[CopyHypothesis] | None,
    heard: OnToken | None,
) -> Generation:
    """`FrozenLM.write` for rows that are equally wide; the second of `prompts`, if any, is the one written against."""
    readers = [_Reader(lm, prompt) for prompt in prompts]
    written: list[list[int]] = [[] for _ in prompts[0].embeds]
    margins = [float("inf")] * len(written)
    writing = list(range(len(written)))  # the rows that the readers hold
    ended: set[int] = set()
    for step in range(max_new_tokens):
        scores = readers[0].scores
        if len(readers) > 1:
            scores = (1 + alpha) * scores.log_softmax(-1) - alpha * readers[1].scores.log_softmax(-1)
        if copies:
            told, alone = [copies[row] for row in writing], scores.softmax(-1)
            scores = mix_with_copies(alone, told).log()
        (best, next_best), (token, _) = (part.unbind(1) for part in scores.topk(2))
        if copies:
            update_hypotheses(told, token, alone)
        for row, symbol, lead in zip(writing, token.tolist(), (best - next_best).tolist(), strict=True):
            if row in ended:
                continue
            margins[row] = min(margins[row], lead)
            if _ends(lm, symbol):
                ended.add(row)
                continue
            written[row].append(symbol)
            if heard:
                heard(row, symbol)
        if len(ended) == len(written) or step + 1 == max_new_tokens:
            break
        open_places = [place for place, row in enumerate(writing) if row not in ended]
        if 2 * len(open_places) <= len(writing):  # most are done: reading on for the rest alone pays for the copy
            places = torch.tensor(open_places, device=lm.device)
            writing, token = [writing[place] for place in open_places], token[places]
            for reader in readers:
                reader.keep(places)
        for reader in readers:
            reader.read(token)
    return Generation(written, margins)


def for_rows(rows: Sequence[int], heard: OnToken) -> OnToken:
    """`heard`, told of some of the rows by their numbers among these."""
    return lambda row, symbol: heard(rows[row], symbol)


def _ends(lm: "FrozenLM", symbol: int) -> bool:
    # vocabularies have dozens of tokens with a line break in them: several breaks, or blanks around one
    return symbol == lm.eos or "\n" in lm.tokenizer.decode([symbol])


class _Reader:
    """One growing text in front of the LM: `scores` (B, V) of the next token, `read` to append one.

    A row that is alone is read twice over: products of a single row are rounded otherwise than those of several.
    """

    def __init__(self, lm: "FrozenLM", prompt: Prompt) -> None:
        self.lm, self.cache, self.mask = lm, lm.cache(prompt.prefix), prompt.whole_mask
        hidden = lm.read(prompt, self.cache)
        self.scores = lm.exact_logits(hidden[:, -1])
        if len(self.mask) == 1:
            self.keep(torch.zeros(1, dtype=torch.long, device=lm.device))

    def keep(self, places: Tensor) -> None:
        """Go on with these rows alone."""
        places = places.expand(2) if len(places) == 1 else places
        self.cache.batch_select_indices(places)
        self.mask = self.mask[places]

    def read(self, token: Tensor) -> None:
        """Append `token` (B,)."""
        self.mask = torch.cat([self.mask, self.mask.new_ones(self.mask.shape[0], 1)], 1)
        hidden = self.lm.backbone(
            inputs_embeds=self.lm.embed(token.expand(len(self.mask))[:, None]),
            attention_mask=self.mask,
            position_ids=self.mask.sum(1, keepdim=True) - 1,
            past_key_values=self.cache,
            use_cache=True,
        ).last_hidden_state
        self.scores = self.lm.exact_logits(hidden[: len(token), -1])
