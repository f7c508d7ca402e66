"""Fixtures of the tests of answering."""

from collections.abc import Callable

import pytest

from cmt.answering.answerer import Answerer
from cmt.lm.model import FrozenLM
from tests.helpers.scripted import bank, lm, other_lm, script, textless_bank
from tests.helpers.untrained import MAYORS, untrained_answerer

__all__ = ["bank", "lm", "other_lm", "script", "textless_bank"]


@pytest.fixture(scope="session")
def mayors(
    tiny_lm: Callable[[str], FrozenLM], tmp_path_factory: pytest.TempPathFactory
) -> Answerer:
    """An answerer over MAYORS."""
    return untrained_answerer(tiny_lm("llama"), tmp_path_factory.mktemp("mayors"), MAYORS)
