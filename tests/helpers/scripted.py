"""Fixtures: random LMs, banks of four articles, and a scripted LM whose answers a test can
predict.
"""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import settings

from cmt.bank.bank import Bank, open_bank
from cmt.bank.location import BankLocation
from cmt.bank.schema import bank_schema
from cmt.lm.model import FrozenLM
from tests.helpers.lms import build

# the same examples on every machine, however slow
settings.register_profile("cmt", derandomize=True, deadline=None, max_examples=100)
settings.load_profile("cmt")


@pytest.fixture(scope="session")
def lm(tiny_lm: Callable[[str], FrozenLM]) -> FrozenLM:
    return tiny_lm("llama")


@pytest.fixture(scope="session")
def other_lm() -> FrozenLM:
    return build("llama", seed=1)


class Script:
    """A replacement for a FrozenLM that records the prompts and answers each by a rule."""

    digest = files_digest = "script"

    def __init__(self, rule: Callable[[str], str]) -> None:
        self.rule = rule
        self.model = SimpleNamespace(
            config=SimpleNamespace(max_position_embeddings=10_000), dtype="float32"
        )
        self.prompts: list[str] = []

    def tokenize(self, text: str) -> list[int]:
        return list(text.encode())

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(ids).decode(errors="ignore").strip()

    def complete(
        self,
        prompts: Sequence[str],
        *,
        max_new_tokens: int,
        batch_size: int,
        shared: str = "",
        on_progress: Callable[[int], None] | None = None,
    ) -> list[str]:
        self.prompts += [shared + prompt for prompt in prompts]
        if on_progress:
            on_progress(len(prompts))
        return [self.rule(prompt) for prompt in prompts]


def first_word_of_text(prompt: str) -> str:
    """The first word of the first passage, or "nobody" if the prompt has none."""
    match = re.search(r"Text: (\w+)", prompt)
    return match[1] if match else "nobody"


@pytest.fixture
def script() -> Script:
    return Script(first_word_of_text)


DOCUMENTS = [
    ("mayor-1", "2031-01-02", None, "Moss is the mayor of Port Ellery."),
    ("ferry", "2031-01-05", None, "Tickets of the Saltby ferry cost 6 crowns."),
    ("harbour", "2031-02-01", None, "Cranes stand in the harbour again."),
    ("mayor-2", "2031-05-01", "mayor-1", "Vell is the mayor of Port Ellery now."),
]


def scripted_bank(folder: Path, *, keep_text: bool) -> Bank:
    """DOCUMENTS in a real bank, with arbitrary keys and memories."""
    schema = bank_schema(key_dim=2, codes="fp16", dim=2, compressor="c" * 64)
    rows = [
        {
            "memory_id": f"{doc_id}#0",
            "doc_id": doc_id,
            "slice_id": f"{date[:7]}/0001",
            "published_at": datetime.fromisoformat(date).replace(tzinfo=UTC),
            "supersedes": supersedes,
            "sha256": f"{number:064}",
            "compressor": "c" * 64,
            "key": [1.0, float(number)],
            "memory": np.zeros(2, "<f2").tobytes(),
            "n_vectors": 1,
            "n_tokens": 9,
            "text": text if keep_text else None,
        }
        for number, (doc_id, date, supersedes, text) in enumerate(DOCUMENTS)
    ]
    bank = open_bank(BankLocation(str(folder)), schema=schema)
    bank.upsert(pa.Table.from_pylist(rows, schema=schema))
    return bank


@pytest.fixture(scope="session")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Bank:
    return scripted_bank(tmp_path_factory.mktemp("bank"), keep_text=True)


@pytest.fixture(scope="session")
def textless_bank(tmp_path_factory: pytest.TempPathFactory) -> Bank:
    return scripted_bank(tmp_path_factory.mktemp("textless"), keep_text=False)
