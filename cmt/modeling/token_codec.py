"""Content channel: the tokens of a window in one vector, readable without training (docs/method.md#content-channel).

A window's vector is the sum of its W token embeddings, each centred, of unit length, and turned by a fixed random
rotation of its place. Turning back and taking the nearest embedding recovers 96 % of the tokens at W = 8 and D = 576;
subtracting what the other places hold and searching again recovers all of them, at W = 16 too and after rounding to
int4. A bank without text answers through this channel.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from cmt.lm.model import FrozenLM

CANDIDATES = 8  # L: nearest embeddings of a place among which its token is chosen
SEARCHES = 2  # the second one hears each place without what the others hold
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
        rotations = [torch.linalg.qr(torch.randn(size, generator=generator))[0] for _ in range(window)]
        self.rotations = torch.stack(rotations).to(weight.device)  # (W, D, D)

    def write(self, ids: list[int]) -> Tensor:
        """Vectors (⌈n/W⌉, D) of n token ids."""
        missing = -len(ids) % self.window
        units = F.pad(self.units[torch.tensor(ids, device=self.units.device)], (0, 0, 0, missing))
        units = torch.unflatten(units, 0, (-1, self.window))  # (k, W, D)
        return torch.einsum("kwd,wde->ke", units, self.rotations)

    def read(self, vectors: Tensor, count: int) -> list[int]:
        """The first `count` token ids of vectors (k, D) of any length, by parallel interference cancellation."""
        vectors = vectors.to(self.rotations)
        heard = self._turn_back(vectors)  # (k, W, D)
        for _ in range(SEARCHES):
            # 1. candidates: the embeddings nearest to what is heard at each place
            candidates = self._nearest(heard, count)  # (k, W, L)
            units = self.units[candidates]  # (k, W, L, D)
            units.flatten(0, 1)[count:] = 0  # places behind the last token
            # 2. subtract what the other places hold, if the nearest are right, and choose among the candidates
            total = torch.einsum("kwd,wde->ke", units[:, :, 0], self.rotations)  # (k, D)
            scale = (vectors * total).sum(1, keepdim=True) / (total * total).sum(1, keepdim=True)
            heard = self._turn_back(vectors / scale - total) + units[:, :, 0]
            best = torch.einsum("kwld,kwd->kwl", units, heard).argmax(-1, keepdim=True)  # (k, W, 1)
        ids: list[int] = candidates.gather(2, best).flatten()[:count].tolist()
        return ids

    def _nearest(self, heard: Tensor, count: int) -> Tensor:
        """(k, W, L) ids of the embeddings nearest to `heard` (k, W, D), the nearest first; 0 from place `count` on."""
        places = heard.shape[:2]
        similarity = heard.flatten(0, 1)[:count].to(self._fast_units) @ self._fast_units.T  # (n, V)
        ids = F.pad(similarity.topk(CANDIDATES).indices, (0, 0, 0, places.numel() - count))  # (k·W, L)
        return torch.unflatten(ids, 0, places)

    def _turn_back(self, vectors: Tensor) -> Tensor:
        """Vectors (k, D), turned back by the rotation of each place: its embedding and the noise of the others."""
        return torch.einsum("ke,wde->kwd", vectors, self.rotations)
