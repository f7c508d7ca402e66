"""The content channel: which tokens a window holds, in one vector, readable without training (method §7).

Each of a window's W token embeddings, centred and of unit length, is turned by a fixed random rotation of its place;
their sum is the window's vector. Turning back and taking the nearest embedding recovers 96 % of the tokens at W = 8
with D = 576. Taking off what the other places hold, and guessing again, recovers all of them, also after rounding to
int4. A bank that keeps no text answers through this channel.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from cmt.lm.model import FrozenLM

LIKELY = 32  # nearest embeddings among which a place's token is looked for again
AGAIN = 2  # times; one is enough at W = 8
ROTATION_SEED = 7410  # part of the format: a bank written with one seed is read with the same


class TokenCodec:
    """Token ids ⇄ vectors (⌈n/W⌉, D)."""

    def __init__(self, lm: FrozenLM, window: int) -> None:
        weight = lm.model.get_input_embeddings().weight.detach().float()
        self.window = window
        self.units = F.normalize(weight - weight.mean(0), dim=-1)  # (V, D)
        self._fast_units = self.units.to(lm.model.dtype)
        source = torch.Generator().manual_seed(ROTATION_SEED)
        size = lm.hidden_size, lm.hidden_size
        turns = [torch.linalg.qr(torch.randn(size, generator=source))[0] for _ in range(window)]
        self.turns = torch.stack(turns).to(weight.device)  # (W, D, D)

    def write(self, ids: list[int]) -> Tensor:
        """Vectors (⌈n/W⌉, D) of n token ids."""
        short = -len(ids) % self.window
        units = F.pad(self.units[torch.tensor(ids, device=self.units.device)], (0, 0, 0, short))
        return torch.einsum("kwd,wde->ke", torch.unflatten(units, 0, (-1, self.window)), self.turns)

    def read(self, vectors: Tensor, count: int) -> list[int]:
        """The `count` token ids of vectors (k, D) of any length, by parallel interference cancellation."""
        vectors = vectors.to(self.turns)
        turned = self._turned_back(vectors)
        near = turned.flatten(0, 1)[:count].to(self._fast_units) @ self._fast_units.T
        likely = F.pad(near.topk(LIKELY).indices, (0, 0, 0, turned.shape[:2].numel() - count))
        units = torch.unflatten(self.units[likely], 0, turned.shape[:2])  # (k, W, LIKELY, D)
        units.flatten(0, 1)[count:] = 0  # a short last window
        best = torch.zeros(turned.shape[:2], dtype=torch.long, device=turned.device)
        for _ in range(AGAIN):
            guess = _picked(units, best)
            whole = torch.einsum("kwd,wde->ke", guess, self.turns)
            scale = (vectors * whole).sum(1, keepdim=True) / (whole * whole).sum(1, keepdim=True)
            alone = self._turned_back(vectors / scale - whole) + guess
            best = torch.einsum("kwld,kwd->kwl", units, alone).argmax(-1)
        ids: list[int] = likely.gather(1, best.flatten()[:, None])[:count, 0].tolist()
        return ids

    def _turned_back(self, vectors: Tensor) -> Tensor:
        """(k, D) → (k, W, D): what stands at each place, under the noise of the others."""
        return torch.einsum("ke,wde->kwd", vectors, self.turns)


def _picked(units: Tensor, best: Tensor) -> Tensor:
    """(k, W, L, D), (k, W) → (k, W, D)."""
    return torch.take_along_dim(units, best[..., None, None], 2).squeeze(2)
