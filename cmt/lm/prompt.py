"""What a language model is to read: soft tokens, behind a key/value prefix or none, in padded batches."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

# A bfloat16 state depends on how its row is padded, and on whether it is computed as a row by itself, but not on how
# many other rows there are (on a CPU, to the last bit). So what is written behind is padded alike in every batch.
PROMPT_WIDTH_STEP = 32  # positions: such a prompt is as wide as the next multiple, with a position of padding at least

Prefix = tuple[Tensor, Tensor]  # keys, values: (layers, B, kv heads, P, head size)


@dataclass(frozen=True)
class Prompt:
    """What the LM is to read: `embeds` (B, T, D), `mask` (B, T) with 1 on real tokens, and a prefix or None.

    `prefix_mask` (B, P) has 1 on real positions of the prefix, which stand first; None: all are real.
    """

    embeds: Tensor
    mask: Tensor
    prefix: Prefix | None = None
    prefix_mask: Tensor | None = None

    @property
    def whole_mask(self) -> Tensor:
        """(B, P + T) over prefix and text."""
        if self.prefix is None:
            return self.mask
        before = self.mask.new_ones(len(self.mask), self.prefix[0].shape[3])
        return torch.cat([before if self.prefix_mask is None else self.prefix_mask.to(self.mask), self.mask], 1)

    def part(self, rows: Sequence[int], width: int) -> "Prompt":
        """`rows` of a prompt that is padded on the left, as wide as `width`; longer texts do not fit."""
        prefix = self.prefix and (self.prefix[0][:, rows], self.prefix[1][:, rows])
        before = None if self.prefix_mask is None else self.prefix_mask[rows]
        more = width - self.mask.shape[1]  # F.pad cuts where it is negative
        return Prompt(F.pad(self.embeds[rows], (0, 0, more, 0)), F.pad(self.mask[rows], (more, 0)), prefix, before)

    def widths(self) -> list[int]:
        """How wide each row is to be, whatever the others are."""
        return [(length // PROMPT_WIDTH_STEP + 1) * PROMPT_WIDTH_STEP for length in self.mask.sum(1).tolist()]


def padded_length(length: int) -> int:
    """`length` rounded up to a multiple of 8, so that few shapes occur."""
    return -(-length // 8) * 8


def pad(rows: Sequence[Sequence[int]], *, left: bool, device: torch.device | str) -> tuple[Tensor, Tensor]:
    """ids and mask (B, T), T the `padded` longest length; the padding is masked."""
    width = padded_length(max(map(len, rows)))
    ids, mask = torch.zeros(2, len(rows), width, dtype=torch.long).unbind()
    for row, tokens in enumerate(rows):
        where = slice(width - len(tokens), width) if left else slice(0, len(tokens))
        ids[row, where] = torch.tensor(tokens, dtype=torch.long)
        mask[row, where] = 1
    return ids.to(device), mask.to(device)
