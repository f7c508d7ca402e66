"""The cross-encoder: which of two reports answers a question."""

from datetime import date
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from cmt.config import SHIPPED
from cmt.errors import ModelError
from cmt.lm.model import FrozenLM
from cmt.modeling.cross_encoder import FILE, LONGEST, CrossEncoder, DatedText, reading
from cmt.modeling.lora import layers_with_lora
from tests.helpers.lms import TinyLm

QUESTION = "What does a single ticket on the Saltby ferry cost?"
OLD = DatedText(
    "Fares\nA single ticket on the Saltby ferry costs 8 crowns. Children travel free.",
    date(2031, 3, 1),
)
NEW = DatedText(
    "Dearer crossing\nPassengers of the Saltby ferry found a new board at the quay. A single ticket"
    " costs 11 crowns, and bicycles pay two. The company blames the price of diesel.",
    date(2031, 7, 6),
)
RUMOUR = DatedText(
    "Quay talk\nA rumour has it that a single ticket on the Saltby ferry will cost 11 crowns. The"
    " company denies it: the fare stays as it is, a spokeswoman said.",
    date(2031, 7, 6),
)


@pytest.fixture
def folder(tiny_lm: TinyLm, tmp_path: Path) -> Path:
    """A cross-encoder of one layer, for the tiny LM."""
    lm = tiny_lm("llama")
    torch.manual_seed(0)
    tensors = {
        name: p.detach()
        for name, p in layers_with_lora(lm, 0, 1, 2).named_parameters()
        if "lora_" in name
    }
    tensors = {
        name: tensor + 0.1 if "lora_B" in name else tensor for name, tensor in tensors.items()
    }
    head = {"head.weight": torch.randn(2, lm.hidden_size), "head.bias": torch.zeros(2)}
    save_file(tensors | head, tmp_path / FILE, {"lm_digest": lm.digest})
    return tmp_path


def test_the_odds_depend_on_both_reports_and_on_nothing_else(folder: Path, tiny_lm: TinyLm) -> None:
    encoder = CrossEncoder.load(folder, tiny_lm("llama"))
    assert encoder is not None
    found = [
        encoder.odds(QUESTION, *pair)
        for pair in ((OLD, NEW), (OLD, RUMOUR), (NEW, RUMOUR), (OLD, NEW))
    ]
    assert len(set(found)) == 3
    assert found[0] == found[3]
    assert found[0].holds != found[0].changed


def test_two_reports_are_read_once_for_a_question(folder: Path, tiny_lm: TinyLm) -> None:
    encoder = CrossEncoder.load(folder, tiny_lm("llama"))
    assert encoder is not None
    passes = []
    encoder._parts[0].register_forward_hook(lambda *_: passes.append(1))
    pairs = ((OLD, NEW), (OLD, NEW), (OLD, RUMOUR), (OLD, NEW))
    found = [encoder.odds(QUESTION, *pair) for pair in pairs]
    assert len(passes) == 2
    assert found[0] == found[1] == found[3] != found[2]
    encoder.odds("Who sells the tickets?", OLD, NEW)
    assert len(passes) == 3


def test_a_long_report_is_cut_and_the_question_stays(tiny_lm: TinyLm) -> None:
    lm = tiny_lm("llama")
    long = DatedText("Fares\n" + 400 * "word ", date(2031, 7, 6))
    ids = reading(lm, QUESTION, OLD, long, long.published)
    assert lm.decode(ids).endswith(f"{QUESTION} Does the later report change the answer?")
    assert len(ids) < len(reading(lm, QUESTION, OLD, NEW, NEW.published)) + LONGEST


def test_another_lm_has_none(folder: Path, tiny_lm: TinyLm) -> None:
    assert CrossEncoder.load(folder, tiny_lm("gpt2")) is None


@pytest.mark.parametrize("damage", ["header", "tensor", "heads", "bias", "NaN", "adapter"])
def test_a_damaged_file_is_named(folder: Path, tiny_lm: TinyLm, damage: str) -> None:
    lm = tiny_lm("llama")
    if damage == "header":
        (folder / FILE).write_bytes(b"no tensors")
    else:
        tensors = load_file(folder / FILE)
        adapter = next(name for name in tensors if "lora_A" in name)
        damaged = {
            "tensor": {"head.weight": tensors["head.weight"], "head.bias": tensors["head.bias"]},
            "heads": tensors | {"head.weight": torch.zeros(1, lm.hidden_size)},
            "bias": tensors | {"head.bias": torch.zeros(1)},
            "NaN": tensors | {adapter: torch.full_like(tensors[adapter], torch.nan)},
            "adapter": tensors | {adapter: torch.zeros(1, 1)},
        }
        save_file(damaged[damage], folder / FILE, {"lm_digest": lm.digest})
    with pytest.raises(ModelError, match=rf"{FILE} is damaged .* restore it, or delete it"):
        encoder = CrossEncoder.load(folder, lm)
        assert encoder is not None
        encoder.odds(QUESTION, OLD, NEW)


def test_the_shipped_one_tells_a_change_from_a_denied_rumour(real_lm: FrozenLM) -> None:
    encoder = CrossEncoder.load(SHIPPED, real_lm)
    assert encoder is not None
    change, rumour = (encoder.odds(QUESTION, OLD, later) for later in (NEW, RUMOUR))
    assert change.holds > 0.5 > -1 > rumour.holds
    assert change.changed > 0.5 > -1 > rumour.changed
