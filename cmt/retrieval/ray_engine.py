"""Compression spread with Ray Data over several processes (`compress.engine: ray`, the extra
`ray`).

Batches and their order are the same as in one process, so the rows are the same, byte for byte. Ray
starts on this machine and listens only there. The environment variable RAY_ADDRESS names another
cluster, whose machines have to see the same folders.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from cmt.errors import ConfigError
from cmt.lm.model import FrozenLM
from cmt.modeling.loading import load_memory_model
from cmt.retrieval.indexer import Encoded, encode_batch


@dataclass(frozen=True)
class RayEncoder:
    """Encodes batches in `workers` processes, each on one core with the compressor loaded once; an
    `EncodeBatches`.
    """

    lm: Path  # folder of the language model
    dtype: str
    compressor: Path  # folder of the compressor
    window: int  # W: tokens in a window
    workers: int

    def __call__(
        self, batches: Sequence[Sequence[Sequence[int]]], *, with_content: bool
    ) -> Iterator[Encoded]:
        """Keys and vectors of each batch, in order. Raises ConfigError if Ray is not installed."""
        if not batches:
            return
        # 1. Ray on this machine, unless the environment names a cluster
        ray = _started(self.workers)
        ray.data.DataContext.get_current().execution_options.preserve_order = True
        ray.data.DataContext.get_current().enable_progress_bars = False
        # 2. one block per batch, so each process takes the next block when it is done
        blocks = [pa.table({"tokens": pa.array(batch, pa.list_(pa.int32()))}) for batch in batches]
        dataset = ray.data.from_arrow(blocks).map_batches(
            _Worker,
            fn_constructor_kwargs={"encoder": self, "with_content": with_content},
            batch_size=None,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=self.workers),
            num_cpus=1,
        )
        # 3. the rows in order, cut into batches again
        rows = _rows(dataset)
        for batch in batches:
            yield list(islice(rows, len(batch)))


class _Worker:
    """One process of the pool."""

    def __init__(self, encoder: RayEncoder, with_content: bool) -> None:
        torch.set_num_threads(1)
        lm = FrozenLM.load(encoder.lm, dtype=encoder.dtype)
        self._model = load_memory_model(
            encoder.compressor, lm=lm, window=encoder.window, merged=True
        )
        self._with_content = with_content

    def __call__(self, block: pa.Table) -> pa.Table:
        encoded = encode_batch(
            self._model, block["tokens"].to_pylist(), with_content=self._with_content
        )
        return pa.table(
            {
                "key": pa.array([key for key, _ in encoded], pa.list_(pa.float32())),
                "vectors": pa.array(
                    [vectors.ravel() for _, vectors in encoded], pa.list_(pa.float32())
                ),
                "count": pa.array([len(vectors) for _, vectors in encoded], pa.int32()),
            }
        )


def _rows(dataset: Any) -> Iterator[tuple[Any, Any]]:
    """Key (p,) and vectors (k, D) of each text."""
    for block in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
        for key, vectors, count in zip(
            block["key"], block["vectors"], block["count"].to_pylist(), strict=True
        ):
            flat = vectors.values.to_numpy(zero_copy_only=False).astype(np.float32)
            yield (
                key.values.to_numpy(zero_copy_only=False).astype(np.float32),
                flat.reshape(count, -1),
            )


def _started(workers: int) -> Any:
    """The module `ray`, connected to its cluster."""
    own = not os.environ.get("RAY_ADDRESS")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if own:  # read at the import: Ray listens only on 127.0.0.1, as on macOS
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    try:
        import ray.data
    except ImportError as error:
        raise ConfigError(
            f"compress.engine is 'ray', but Ray cannot be imported ({error}): `pip install "
            "'cmt-memory[ray]'`, or set "
            "'local'"
        ) from None
    if not ray.is_initialized():
        size = {"num_cpus": workers} if own else {}
        ray.init(include_dashboard=False, log_to_driver=False, logging_level="error", **size)
    return ray
