"""Content channel: the tokens of a window in one vector, readable without training
(docs/method.md#content-channel).

A window's vector is the sum of its W token embeddings, each centred, scaled to unit length, and
rotated by a fixed random matrix for its position. Rotating back and taking the nearest embedding
recovers 96 % of the tokens at W = 8 and D = 576. Subtracting the other positions and searching
again recovers all tokens, also at W = 16 and after rounding to int4. A bank without text answers
through this channel.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from cmt.lm.model import FrozenLM

CANDIDATES = 8  # L: nearest embeddings of a position among which its token is chosen
SEARCHES = 2  # the second search subtracts the other positions
ROTATION_SEED = 7410  # part of the format: a bank is read with the rotations it was written with


class TokenCodec:
    """Encodes token ids as vectors (⌈n/W⌉, D) and decodes them."""

    def __init__(self, lm: FrozenLM, window: int) -> None:
        weight = lm.model.get_input_embeddings().weight.detach().float()
        self.window = window
        self.units = F.normalize(weight - weight.mean(0), dim=-1)  # (V, D)
        self._fast_units = self.units.to(lm.model.dtype)
        generator = torch.Generator().manual_seed(ROTATION_SEED)
        size = lm.hidden_size, lm.hidden_size
        rotations = [
            torch.linalg.qr(torch.randn(size, generator=generator))[0] for _ in range(window)
        ]
        self.rotations = torch.stack(rotations).to(weight.device)  # (W, D, D)

    def write(self, ids: list[int]) -> Tensor:
        """Vectors (⌈n/W⌉, D) of n token ids."""
        missing = -len(ids) % self.window
        units = F.pad(self.units[torch.tensor(ids, device=self.units.device)], (0, 0, 0, missing))
        units = torch.unflatten(units, 0, (-1, self.window))  # (k, W, D)
        return torch.einsum("kwd,wde->ke", units, self.rotations)

    def read(self, vectors: Tensor, count: int) -> list[int]:
        """The first `count` token ids of vectors (k, D) of any length, by parallel interference
        cancellation.
        """
        vectors = vectors.to(self.rotations)
        estimate = self._turn_back(vectors)  # (k, W, D)
        for _ in range(SEARCHES):
            # 1. candidates: the embeddings nearest to the estimate of each position, best first
            # (n, V)
            similarity = estimate.flatten(0, 1)[:count].to(self._fast_units) @ self._fast_units.T
            candidates = F.pad(
                similarity.topk(CANDIDATES).indices, (0, 0, 0, len(vectors) * self.window - count)
            )
            candidates = torch.unflatten(candidates, 0, (len(vectors), self.window))  # (k, W, L)
            units = self.units[candidates]  # (k, W, L, D)
            units.flatten(0, 1)[count:] = 0  # positions behind the last token
            # 2. subtract the nearest embeddings of the other positions, and choose among the
            #    candidates
            total = torch.einsum("kwd,wde->ke", units[:, :, 0], self.rotations)  # (k, D)
            scale = (vectors * total).sum(1, keepdim=True) / (total * total).sum(1, keepdim=True)
            estimate = self._turn_back(vectors / scale - total) + units[:, :, 0]
            best = torch.einsum("kwld,kwd->kwl", units, estimate).argmax(
                -1, keepdim=True
            )  # (k, W, 1)
        return candidates.gather(2, best).flatten()[:count].tolist()

    def _turn_back(self, vectors: Tensor) -> Tensor:
        """Vectors (k, D) rotated back for each position, (k, W, D): its embedding, and noise from
        the others.
        """
        return torch.einsum("ke,wde->kwd", vectors, self.rotations)
