"""Prompts as the frozen LM reads them: padded batches of soft tokens, optionally behind a key/value
prefix.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

# In bfloat16 the result of a row depends on its padding, and on whether the batch has one row or
# several, but not on the number of further rows (on a CPU, to the last bit). So a row gets the same
# width in every batch.
PROMPT_WIDTH_STEP = 32  # positions: prompts are padded to the next larger multiple

Prefix = tuple[Tensor, Tensor]  # keys and values, (layers, B, kv heads, P, head size) each


@dataclass(frozen=True)
class Prompt:
    """A batch of B prompts of T soft tokens, behind a prefix of P positions or none."""

    embeds: Tensor  # (B, T, D) input embeddings
    mask: Tensor  # (B, T) 1 on tokens, 0 on padding
    prefix: Prefix | None = None  # keys and values before the tokens
    prefix_mask: Tensor | None = None  # (B, P) 1 on positions of the prefix to attend to; None: all

    @property
    def whole_mask(self) -> Tensor:
        """(B, P + T) mask of prefix and tokens."""
        if self.prefix is None:
            return self.mask
        if self.prefix_mask is None:
            prefix_mask = self.mask.new_ones(len(self.mask), self.prefix[0].shape[3])  # (B, P)
        else:
            prefix_mask = self.prefix_mask.to(self.mask)
        return torch.cat([prefix_mask, self.mask], 1)

    def take_rows(self, rows: Sequence[int], width: int) -> "Prompt":
        """The prompts `rows`, padded on the left or cut to `width`; only padding may be cut."""
        prefix = self.prefix and (self.prefix[0][:, rows], self.prefix[1][:, rows])
        prefix_mask = None if self.prefix_mask is None else self.prefix_mask[rows]
        added = width - self.mask.shape[1]  # F.pad cuts where it is negative
        embeds = F.pad(self.embeds[rows], (0, 0, added, 0))
        mask = F.pad(self.mask[rows], (added, 0))
        return Prompt(embeds, mask, prefix, prefix_mask)

    def row_widths(self) -> list[int]:
        """Padded width of each row, which depends only on its own length."""
        return [
            (length // PROMPT_WIDTH_STEP + 1) * PROMPT_WIDTH_STEP
            for length in self.mask.sum(1).tolist()
        ]


def padded_length(length: int) -> int:
    """`length` rounded up to a multiple of 8, so that few shapes occur."""
    return -(-length // 8) * 8


def pad(
    rows: Sequence[Sequence[int]], *, left: bool, device: torch.device | str
) -> tuple[Tensor, Tensor]:
    """Token ids and mask (B, T) of `rows`, padded on the left or on the right; T = `padded_length`
    of the longest.
    """
    width = padded_length(max(map(len, rows)))
    ids, mask = torch.zeros(2, len(rows), width, dtype=torch.long).unbind()  # (B, T)
    for row, tokens in enumerate(rows):
        columns = slice(width - len(tokens), width) if left else slice(0, len(tokens))
        ids[row, columns] = torch.tensor(tokens, dtype=torch.long)
        mask[row, columns] = 1
    return ids.to(device), mask.to(device)
