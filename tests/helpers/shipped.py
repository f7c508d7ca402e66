"""A bank of the shipped compressor."""

from functools import cache
from pathlib import Path
from typing import Any

from cmt.config import Params, load_params, state_folder
from cmt.evaluation.temporary_bank import TemporaryBank
from cmt.lm.model import FrozenLM
from cmt.modeling.loading import load_memory_model
from cmt.modeling.model import MemoryModel
from cmt.retrieval.indexer import compress_documents
from tests.helpers.facts import documents

ROOT = Path(__file__).parents[2]


def shipped_bank(lm: FrozenLM, rows: list[dict[str, Any]]) -> TemporaryBank:
    """The documents `rows` (`documents`) in a bank of the compressor and the parameters of this
    repository.
    """
    params, model = _shipped(lm)
    memories = compress_documents(model, documents(rows), slice_id="scratch", params=params)
    return TemporaryBank(model, memories, params, state_folder(params, Path.cwd()))


@cache
def _shipped(lm: FrozenLM) -> tuple[Params, MemoryModel]:
    """Loaded once for all tests, which do not change it."""
    params = load_params(ROOT / "params.yaml")
    compressor = params.compressor
    return params, load_memory_model(compressor.path, lm=lm, window=compressor.window, merged=True)
