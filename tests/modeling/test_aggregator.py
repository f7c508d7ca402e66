"""ψ: scores and aggregates do not depend on the order and padding of memories."""

import pytest
import torch
from torch import Tensor

from cmt.config import AggregatorParams
from cmt.modeling.aggregator import POSITION_GAP, CrossAttention, SpanReader
from cmt.modeling.compressor import Encoding
from tests.helpers.lms import KINDS, build

WIDTH, WINDOW = 32, 4
READER = AggregatorParams(kind="windows", blocks=2, lora_rank=2)
PUBLISHED = AggregatorParams(kind="attention", blocks=2, heads=2)
ORDER = [2, 0, 1]
HEADS = "out", "place", "pointer", "word"


def question(rows: int = 2, length: int = 5, *, padded: int = 0) -> Encoding:
    torch.manual_seed(1)
    states = torch.randn(rows, length, WIDTH)
    mask = torch.ones(rows, length, dtype=torch.long)
    padding = torch.full((rows, padded, WIDTH), 9.0)
    states, mask = torch.cat([states, padding], 1), torch.cat([mask, mask.new_zeros(rows, padded)], 1)
    pooled = states[:, :length].mean(1)
    return Encoding(states, mask, states, mask, pooled, pooled)


Memories = tuple[Tensor, Tensor, Tensor]


def memories(*, padded: int = 0) -> Memories:
    """Three memories of 6, 4 and 1 windows for two questions; the last window lacks a token."""
    torch.manual_seed(2)
    vectors, mask = torch.randn(2, 3, 6, WIDTH), torch.ones(2, 3, 6, dtype=torch.long)
    mask[:, 1, 4:] = 0
    mask[:, 2, 1:] = 0
    ids = torch.randint(5, 60, (2, 3, 6 * WINDOW)).masked_fill(mask.repeat_interleave(WINDOW, 2) == 0, -1)
    ids[:, 2, WINDOW - 1] = -1
    if padded:
        vectors = torch.cat([vectors, torch.full((2, 3, padded, WIDTH), 9.0)], 2)
        mask = torch.cat([mask, mask.new_zeros(2, 3, padded)], 2)
        ids = torch.cat([ids, ids.new_full((2, 3, padded * WINDOW), -1)], 2)
    return vectors, mask, ids


def reordered(memories: Memories, order: list[int]) -> Memories:
    vectors, mask, ids = (part[:, order] for part in memories)
    return vectors, mask, ids


def make_reader(kind: str, *, trained: bool = True) -> SpanReader:
    """A reader over the upper two of three layers; with `trained`, its scores are not zero."""
    torch.manual_seed(0)
    reader = SpanReader(build(kind), READER, first=1, window=WINDOW).eval()
    if trained:
        for part in (reader.out, reader.place, reader.pointer):
            torch.nn.init.normal_(part.weight)
    return reader.requires_grad_(False)


@pytest.fixture(params=KINDS)
def reader(request: pytest.FixtureRequest) -> SpanReader:
    return make_reader(request.param)


@pytest.fixture
def published() -> CrossAttention:
    torch.manual_seed(0)
    return CrossAttention(WIDTH, PUBLISHED).eval()


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


def test_scores_follow_the_order_of_memories(reader: SpanReader) -> None:
    scores = reader(question(), *memories())
    torch.testing.assert_close(reader(question(), *reordered(memories(), ORDER)), scores[:, ORDER])


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
    assert not torch.allclose(reversed_.unflatten(1, (-1, WINDOW)).flip(1).flatten(1, 2), scores[:, 0])


def test_a_token_is_scored_by_its_position_its_embedding_and_its_neighbours(reader: SpanReader) -> None:
    vectors, mask, ids = memories()
    scores = reader(question(), vectors, mask, ids)
    assert len(scores[0, 0, :WINDOW, 0].unique()) == WINDOW
    changed = ids.clone()
    changed[0, 0, 6] = 61
    moved = (reader(question(), vectors, mask, changed) != scores).any(-1)
    assert moved.nonzero().tolist() == [[0, 0, 5], [0, 0, 6], [0, 0, 7]]


def test_padding_changes_no_score_and_has_none(reader: SpanReader) -> None:
    vectors, mask, ids = memories()
    scores = reader(question(), vectors, mask, ids)
    padded = reader(question(padded=3), *memories(padded=2))
    torch.testing.assert_close(padded[:, :, : 6 * WINDOW], scores)
    assert padded.isfinite().all(-1)[0].sum(1).tolist() == [6 * WINDOW, 4 * WINDOW, WINDOW - 1]
    # a memory of padding alone
    mask[:, 2], ids[:, 2] = 0, -1
    without = reader(question(), vectors, mask, ids)
    assert torch.isneginf(without[:, 2]).all()
    torch.testing.assert_close(without[:, :2], scores[:, :2])


def test_a_new_reader_scores_zero() -> None:
    scores = make_reader("llama", trained=False)(question(), *memories())
    assert not scores[torch.isfinite(scores)].any()


def test_the_layers_continue_where_the_compressor_stopped() -> None:
    """With windows of one token, the blocks read the LM's states, at positions behind the question and the gap."""
    lm, tokens = build("llama"), [5, 6, 7, 8, 9]
    reader = SpanReader(lm, READER, first=1, window=1).requires_grad_(False)
    ids = torch.tensor([[lm.bos, *tokens]])
    with torch.no_grad():
        below = lm.model(ids, output_hidden_states=True).hidden_states[1][0, 1:]
    states = (below - reader.shift) / reader.scale
    mask = torch.ones(1, len(tokens), dtype=torch.long)
    asked = Encoding(states[None], mask, states[None], mask, states[None].mean(1), states[None].mean(1))
    inputs: dict[str, Tensor] = {}
    reader.blocks.register_forward_hook(lambda _, args, kwargs, out: inputs.update(kwargs), with_kwargs=True)
    reader(asked, states[None, None], mask[None], torch.tensor(tokens)[None, None])
    torch.testing.assert_close(inputs["inputs_embeds"][0, 1 : 1 + len(tokens)], below)
    positions = [*range(1 + len(tokens)), *(1 + len(tokens) + POSITION_GAP + window for window in range(len(tokens)))]
    assert inputs["position_ids"][0, : len(positions)].tolist() == positions


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_every_trained_parameter_of_the_reader(kind: str) -> None:
    reader = make_reader(kind)
    lora = [p for name, p in reader.named_parameters() if "lora_" in name]
    heads = [p for name, p in reader.named_parameters() if name.partition(".")[0] in HEADS]
    for parameter in [*lora, *heads, reader.sink, reader.shift, reader.scale]:
        parameter.requires_grad_(True)
    with torch.no_grad():
        for parameter in lora:
            parameter.add_(0.1)
    scores = reader(question(), *memories())
    scores[torch.isfinite(scores)].square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in reader.parameters() if p.requires_grad)


def test_the_published_aggregate_does_not_depend_on_the_order_of_memories(published: CrossAttention) -> None:
    vectors, mask, _ = memories()
    aggregated = published(question(), vectors, mask)
    assert aggregated.shape == (2, 5, WIDTH)
    torch.testing.assert_close(published(question(), vectors[:, ORDER], mask[:, ORDER]), aggregated)
    assert not torch.allclose(published(question(), vectors.flip(0), mask), aggregated)


def test_padding_does_not_change_the_published_aggregate(published: CrossAttention) -> None:
    aggregated = published(question(), *memories()[:2])
    padded = published(question(padded=3), *memories(padded=2)[:2])
    torch.testing.assert_close(padded[:, :5], aggregated)
    vectors, mask, _ = memories()
    assert torch.isfinite(published(question(), vectors, torch.zeros_like(mask))).all()  # no memory
