"""Fixtures of the tests of answering."""

from collections.abc import Callable

import pytest

from cmt.answering.answerer import Answerer
from cmt.evaluation.temporary_bank import TemporaryBank
from cmt.lm.model import FrozenLM
from tests.helpers.fares import JULY, MARCH, NEW, OLD
from tests.helpers.scripted import bank, lm, other_lm, script, textless_bank
from tests.helpers.shipped import shipped_bank
from tests.helpers.untrained import MAYORS, untrained_answerer

__all__ = ["bank", "lm", "other_lm", "script", "textless_bank"]


@pytest.fixture(scope="session")
def mayors(
    tiny_lm: Callable[[str], FrozenLM], tmp_path_factory: pytest.TempPathFactory
) -> Answerer:
    """An answerer over MAYORS."""
    return untrained_answerer(tiny_lm("llama"), tmp_path_factory.mktemp("mayors"), MAYORS)


@pytest.fixture(scope="session")
def fares(real_lm: FrozenLM) -> TemporaryBank:
    """An earlier and a later document on the same fare, and one on another fact; the trained reader
    reads them.
    """
    texts = [
        ("a1", MARCH, OLD),
        ("a2", JULY, NEW),
        ("b1", JULY, "Tarn dam\nThe water behind the dam stood at 28 metres."),
    ]
    rows = [
        {"doc_id": name, "published_at": at.isoformat(), "source": "paper"}
        | dict(zip(("title", "text"), text.split("\n"), strict=True))
        for name, at, text in texts
    ]
    return shipped_bank(real_lm, rows)
