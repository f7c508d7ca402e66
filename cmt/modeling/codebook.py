"""Product quantisation of memory vectors: one byte for each part of a vector.

Jégou, Douze and Schmid 2011, Product quantization for nearest neighbor search. A vector of D
numbers is cut into M parts, and each part is replaced by the nearest of 256 centroids. The
centroids are fitted to vectors of the compressor at one window, and are stored next to its weights.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from cmt.common.storage import write_bytes
from cmt.errors import ConfigError, ModelError

CODEBOOKS = (  # file next to the weights of a compressor, with one codebook per window
    "codebooks.safetensors"
)
CENTROIDS = 256  # the values of a byte

Vectors = NDArray[np.float32]  # (k, D)


@dataclass(frozen=True)
class Codebook:
    """The centroids of each part of a vector."""

    centroids: NDArray[np.float16]  # (M, 256, D/M)

    @classmethod
    def fit(cls, vectors: Vectors, *, parts: int, seed: int) -> "Codebook":
        """Centroids of 256 `vectors` (k, D) or more, cut into `parts`, by k-means. Raises
        ConfigError for others.
        """
        from sklearn.cluster import MiniBatchKMeans

        count, dim = vectors.shape
        if parts < 1 or dim % parts:
            raise ConfigError(
                f"a vector of {dim} numbers cannot be cut into {parts} equal parts: choose a "
                "divisor"
            )
        if count < CENTROIDS:
            raise ConfigError(
                f"a codebook needs at least {CENTROIDS} vectors, the documents give {count}: add "
                "more"
            )
        centroids = []
        for part in np.split(vectors, parts, axis=1):
            means = MiniBatchKMeans(
                CENTROIDS, random_state=seed, n_init=1, batch_size=4096, max_iter=30
            )
            centroids.append(means.fit(part).cluster_centers_)
        return cls(np.stack(centroids).astype(np.float16))

    @cached_property
    def name(self) -> str:
        """`pq<bytes of a vector>-<first 12 digits of the SHA-256 of the centroids>`: the number
        format of a bank.
        """
        digest = hashlib.sha256(self.centroids.astype("<f2").tobytes()).hexdigest()
        return f"pq{len(self.centroids)}-{digest[:12]}"

    def encode(self, vectors: Vectors) -> bytes:
        """`vectors` (k, D) as k · M bytes: the index of the nearest centroid of each part."""
        parts = np.stack(np.split(vectors, len(self.centroids), axis=1))  # (M, k, D/M)
        centroids = self._float32  # (M, 256, D/M)
        # |x − c|² − |x|²; |x|² is the same for all centroids
        distances = (centroids**2).sum(2)[:, None] - 2 * parts @ centroids.transpose(
            0, 2, 1
        )  # (M, k, 256)
        return bytes(distances.argmin(2).T.astype(np.uint8).tobytes())

    def decode(self, blob: bytes) -> Vectors:
        """The vectors (k, D) of a blob of `encode`, each part as its centroid."""
        indices = np.frombuffer(blob, np.uint8).reshape(-1, len(self.centroids))  # (k, M)
        parts = self._float32[np.arange(len(self.centroids)), indices]  # (k, M, D/M)
        return parts.reshape(len(indices), -1)

    @cached_property
    def _float32(self) -> NDArray[np.float32]:
        return self.centroids.astype(np.float32)

    def save(self, folder: Path, window: int) -> None:
        """Write the codebook for `window` next to the compressor in `folder`; codebooks for other
        windows stay.
        """
        codebooks = _read(folder) | {f"window-{window}": self.centroids}
        write_bytes(folder / CODEBOOKS, save(dict(sorted(codebooks.items()))))

    @classmethod
    def load(cls, folder: Path, window: int) -> "Codebook | None":
        """The codebook of the compressor in `folder` for `window`, None without one. Raises
        ModelError.
        """
        centroids = _read(folder).get(f"window-{window}")
        return None if centroids is None else cls(centroids)


def stored_codes(codes: str, codebook: Codebook | None, *, keep_text: bool) -> str:
    """The number format of a bank with `bank.codes: codes`; `codebook`: the compressor's for its
    window.

    `pq` becomes the codebook's name. So does `auto` with a codebook and text; otherwise `auto`
    becomes `int8`. Raises ModelError if `codes` is `pq` and there is no codebook.
    """
    if codes == "pq" and codebook is None:
        raise ModelError(
            "the compressor has no codebook for its window, which bank.codes: pq needs: run `cmt "
            "codebook`, or set "
            "bank.codes to auto"
        )
    if codes == "pq" or (codes == "auto" and keep_text):
        return codebook.name if codebook else "int8"
    return "int8" if codes == "auto" else codes


def _read(folder: Path) -> dict[str, NDArray[np.float16]]:
    path = folder / CODEBOOKS
    if not path.exists():
        return {}
    try:
        codebooks = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(
            f"{path} is damaged ({reason}): restore it, or run `cmt codebook`"
        ) from None
    if wrong := [
        name
        for name, values in codebooks.items()
        if values.ndim != 3 or values.shape[1] != CENTROIDS
    ]:
        raise ModelError(f"{path} has no codebook in {wrong[0]}: restore it, or run `cmt codebook`")
    return codebooks
