"""ψ: what a question makes of its memories, whatever their order and padding."""

import pytest
import torch
from torch import Tensor

from cmt.config import AggregatorParams
from cmt.memory.aggregator import SCORE_SCALE, SCORE_WIDTH, CrossAttention, WindowReader
from cmt.memory.compressor import Code
from cmt.memory.model import choose_windows

WIDTH = 16
READER = AggregatorParams(kind="windows", blocks=2, heads=2, width=8)
PUBLISHED = AggregatorParams(kind="attention", blocks=2, heads=2)
ORDER = [2, 0, 1]


def question(rows: int = 2, length: int = 5, *, padded: int = 0) -> Code:
    torch.manual_seed(1)
    states = torch.randn(rows, length, WIDTH)
    mask = torch.ones(rows, length, dtype=torch.long)
    nothing = torch.full((rows, padded, WIDTH), 9.0)
    states, mask = torch.cat([states, nothing], 1), torch.cat([mask, mask.new_zeros(rows, padded)], 1)
    pooled = states[:, :length].mean(1)
    return Code(states, mask, states, mask, pooled, pooled)


def memories(*, padded: int = 0) -> tuple[Tensor, Tensor]:
    """Three memories of 6, 4 and 1 windows for two questions."""
    torch.manual_seed(2)
    vectors, mask = torch.randn(2, 3, 6, WIDTH), torch.ones(2, 3, 6, dtype=torch.long)
    mask[:, 1, 4:] = 0
    mask[:, 2, 1:] = 0
    if padded:
        vectors = torch.cat([vectors, torch.full((2, 3, padded, WIDTH), 9.0)], 2)
        mask = torch.cat([mask, mask.new_zeros(2, 3, padded)], 2)
    return vectors, mask


@pytest.fixture
def reader() -> WindowReader:
    """A reader that is past its start, where it says nothing."""
    torch.manual_seed(0)
    made = WindowReader(WIDTH, READER)
    torch.nn.init.normal_(made.out.weight)
    return made.eval()


@pytest.fixture
def published() -> CrossAttention:
    torch.manual_seed(0)
    return CrossAttention(WIDTH, PUBLISHED).eval()


def test_the_order_of_memories_moves_their_scores_and_nothing_else(reader: WindowReader) -> None:
    vectors, mask = memories()
    scores = reader(question(), vectors, mask)
    torch.testing.assert_close(reader(question(), vectors[:, ORDER], mask[:, ORDER]), scores[:, ORDER])


def test_the_order_of_memories_does_not_change_what_is_chosen(reader: WindowReader) -> None:
    vectors, mask = memories()
    scores, turned = (reader(question(), vectors[:, order], mask[:, order])[0] for order in ([0, 1, 2], ORDER))
    chosen = choose_windows(scores, 3, 1)
    assert [(ORDER[memory], first, last) for memory, first, last in choose_windows(turned, 3, 1)] == chosen


def test_windows_of_one_document_do_not_see_another(reader: WindowReader) -> None:
    vectors, mask = memories()
    scores = reader(question(), vectors, mask)
    changed = vectors.clone()
    changed[:, 1] += 1.0
    again = reader(question(), changed, mask)
    torch.testing.assert_close(again[:, [0, 2]], scores[:, [0, 2]])
    assert not torch.allclose(again[:, 1, :4], scores[:, 1, :4])


def test_windows_of_one_document_see_each_other_and_where_they_stand(reader: WindowReader) -> None:
    vectors, mask = memories()
    scores = reader(question(), vectors, mask)
    changed = vectors.clone()
    changed[:, 0, 5] += 1.0
    assert not torch.allclose(reader(question(), changed, mask)[:, 0, 0], scores[:, 0, 0])
    turned = reader(question(), vectors.flip(2), mask)[:, 0].flip(1)
    assert not torch.allclose(turned, scores[:, 0])


def test_padding_changes_no_score(reader: WindowReader) -> None:
    scores = reader(question(), *memories())
    padded = reader(question(padded=3), *memories(padded=2))
    torch.testing.assert_close(padded[:, :, :6], scores)


def test_padding_windows_are_never_chosen(reader: WindowReader) -> None:
    scores = reader(question(), *memories(padded=2))[0]
    assert torch.isneginf(scores).sum() == 3 * 8 - (6 + 4 + 1)
    assert sorted(choose_windows(scores, 50, 0)) == [(0, 0, 5), (1, 0, 3), (2, 0, 0)]
    assert sorted(choose_windows(scores, 50, 7)) == [(0, 0, 5), (1, 0, 3), (2, 0, 0)]


def test_a_memory_that_is_all_padding_scores_nothing_and_harms_nobody(reader: WindowReader) -> None:
    vectors, mask = memories()
    mask[:, 2] = 0
    scores = reader(question(), vectors, mask)
    assert torch.isneginf(scores[:, 2]).all()
    assert torch.isfinite(scores[:, 0]).all()


def test_the_reader_starts_silent(reader: WindowReader) -> None:
    torch.nn.init.zeros_(reader.out.weight)
    vectors, mask = memories()
    asked = reader.question_score(question().pooled)
    dot = torch.stack([reader.window_score(vectors[row]) @ asked[row] for row in range(2)])
    expected = dot * SCORE_SCALE / SCORE_WIDTH**0.5
    torch.testing.assert_close(reader(question(), vectors, mask)[mask.bool()], expected[mask.bool()])


def test_windows_beyond_the_last_position_are_scored(reader: WindowReader) -> None:
    scores = reader(question(1), torch.randn(1, 1, 600, WIDTH), torch.ones(1, 1, 600, dtype=torch.long))
    assert torch.isfinite(scores).all()


def test_the_published_aggregate_does_not_depend_on_the_order_of_memories(published: CrossAttention) -> None:
    vectors, mask = memories()
    aggregated = published(question(), vectors, mask)
    assert aggregated.shape == (2, 5, WIDTH)
    torch.testing.assert_close(published(question(), vectors[:, ORDER], mask[:, ORDER]), aggregated)
    assert not torch.allclose(published(question(), vectors.flip(0), mask), aggregated)


def test_the_published_aggregate_does_not_see_padding(published: CrossAttention) -> None:
    aggregated = published(question(), *memories())
    padded = published(question(padded=3), *memories(padded=2))
    torch.testing.assert_close(padded[:, :5], aggregated)


def test_the_published_aggregate_of_no_memory_is_finite(published: CrossAttention) -> None:
    vectors, mask = memories()
    assert torch.isfinite(published(question(), vectors, torch.zeros_like(mask))).all()
