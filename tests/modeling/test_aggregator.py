"""ψ: what a question makes of its memories, whatever their order and padding."""

import pytest
import torch
from torch import Tensor

from cmt.config import AggregatorParams
from cmt.modeling.aggregator import POSITION_GAP, CrossAttention, SpanReader
from cmt.modeling.compressor import Encoding
from cmt.modeling.span_decoding import TokenSpan, choose_windows, token_log_probabilities
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
    nothing = torch.full((rows, padded, WIDTH), 9.0)
    states, mask = torch.cat([states, nothing], 1), torch.cat([mask, mask.new_zeros(rows, padded)], 1)
    pooled = states[:, :length].mean(1)
    return Encoding(states, mask, states, mask, pooled, pooled)


Memories = tuple[Tensor, Tensor, Tensor]


def memories(*, padded: int = 0) -> Memories:
    """Three memories of 6, 4 and 1 windows for two questions, the last of which is short by a token."""
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


def turned(found: Memories, order: list[int]) -> Memories:
    vectors, mask, ids = (part[:, order] for part in found)
    return vectors, mask, ids


def layer_reader(kind: str, *, trained: bool = True) -> SpanReader:
    """Over the upper two of three layers; a `trained` one is past its start, where it says nothing."""
    torch.manual_seed(0)
    made = SpanReader(build(kind), READER, first=1, window=WINDOW).eval()
    if trained:
        for part in (made.out, made.place, made.pointer):
            torch.nn.init.normal_(part.weight)
    return made.requires_grad_(False)


@pytest.fixture(params=KINDS)
def reader(request: pytest.FixtureRequest) -> SpanReader:
    return layer_reader(request.param)


@pytest.fixture
def published() -> CrossAttention:
    torch.manual_seed(0)
    return CrossAttention(WIDTH, PUBLISHED).eval()


def test_the_order_of_memories_moves_their_scores_and_nothing_else(reader: SpanReader) -> None:
    scores = reader(question(), *memories())
    torch.testing.assert_close(reader(question(), *turned(memories(), ORDER)), scores[:, ORDER])


def test_the_order_of_memories_does_not_change_what_is_chosen(reader: SpanReader) -> None:
    first, second = (
        token_log_probabilities(reader(question(), *turned(memories(), order)))[0] for order in ([0, 1, 2], ORDER)
    )
    chosen = choose_windows(first, WINDOW, 3, 1)
    again = choose_windows(second, WINDOW, 3, 1)
    assert [TokenSpan(ORDER[run.memory], run.first, run.last) for run in again] == chosen


def test_tokens_of_one_document_do_not_see_another(reader: SpanReader) -> None:
    vectors, mask, ids = memories()
    scores = reader(question(), vectors, mask, ids)
    changed = vectors.clone()
    changed[:, 1] += 1.0
    again = reader(question(), changed, mask, ids)
    torch.testing.assert_close(again[:, [0, 2]], scores[:, [0, 2]])
    assert not torch.allclose(again[:, 1, : 4 * WINDOW], scores[:, 1, : 4 * WINDOW])


def test_windows_of_one_document_see_each_other_and_where_they_stand(reader: SpanReader) -> None:
    vectors, mask, ids = memories()
    ids = ids.clamp(max=7).masked_fill(ids >= 0, 7)  # one word all over: what differs is the windows' doing
    scores = reader(question(), vectors, mask, ids)
    changed = vectors.clone()
    changed[:, 0, 5] += 1.0
    assert not torch.allclose(reader(question(), changed, mask, ids)[:, 0, 0], scores[:, 0, 0])
    back = reader(question(), vectors.flip(2), mask, ids)[:, 0]
    assert not torch.allclose(back.unflatten(1, (-1, WINDOW)).flip(1).flatten(1, 2), scores[:, 0])


def test_a_token_is_scored_by_its_place_itself_and_its_neighbours(reader: SpanReader) -> None:
    vectors, mask, ids = memories()
    scores = reader(question(), vectors, mask, ids)
    assert len(scores[0, 0, :WINDOW, 0].unique()) == WINDOW
    changed = ids.clone()
    changed[0, 0, 6] = 61
    moved = (reader(question(), vectors, mask, changed) != scores).any(-1)
    assert moved.nonzero().tolist() == [[0, 0, 5], [0, 0, 6], [0, 0, 7]]


def test_padding_changes_no_score(reader: SpanReader) -> None:
    scores = reader(question(), *memories())
    padded = reader(question(padded=3), *memories(padded=2))
    torch.testing.assert_close(padded[:, :, : 6 * WINDOW], scores)


def test_padding_is_never_chosen(reader: SpanReader) -> None:
    believed = token_log_probabilities(reader(question(), *memories(padded=2)))[0]
    assert torch.isfinite(believed).all(-1).sum(1).tolist() == [6 * WINDOW, 4 * WINDOW, WINDOW - 1]
    for neighbours in (0, 7):
        runs = choose_windows(believed, WINDOW, 50, neighbours)
        assert {(run.memory, run.first, run.last) for run in runs} == {
            (0, 0, 6 * WINDOW - 1),
            (1, 0, 4 * WINDOW - 1),
            (2, 0, WINDOW - 2),
        }


def test_a_memory_that_is_all_padding_scores_nothing_and_harms_nobody(reader: SpanReader) -> None:
    vectors, mask, ids = memories()
    mask[:, 2], ids[:, 2] = 0, -1
    scores = reader(question(), vectors, mask, ids)
    assert torch.isneginf(scores[:, 2]).all()
    assert torch.isfinite(scores[:, 0]).all()


def test_the_reader_starts_silent() -> None:
    scores = layer_reader("llama", trained=False)(question(), *memories())
    assert not scores[torch.isfinite(scores)].any()


def test_the_layers_go_on_where_theta_stopped() -> None:
    """A window of one token, at its own place behind the question: the LM's own states, but for what the gap moves."""
    lm, tokens = build("llama"), [5, 6, 7, 8, 9]
    made = SpanReader(lm, READER, first=1, window=1).requires_grad_(False)
    ids = torch.tensor([[lm.bos, *tokens]])
    with torch.no_grad():
        below = lm.model(ids, output_hidden_states=True).hidden_states[1][0, 1:]
    code = (below - made.shift) / made.scale
    mask = torch.ones(1, len(tokens), dtype=torch.long)
    asked = Encoding(code[None], mask, code[None], mask, code[None].mean(1), code[None].mean(1))
    seen: dict[str, Tensor] = {}
    made.blocks.register_forward_hook(lambda _, args, kwargs, out: seen.update(kwargs), with_kwargs=True)
    made(asked, code[None, None], mask[None], torch.tensor(tokens)[None, None])
    torch.testing.assert_close(seen["inputs_embeds"][0, 1 : 1 + len(tokens)], below)
    places = [*range(1 + len(tokens)), *(1 + len(tokens) + POSITION_GAP + window for window in range(len(tokens)))]
    assert seen["position_ids"][0, : len(places)].tolist() == places


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_all_that_is_trained_in_the_reader(kind: str) -> None:
    made = layer_reader(kind)
    lora = [p for name, p in made.named_parameters() if "lora_" in name]
    heads = [p for name, p in made.named_parameters() if name.partition(".")[0] in HEADS]
    for parameter in [*lora, *heads, made.sink, made.shift, made.scale]:
        parameter.requires_grad_(True)
    with torch.no_grad():
        for parameter in lora:
            parameter.add_(0.1)
    scores = made(question(), *memories())
    scores[torch.isfinite(scores)].square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in made.parameters() if p.requires_grad)


def test_the_published_aggregate_does_not_depend_on_the_order_of_memories(published: CrossAttention) -> None:
    vectors, mask, _ = memories()
    aggregated = published(question(), vectors, mask)
    assert aggregated.shape == (2, 5, WIDTH)
    torch.testing.assert_close(published(question(), vectors[:, ORDER], mask[:, ORDER]), aggregated)
    assert not torch.allclose(published(question(), vectors.flip(0), mask), aggregated)


def test_the_published_aggregate_does_not_see_padding(published: CrossAttention) -> None:
    aggregated = published(question(), *memories()[:2])
    padded = published(question(padded=3), *memories(padded=2)[:2])
    torch.testing.assert_close(padded[:, :5], aggregated)


def test_the_published_aggregate_of_no_memory_is_finite(published: CrossAttention) -> None:
    vectors, mask, _ = memories()
    assert torch.isfinite(published(question(), vectors, torch.zeros_like(mask))).all()
