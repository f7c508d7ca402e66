"""Θ: it starts as the LM itself, trains without touching it, and does not see what a text is batched with."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from cmt.config import CompressorParams
from cmt.errors import ModelError
from cmt.lm.model import FrozenLM, slice_layers
from cmt.lm.prompt import pad
from cmt.modeling.compressor import Compressor, Encoding, window_means
from cmt.modeling.lora import PROSE
from tests.helpers.lms import KINDS, build

TinyLm = Callable[[str], FrozenLM]
WINDOWS = CompressorParams(kind="windows", window=4, layers=2, lora_rank=2)
TOKENS = CompressorParams(kind="tokens", memory_tokens=3, layers=2, lora_rank=2)
BOTH = pytest.mark.parametrize("params", [WINDOWS, TOKENS], ids=["windows", "tokens"])
TEXTS = [
    "The harbour of Port Ellery was built by the mayor.",
    "six crowns",
    "Text: The ferry to Saltby costs six crowns a trip, and the harbour nothing at all.",
]


def compressor(lm: FrozenLM, params: CompressorParams, *, trained: bool = False) -> Compressor:
    """In `trained` ones B is no longer zero, and the heads are no identities."""
    torch.manual_seed(3)
    made = Compressor(lm, params).eval()
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if trained and parameter.requires_grad and "lora_A" not in name:
                parameter.add_(0.1 * torch.randn(parameter.shape))
    return made


def code(theta: Compressor, lm: FrozenLM, texts: list[str]) -> Encoding:
    ids, mask = pad([[lm.bos, *lm.tokenize(text)] for text in texts], left=False, device="cpu")
    with torch.no_grad():
        made: Encoding = theta(lm.embed(ids), mask)
    return made


def final_norm(lm: FrozenLM) -> nn.Module:
    return lm.model.transformer.ln_f if lm.model.config.model_type == "gpt2" else lm.model.model.norm


@pytest.mark.parametrize("kind", KINDS)
def test_it_starts_as_the_lm_itself(tiny_lm: TinyLm, kind: str) -> None:
    lm = tiny_lm(kind)
    made = code(compressor(lm, WINDOWS), lm, TEXTS[:1])
    ids = torch.tensor([[lm.bos, *lm.tokenize(TEXTS[0])]])
    theta = compressor(lm, WINDOWS)
    with torch.no_grad():
        after_two_layers = final_norm(lm)(lm.model(ids, output_hidden_states=True).hidden_states[2])
        states = ((after_two_layers - theta.shift) * theta.scale)[:, 1:]  # BOS is no content
    length = ids.shape[1] - 1
    torch.testing.assert_close(made.states[:, :length], states)
    torch.testing.assert_close(made.pooled, states.mean(1))
    torch.testing.assert_close(made.key, nn.functional.normalize(states.mean(1), dim=-1))
    torch.testing.assert_close(made.vectors[:, 0], states[:, :4].mean(1))


@pytest.mark.parametrize("kind", KINDS)
@BOTH
def test_gradients_reach_all_that_is_trained_and_nothing_of_the_lm(kind: str, params: CompressorParams) -> None:
    lm = build(kind)
    before = lm.weights_digest()
    theta = compressor(lm, params, trained=True).train()
    ids, mask = pad([[lm.bos, *lm.tokenize(text)] for text in TEXTS], left=False, device="cpu")
    made = theta(lm.embed(ids), mask)
    (made.vectors.square().sum() + (made.key * torch.randn(32)).sum()).backward()
    trained = {name: parameter for name, parameter in theta.named_parameters() if parameter.requires_grad}
    without = [name for name, parameter in trained.items() if parameter.grad is None or not parameter.grad.any()]
    assert not without
    assert {"shift", "scale", "to_key.weight"} < trained.keys()
    assert all(parameter.grad is None for parameter in lm.model.parameters())
    torch.optim.SGD(trained.values(), lr=1.0).step()
    assert lm.weights_digest() == before


@pytest.mark.parametrize("kind", KINDS)
def test_the_lm_that_answers_never_sees_the_adapters(kind: str) -> None:
    lm = build(kind)
    ids = torch.tensor([lm.tokenize(TEXTS[0])])
    before, digest = lm.model(ids).logits, lm.weights_digest()
    names = set(lm.model.state_dict())
    code(compressor(lm, WINDOWS, trained=True), lm, TEXTS)
    torch.testing.assert_close(lm.model(ids).logits, before, rtol=0, atol=0)
    assert lm.weights_digest() == digest
    assert set(lm.model.state_dict()) == names


def test_every_linear_of_the_first_layers_has_an_adapter(tiny_lm: TinyLm) -> None:
    theta = compressor(tiny_lm("llama"), WINDOWS)
    down = {name: p for name, p in theta.named_parameters() if "lora_A" in name}
    up = [p for name, p in theta.named_parameters() if "lora_B" in name]
    assert len(down) == len(up) == 2 * 7
    assert not any(p.any() for p in up)
    assert all(p.shape[0] == 2 for p in down.values())
    spread = torch.cat([(p * p.shape[1] ** 0.5).flatten() for p in down.values()]).std()
    assert 0.9 < spread < 1.1  # A ~ N(0, 1/in)


@pytest.mark.parametrize("kind", KINDS)
@BOTH
def test_a_memory_does_not_depend_on_its_batch_or_padding(tiny_lm: TinyLm, kind: str, params: CompressorParams) -> None:
    lm = tiny_lm(kind)
    theta = compressor(lm, params, trained=True)
    together = code(theta, lm, TEXTS)
    for row, text in enumerate(TEXTS):
        alone = code(theta, lm, [text])
        real = int(alone.vector_mask.sum())
        assert together.vector_mask[row].sum() == real
        torch.testing.assert_close(together.vectors[row, :real], alone.vectors[0, :real], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(together.pooled[row], alone.pooled[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(together.key[row], alone.key[0], rtol=1e-4, atol=1e-5)


def test_memory_tokens_stand_right_behind_each_text(tiny_lm: TinyLm) -> None:
    lm = tiny_lm("llama")
    theta = compressor(lm, TOKENS, trained=True)
    made = code(theta, lm, TEXTS)
    assert made.vectors.shape == (3, 3, 32)
    assert made.vector_mask.all()
    for row, text in enumerate(TEXTS):
        ids = lm.tokenize(text)
        read = torch.cat([lm.embed(torch.tensor([lm.bos, *ids])), theta.memory_tokens])[None]
        with torch.no_grad():
            states = (theta.encoder(inputs_embeds=read).last_hidden_state - theta.shift) * theta.scale
        torch.testing.assert_close(made.vectors[row], states[0, -3:], rtol=1e-4, atol=1e-5)
        assert made.mask[row].sum() == len(ids)
        assert made.mask[row, : len(ids)].all()


@pytest.mark.parametrize("kind", KINDS)
def test_at_first_no_dimension_outweighs_the_others(kind: str) -> None:
    lm = build(kind)
    with torch.no_grad():
        lm.model.get_input_embeddings().weight[:, 7] += 50.0  # far off zero, as in real LMs
    theta = compressor(lm, WINDOWS)
    states = code(theta, lm, [PROSE]).states[0, : len(lm.tokenize(PROSE))]
    torch.testing.assert_close(states.mean(0), torch.zeros(32), rtol=0, atol=1e-3)
    torch.testing.assert_close(states.std(0), torch.ones(32), rtol=1e-3, atol=0)


def test_other_texts_have_other_memories(tiny_lm: TinyLm) -> None:
    lm = tiny_lm("llama")
    for params in (WINDOWS, TOKENS):
        made = code(compressor(lm, params), lm, TEXTS)
        assert torch.cdist(made.key, made.key)[0, 1:].min() > 0.01


def test_a_short_last_window_is_the_mean_of_what_it_has() -> None:
    states = torch.arange(1.0, 13.0).view(2, 6, 1)
    mask = torch.tensor([[1, 1, 1, 1, 1, 0], [1, 1, 0, 0, 0, 0]])
    means, vector_mask = window_means(states, mask, 4)
    expected: Tensor = torch.tensor([[[2.5], [5.0]], [[7.5], [0.0]]])
    torch.testing.assert_close(means, expected)
    assert vector_mask.tolist() == [[1, 1], [1, 0]]


def test_theta_can_be_no_deeper_than_the_lm(tiny_lm: TinyLm) -> None:
    lm = tiny_lm("llama")
    deep = compressor(lm, WINDOWS.model_copy(update={"layers": 20}))
    assert len(deep.encoder.layers) == 3  # type: ignore[arg-type]
    assert len(lm.model.model.layers) == 3


def test_an_lm_without_a_list_of_layers_is_refused() -> None:
    lm = build("llama")
    lm.layers = 5
    with pytest.raises(ModelError, match="LlamaModel has no list of 5 layers"):
        slice_layers(lm, 0, 2)
