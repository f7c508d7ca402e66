"""Fine-tuning baselines on a random LM of some kilobytes."""

import copy

import pytest
import torch

from cmt.answering.prompting import closed_book
from cmt.errors import ConfigError
from cmt.evaluation.finetuning import TOKEN_WEIGHTS, Recipe, _negative_log_likelihood, adapt, pieces, salient_spans
from cmt.lm.model import FrozenLM, weights_digest

TEXTS = [
    "In spring Tomas Vell became the mayor of Port Ellery for 12 crowns.",
    "The ferry to Saltby was late on 5 March 2031, and nobody minded it much.",
    "nothing here stands out to anybody",
]
FAST = Recipe(learning_rate=1e-2, batch_size=2)


def loss(lm: FrozenLM, text: str) -> float:
    """Mean negative log-likelihood of a token, in nats."""
    values = _negative_log_likelihood(lm, text, Recipe(cap=1e9))
    return sum(values) / len(values)


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        (TEXTS[0], ["Tomas Vell", "Port Ellery", "12"]),
        (TEXTS[1], ["Saltby", "5 March 2031"]),
        (TEXTS[2], []),
        ("It cost $1,200.50, or 30% more. Nobody paid.", ["$1,200.50", "30%"]),
        ("On December 16th, 1811 it shook.", ["December 16th, 1811"]),
        ("Later the University of Port Ellery sank.", ["University of Port Ellery"]),
        ("Moss left. Vell came, said Łukasz.", ["Łukasz"]),
        ("Greta Vell won.", ["Greta Vell"]),
        ("", []),
    ],
)
def test_salient_spans_are_dates_numbers_and_names(text: str, spans: list[str]) -> None:
    assert [text[first:last] for first, last in salient_spans(text)] == spans


@pytest.mark.parametrize("weighting", list(TOKEN_WEIGHTS))
def test_a_copy_learns_the_texts_and_the_lm_does_not_change(lm: FrozenLM, weighting: str) -> None:
    before = lm.weights_digest()
    adapted = adapt(lm, TEXTS * 4, weighting=weighting, seed=0, recipe=FAST)
    assert lm.weights_digest() == before == lm.digest
    assert adapted.lm.weights_digest() == adapted.lm.digest != before
    assert loss(adapted.lm, TEXTS[0]) < loss(lm, TEXTS[0])
    assert adapted.seconds > 0
    assert not any(weight.requires_grad for weight in (*lm.model.parameters(), *adapted.lm.model.parameters()))


def test_the_copy_gives_other_answers_than_the_lm(lm: FrozenLM) -> None:
    adapted = adapt(lm, TEXTS * 4, weighting="uniform", seed=0, recipe=FAST)
    questions = ["Who became the mayor?", "What was late?"]
    replies = [closed_book(reader, questions, max_new_tokens=6, batch_size=2) for reader in (lm, adapted.lm)]
    assert replies[0] != replies[1]


def test_the_same_seed_gives_the_same_weights(lm: FrozenLM) -> None:
    digests = {adapt(lm, TEXTS, weighting="camels", seed=3, recipe=FAST).lm.digest for _ in range(2)}
    assert len(digests) == 1


def test_each_weighting_gives_other_weights(lm: FrozenLM) -> None:
    digests = {adapt(lm, TEXTS, weighting=weighting, seed=0, recipe=FAST).lm.digest for weighting in TOKEN_WEIGHTS}
    assert len(digests) == 3


def test_salient_weights_are_zero_outside_the_spans(lm: FrozenLM) -> None:
    weights = TOKEN_WEIGHTS["salient"](lm, TEXTS[1], Recipe())
    ids = lm.tokenize(TEXTS[1])
    salient = lm.decode([token for token, weight in zip(ids, weights, strict=True) if weight])
    assert "".join(salient.split()) == "Saltby5March2031"
    assert set(TOKEN_WEIGHTS["uniform"](lm, TEXTS[1], Recipe())) == {1.0}


def test_camels_weights_are_the_capped_losses_of_the_lm(lm: FrozenLM) -> None:
    free, capped = (_negative_log_likelihood(lm, TEXTS[1], Recipe(cap=cap)) for cap in (1e9, 4.0))
    assert capped == [min(value, 4.0) for value in free]
    assert max(capped) == 4.0
    ids = torch.tensor([[lm.bos, *lm.tokenize(TEXTS[1])]])
    mean_loss = lm.model(input_ids=ids, labels=ids).loss.item()
    assert sum(free) / len(free) == pytest.approx(mean_loss, rel=1e-4)


def test_a_text_without_salient_spans_changes_little(lm: FrozenLM) -> None:
    adapted = adapt(lm, TEXTS[2:], weighting="salient", seed=0, recipe=Recipe(learning_rate=1e-4))
    assert loss(adapted.lm, TEXTS[2]) == pytest.approx(loss(lm, TEXTS[2]), abs=0.02)
    assert adapt(lm, [], weighting="uniform", seed=0).lm.digest == lm.digest


def test_long_texts_are_cut_into_pieces(lm: FrozenLM) -> None:
    advances: list[int] = []
    long = " ".join(TEXTS)
    recipe = Recipe(longest=32, batch_size=2)
    adapt(lm, [long], weighting="salient", seed=0, recipe=recipe, on_progress=advances.append)
    assert sum(advances) == pieces(lm, [long], recipe) == -(-len(lm.tokenize(long)) // 32) > 2


def test_a_bfloat16_lm_is_adapted_in_float32(lm: FrozenLM) -> None:
    model = copy.deepcopy(lm.model).to(torch.bfloat16)
    half = FrozenLM(model, lm.tokenizer, weights_digest(model))
    adapted = adapt(half, TEXTS, weighting="uniform", seed=0)
    assert adapted.lm.model.dtype == torch.float32
    exact = {name: weight.float() for name, weight in model.state_dict().items()}
    moved = [(weight - exact[name]).abs().max().item() for name, weight in adapted.lm.model.state_dict().items()]
    assert 0 < max(moved) < 1e-3
    assert half.weights_digest() == half.digest


def test_an_unknown_weighting_is_a_config_error(lm: FrozenLM) -> None:
    with pytest.raises(ConfigError, match="'loud'; available: uniform, salient, camels"):
        adapt(lm, TEXTS, weighting="loud", seed=0)


def test_adapting_prints_nothing(lm: FrozenLM, capsys: pytest.CaptureFixture[str]) -> None:
    adapt(lm, TEXTS, weighting="uniform", seed=0)
    assert capsys.readouterr().out == ""
