"""ψ: what a score depends on."""

import pytest
import torch
from torch import Tensor

from cmt.config import AggregatorParams
from cmt.modeling.aggregator import POSITION_GAP, SpanReader
from cmt.modeling.compressor import Encoding
from tests.helpers.lms import KINDS, build

WIDTH, WINDOW = 32, 4
READER = AggregatorParams(kind="windows", blocks=2, lora_rank=2)


def question() -> Encoding:
    torch.manual_seed(1)
    states, mask = torch.randn(2, 5, WIDTH), torch.ones(2, 5, dtype=torch.long)
    return Encoding(states, mask, states, mask, states.mean(1), states.mean(1))


def memories() -> tuple[Tensor, Tensor, Tensor]:
    """Three memories of 6, 4 and 1 windows for two questions; the last window lacks a token."""
    torch.manual_seed(2)
    vectors, mask = torch.randn(2, 3, 6, WIDTH), torch.ones(2, 3, 6, dtype=torch.long)
    mask[:, 1, 4:] = 0
    mask[:, 2, 1:] = 0
    ids = torch.randint(5, 60, (2, 3, 6 * WINDOW)).masked_fill(
        mask.repeat_interleave(WINDOW, 2) == 0, -1
    )
    ids[:, 2, WINDOW - 1] = -1
    return vectors, mask, ids


@pytest.fixture(params=KINDS)
def reader(request: pytest.FixtureRequest) -> SpanReader:
    """A reader over the upper two of three layers, whose scores are not zero."""
    torch.manual_seed(0)
    reader = SpanReader(build(request.param), READER, first=1, window=WINDOW).eval()
    for part in (reader.out, reader.place, reader.pointer):
        torch.nn.init.normal_(part.weight)
    return reader.requires_grad_(False)


def test_activations_that_are_computed_twice_give_the_same_gradients(
    reader: SpanReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    gradients = []
    for name, parameter in reader.named_parameters():
        parameter.requires_grad_("lora_" in name or "place" in name)
    for limit in (96, 0):
        monkeypatch.setattr("cmt.modeling.aggregator.RECOMPUTED_FROM", limit)
        reader.zero_grad()
        scores = reader(question(), *memories())
        scores[scores.isfinite()].square().sum().backward()
        gradients.append([p.grad.clone() for p in reader.parameters() if p.grad is not None])
    assert gradients[0]
    for kept, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(recomputed, kept)


def test_memories_do_not_attend_to_each_other(reader: SpanReader) -> None:
    vectors, mask, ids = memories()
    scores = reader(question(), vectors, mask, ids)
    changed = vectors.clone()
    changed[:, 1] += 1.0
    again = reader(question(), changed, mask, ids)
    torch.testing.assert_close(again[:, [0, 2]], scores[:, [0, 2]])
    assert not torch.allclose(again[:, 1, : 4 * WINDOW], scores[:, 1, : 4 * WINDOW])


def test_windows_of_a_memory_attend_to_each_other_and_have_positions(reader: SpanReader) -> None:
    vectors, mask, ids = memories()
    ids = ids.clamp(max=7).masked_fill(ids >= 0, 7)  # equal tokens: only the windows differ
    scores = reader(question(), vectors, mask, ids)
    changed = vectors.clone()
    changed[:, 0, 5] += 1.0
    assert not torch.allclose(reader(question(), changed, mask, ids)[:, 0, 0], scores[:, 0, 0])
    reversed_ = reader(question(), vectors.flip(2), mask, ids)[:, 0]
    assert not torch.allclose(
        reversed_.unflatten(1, (-1, WINDOW)).flip(1).flatten(1, 2), scores[:, 0]
    )


def test_a_token_is_scored_by_its_position_its_embedding_and_its_neighbours(
    reader: SpanReader,
) -> None:
    vectors, mask, ids = memories()
    scores = reader(question(), vectors, mask, ids)
    assert len(scores[0, 0, :WINDOW, 0].unique()) == WINDOW
    changed = ids.clone()
    changed[0, 0, 6] = 61
    moved = (reader(question(), vectors, mask, changed) != scores).any(-1)
    assert moved.nonzero().tolist() == [[0, 0, 5], [0, 0, 6], [0, 0, 7]]


def test_the_layers_continue_where_the_compressor_stopped() -> None:
    """With windows of one token, the blocks read the LM's states, at positions behind the question
    and the gap.
    """
    lm, tokens = build("llama"), [5, 6, 7, 8, 9]
    reader = SpanReader(lm, READER, first=1, window=1).requires_grad_(False)
    ids = torch.tensor([[lm.bos, *tokens]])
    with torch.no_grad():
        below = lm.model(ids, output_hidden_states=True).hidden_states[1][0, 1:]
    states = (below - reader.shift) / reader.scale
    mask = torch.ones(1, len(tokens), dtype=torch.long)
    asked = Encoding(
        states[None], mask, states[None], mask, states[None].mean(1), states[None].mean(1)
    )
    inputs: dict[str, Tensor] = {}
    reader.blocks.register_forward_hook(
        lambda _, args, kwargs, out: inputs.update(kwargs), with_kwargs=True
    )
    reader(asked, states[None, None], mask[None], torch.tensor(tokens)[None, None])
    torch.testing.assert_close(inputs["inputs_embeds"][0, 1 : 1 + len(tokens)], below)
    positions = [
        *range(1 + len(tokens)),
        *(1 + len(tokens) + POSITION_GAP + window for window in range(len(tokens))),
    ]
    assert inputs["position_ids"][0, : len(positions)].tolist() == positions
