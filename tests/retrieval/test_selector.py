"""Selection of memories by keys and words, on a real bank with a stand-in for the model."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest
import torch

from cmt.bank.bank import Bank, open_bank
from cmt.bank.lexical import sketch
from cmt.bank.location import BankLocation
from cmt.bank.schema import bank_schema
from cmt.config import SelectionParams
from cmt.modeling.model import MemoryModel
from cmt.retrieval.selector import Selection, select_memories
from tests.helpers.banks import COMPRESSOR, DIM, KEY_DIM, SCHEMA, document, key_of, table

TEMPERATURE = 20.0
QUESTION = "Where is the lighthouse?"


def select(
    bank: Bank, *, key: np.ndarray, aggregator: object = True, **selection: Any
) -> Selection:
    model = cast(
        MemoryModel, SimpleNamespace(temperature=torch.tensor(TEMPERATURE), aggregator=aggregator)
    )
    params = SelectionParams.model_validate({"max_logprob_gap": 1000.0} | selection)
    return select_memories(bank, model, params, question=QUESTION, key=key, as_of=None)


def names(selection: Selection) -> list[str]:
    return [row["doc_id"] for row in selection.rows]


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    """Twelve documents with random keys; the text of `d7` has the word of the question."""
    bank = open_bank(BankLocation(str(tmp_path / "bank")), schema=SCHEMA)
    bank.upsert(
        table(
            *(document(f"d{n}", text="a lighthouse" if n == 7 else f"word{n}") for n in range(12))
        )
    )
    return bank


@pytest.fixture
def textless_bank(tmp_path: Path) -> Bank:
    """The same without texts, with sketches instead."""
    schema = bank_schema(
        key_dim=KEY_DIM, codes="int8", dim=DIM, compressor=COMPRESSOR, sketched=True
    )
    bank = open_bank(BankLocation(str(tmp_path / "textless")), schema=schema)
    rows = [
        row | {"text": None, "words": sketch("a lighthouse" if n == 7 else f"word{n}")}
        for n in range(12)
        for row in document(f"d{n}")
    ]
    bank.upsert(pa.Table.from_pylist(rows, schema=schema))
    return bank


def test_an_empty_bank_selects_nothing(tmp_path: Path) -> None:
    empty = open_bank(BankLocation(str(tmp_path / "empty")), schema=SCHEMA)
    assert select(empty, key=key_of("q")) == Selection([], math.inf)


def logits_of_documents() -> dict[str, float]:
    """The scaled cosine of each document's key and the question's."""
    keys = np.stack([key_of(name) for name in ("q", *(f"d{n}#0" for n in range(12)))]).astype(
        np.float64
    )
    unit = keys / np.linalg.norm(keys, axis=1, keepdims=True)
    return {f"d{n}": TEMPERATURE * float(cosine) for n, cosine in enumerate(unit[1:] @ unit[0])}


def test_priors_are_the_log_softmax_of_scaled_cosines_over_the_candidates(bank: Bank) -> None:
    selection = select(bank, key=key_of("q"), top_k=6, full_text_weight=0.0)
    logits = logits_of_documents()
    ranked = sorted(logits, key=lambda name: -logits[name])
    total = np.logaddexp.reduce(
        [logits[name] for name in ranked]
    )  # 2 · top_k candidates: all of them
    assert names(selection) == ranked[:6]
    np.testing.assert_allclose(
        [row["prior"] for row in selection.rows], [logits[n] - total for n in ranked[:6]], 1e-6
    )


def test_memories_beyond_the_largest_gap_are_not_selected(bank: Bank) -> None:
    logits = sorted(logits_of_documents().values(), reverse=True)
    gap = (2 * logits[0] - logits[2] - logits[3]) / 2  # between the third and the fourth
    selection = select(bank, key=key_of("q"), full_text_weight=0.0, max_logprob_gap=gap)
    assert len(selection.rows) == 3
    assert len(select(bank, key=key_of("q"), full_text_weight=0.0, max_logprob_gap=0.0).rows) == 1


@pytest.mark.parametrize("aggregator", [True, None])
def test_margin_is_the_smallest_change_that_alters_the_selection(
    bank: Bank, aggregator: object
) -> None:
    logits = sorted(logits_of_documents().values(), reverse=True)
    selection = select(bank, key=key_of("q"), aggregator=aggregator, full_text_weight=0.0, top_k=4)
    gaps = [-step for step in np.diff(logits[:5])]
    # Without ψ the LM reads whole memories in their order, so gaps within the selection count as
    # well.
    expected = gaps[3] if aggregator else min(gaps)
    assert selection.margin == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["bank", "textless_bank"])
def test_words_of_the_question_select_a_memory_that_keys_do_not(
    kind: str, request: pytest.FixtureRequest
) -> None:
    searched: Bank = request.getfixturevalue(kind)
    key = key_of("d3#0")
    by_key = select(searched, key=key, full_text_weight=0.0, top_k=2)
    by_both = select(searched, key=key, full_text_weight=100.0, top_k=2)
    assert names(by_key)[0] == "d3"
    assert "d7" not in names(by_key)
    assert names(by_both)[0] == "d7"


def test_ties_are_ordered_by_memory_id(tmp_path: Path) -> None:
    bank = open_bank(BankLocation(str(tmp_path / "bank")), schema=SCHEMA)
    bank.upsert(table(*(document(name, key=key_of("same")) for name in "cab")))
    selection = select(bank, key=key_of("same"), top_k=2)
    assert names(selection) == ["a", "b"]
    assert selection.margin == pytest.approx(0.0)


def test_the_order_of_the_memories_does_not_change_the_digest() -> None:
    row = {
        "memory_id": "ferry#0",
        "published_at": None,
        "supersedes": None,
        "text": "6 crowns",
        "prior": -0.1,
    }
    digest = Selection([row]).digest
    for change in ({"text": "9 crowns"}, {"prior": -0.2}, {"memory_id": "ferry#1"}):
        assert Selection([row | change]).digest != digest
    both = [row, row | {"memory_id": "mayor#0"}]
    assert Selection(both).digest == Selection(both[::-1]).digest != digest
