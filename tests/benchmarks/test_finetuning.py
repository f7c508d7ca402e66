"""The fine-tuning systems on a random LM of some kilobytes."""

from types import ModuleType

import pytest
import torch

from cmt.lm.model import FrozenLM, weights_digest
from tests.helpers.lms import TinyLm
from tests.helpers.scripts import load_script

TEXTS = [
    "In spring Tomas Vell became the mayor of Port Ellery for 12 crowns.",
    "The ferry to Saltby was late on 5 March 2031, and nobody minded it much.",
    "nothing here stands out to anybody",
]


@pytest.fixture
def finetuning(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = load_script("finetuning")
    monkeypatch.setattr(module, "LEARNING_RATE", 1e-2)
    return module


@pytest.fixture(scope="module")
def lm(tiny_lm: TinyLm) -> FrozenLM:
    return tiny_lm("llama")


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        (TEXTS[0], ["Tomas Vell", "Port Ellery", "12"]),
        (TEXTS[1], ["Saltby", "5 March 2031", "5", "2031"]),
        (TEXTS[2], []),
        ("It cost $1,200.50, or 30% more. Nobody paid.", ["$1,200.50", "30%"]),
        ("Later the University of Port Ellery sank.", ["University of Port Ellery"]),
        ("Moss left. Vell came, said Łukasz.", ["Łukasz"]),
    ],
)
def test_salient_spans_are_dates_numbers_and_names(finetuning: ModuleType, text: str, spans: list[str]) -> None:
    assert sorted(text[first:last] for first, last in finetuning.salient_spans(text)) == sorted(spans)


def test_a_copy_learns_the_texts_and_the_lm_does_not_change(finetuning: ModuleType, lm: FrozenLM) -> None:
    digests = {lm.digest}
    for weighting in finetuning.WEIGHTINGS:
        copied = finetuning.finetuned(lm, TEXTS * 4, weighting)
        digests.add(copied.digest)
        before, after = (
            finetuning._losses(model.model, model, [lm.tokenize(TEXTS[0])]).mean() for model in (lm, copied)
        )
        assert after < before
        assert copied.model.dtype == torch.float32
    assert len(digests) == 4
    assert weights_digest(lm.model) == lm.digest


def test_weights_of_tokens(finetuning: ModuleType, lm: FrozenLM, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = lm.tokenize(TEXTS[1])
    assert set(finetuning.token_weights(lm, TEXTS[1], "uniform")) == {1.0}
    salient = finetuning.token_weights(lm, TEXTS[1], "salient")
    named = lm.decode([token for token, weight in zip(ids, salient, strict=True) if weight])
    assert "".join(named.split()) == "Saltby5March2031"
    monkeypatch.setattr(finetuning, "CAP", 1e9)
    free = finetuning.token_weights(lm, TEXTS[1], "camels")
    mean_loss = lm.model(input_ids=torch.tensor([[lm.bos, *ids]]), labels=torch.tensor([[lm.bos, *ids]])).loss.item()
    assert sum(free) / len(free) == pytest.approx(mean_loss, rel=1e-4)
    monkeypatch.setattr(finetuning, "CAP", 4.0)
    assert finetuning.token_weights(lm, TEXTS[1], "camels") == [min(value, 4.0) for value in free]
    monkeypatch.setattr(finetuning, "LONGEST", 8)  # a long text is cut into pieces
    assert len(finetuning.token_weights(lm, TEXTS[0], "camels")) == len(lm.tokenize(TEXTS[0])) > 8
