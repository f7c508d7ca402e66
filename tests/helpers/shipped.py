"""A bank of the shipped compressor."""

from pathlib import Path
from typing import Any

from cmt.config import load_params
from cmt.evaluation.temporary_bank import TemporaryBank
from cmt.lm.model import FrozenLM
from tests.helpers.facts import documents


def shipped_bank(lm: FrozenLM, rows: list[dict[str, Any]]) -> TemporaryBank:
    """The documents `rows` (`documents`) in a bank of the compressor and the parameters of this
    repository.
    """
    params = load_params(Path(__file__).parents[2] / "params.yaml")
    return TemporaryBank.of(params.compressor.path, lm=lm, documents=documents(rows), params=params)
