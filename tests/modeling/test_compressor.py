"""Θ: it starts as the LM, its training leaves the LM unchanged, and no result depends on the
batch.
"""

import pytest
import torch
from torch import nn

from cmt.config import CompressorParams
from cmt.lm.model import FrozenLM
from cmt.lm.prompt import pad
from cmt.modeling.compressor import Compressor, Encoding, masked_mean, window_means
from cmt.modeling.lora import PROSE
from cmt.modeling.published import TokenCompressor
from tests.helpers.lms import KINDS, TinyLm, build

WINDOWS = CompressorParams(kind="windows", window=4, layers=2, lora_rank=2)
TOKENS = CompressorParams(kind="tokens", memory_tokens=3, layers=2, lora_rank=2)
TEXTS = [
    "The harbour of Port Ellery was built by the mayor.",
    "six crowns",
    "Text: The ferry to Saltby costs six crowns a trip, and the harbour nothing at all.",
]


def make_compressor(
    lm: FrozenLM,
    params: CompressorParams,
    *,
    trained: bool = False,
    theta: type[Compressor] = Compressor,
) -> Compressor:
    """With `trained`, B is not zero and the maps are no identities."""
    torch.manual_seed(3)
    compressor = theta(lm, params).eval()
    with torch.no_grad():
        for name, parameter in compressor.named_parameters():
            if trained and parameter.requires_grad and "lora_A" not in name:
                parameter.add_(0.1 * torch.randn(parameter.shape))
    return compressor


def encode(compressor: Compressor, lm: FrozenLM, texts: list[str]) -> Encoding:
    ids, mask = pad([[lm.bos, *lm.tokenize(text)] for text in texts], left=False, device="cpu")
    with torch.no_grad():
        encoding: Encoding = compressor(lm.embed(ids), mask)
    return encoding


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_compressor_computes_what_the_lm_computes(tiny_lm: TinyLm, kind: str) -> None:
    lm = tiny_lm(kind)
    compressor = make_compressor(lm, WINDOWS)
    encoding = encode(compressor, lm, TEXTS[:1])
    ids = torch.tensor([[lm.bos, *lm.tokenize(TEXTS[0])]])
    final_norm = lm.model.transformer.ln_f if kind == "gpt2" else lm.model.model.norm
    with torch.no_grad():
        after_two_layers = final_norm(lm.model(ids, output_hidden_states=True).hidden_states[2])
        states = ((after_two_layers - compressor.shift) * compressor.scale)[:, 1:]  # without BOS
    length = ids.shape[1] - 1
    torch.testing.assert_close(encoding.states[:, :length], states)
    torch.testing.assert_close(encoding.pooled, states.mean(1))
    torch.testing.assert_close(encoding.key, nn.functional.normalize(states.mean(1), dim=-1))
    torch.testing.assert_close(encoding.vectors[:, 0], states[:, :4].mean(1))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("theta", "params"),
    [(Compressor, WINDOWS), (TokenCompressor, TOKENS)],
    ids=["windows", "tokens"],
)
def test_a_memory_does_not_depend_on_its_batch_or_padding(
    tiny_lm: TinyLm, kind: str, theta: type[Compressor], params: CompressorParams
) -> None:
    lm = tiny_lm(kind)
    compressor = make_compressor(lm, params, trained=True, theta=theta)
    batch = encode(compressor, lm, TEXTS)
    for row, text in enumerate(TEXTS):
        alone = encode(compressor, lm, [text])
        count = int(alone.vector_mask.sum())
        assert batch.vector_mask[row].sum() == count
        torch.testing.assert_close(
            batch.vectors[row, :count], alone.vectors[0, :count], rtol=1e-4, atol=1e-5
        )
        torch.testing.assert_close(batch.pooled[row], alone.pooled[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(batch.key[row], alone.key[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_at_the_start_no_dimension_dominates(kind: str) -> None:
    lm = build(kind)
    with torch.no_grad():
        lm.model.get_input_embeddings().weight[:, 7] += 50.0  # far off zero, as in real LMs
    compressor = make_compressor(lm, WINDOWS)
    states = encode(compressor, lm, [PROSE]).states[0, : len(lm.tokenize(PROSE))]
    torch.testing.assert_close(states.mean(0), torch.zeros(32), rtol=0, atol=1e-3)
    torch.testing.assert_close(states.std(0), torch.ones(32), rtol=1e-3, atol=0)


def test_means_leave_padding_out() -> None:
    states = torch.arange(1.0, 13.0).view(2, 6, 1)
    mask = torch.tensor([[1, 1, 1, 1, 1, 0], [1, 1, 0, 0, 0, 0]])
    means, vector_mask = window_means(states, mask, 4)
    torch.testing.assert_close(means, torch.tensor([[[2.5], [5.0]], [[7.5], [0.0]]]))
    assert vector_mask.tolist() == [[1, 1], [1, 0]]
    assert masked_mean(states, mask).tolist() == [[3.0], [7.5]]
    assert masked_mean(states, torch.zeros_like(mask)).tolist() == [[0.0], [0.0]]


def test_a_compressor_has_at_most_the_layers_of_the_lm(tiny_lm: TinyLm) -> None:
    lm = tiny_lm("llama")
    deep = make_compressor(lm, WINDOWS.model_copy(update={"layers": 20}))
    assert len(deep.encoder.layers) == 3  # type: ignore[arg-type]
    assert len(lm.model.model.layers) == 3


def test_memory_tokens_stand_directly_behind_each_text(tiny_lm: TinyLm) -> None:
    lm = tiny_lm("llama")
    compressor = make_compressor(lm, TOKENS, trained=True, theta=TokenCompressor)
    assert isinstance(compressor, TokenCompressor)
    encoding = encode(compressor, lm, TEXTS)
    assert encoding.vectors.shape == (3, 3, 32)
    assert encoding.vector_mask.all()
    for row, text in enumerate(TEXTS):
        ids = lm.tokenize(text)
        embeds = torch.cat([lm.embed(torch.tensor([lm.bos, *ids])), compressor.memory_tokens])[None]
        with torch.no_grad():
            states = (
                compressor.encoder(inputs_embeds=embeds).last_hidden_state - compressor.shift
            ) * compressor.scale
        torch.testing.assert_close(encoding.vectors[row], states[0, -3:], rtol=1e-4, atol=1e-5)
        assert encoding.mask[row].sum() == len(ids)
        assert encoding.mask[row, : len(ids)].all()
