"""Prompts: padding, masks and the rows of a batch."""

import torch

from cmt.lm.prompt import PROMPT_WIDTH_STEP, Prompt, pad

STEP = PROMPT_WIDTH_STEP


def test_padding_is_masked_and_lengths_are_few() -> None:
    ids, mask = pad([[5, 6, 7], [8] * 9], left=False, device="cpu")
    assert ids.shape == (2, 16)
    assert ids[0].tolist() == [5, 6, 7] + [0] * 13
    assert mask[0].tolist() == [1] * 3 + [0] * 13
    ids, mask = pad([[5, 6, 7]], left=True, device="cpu")
    assert ids.tolist() == [[0] * 5 + [5, 6, 7]]
    assert mask.tolist() == [[0] * 5 + [1] * 3]


def test_the_whole_mask_covers_prefix_and_tokens() -> None:
    embeds, mask = torch.zeros(2, 3, 4), torch.tensor([[0, 1, 1], [1, 1, 1]])
    prefix = torch.zeros(1, 2, 1, 2, 4), torch.zeros(1, 2, 1, 2, 4)
    assert Prompt(embeds, mask).whole_mask.tolist() == mask.tolist()
    assert Prompt(embeds, mask, prefix).whole_mask.tolist() == [[1, 1, 0, 1, 1], [1, 1, 1, 1, 1]]
    with_mask = Prompt(embeds, mask, prefix, torch.tensor([[True, False], [True, True]]))
    assert with_mask.whole_mask.tolist() == [[1, 0, 0, 1, 1], [1, 1, 1, 1, 1]]


def test_the_width_of_a_row_depends_on_its_own_length_only() -> None:
    lengths = [1, STEP - 1, STEP, STEP + 1]
    _, mask = pad([[5] * length for length in lengths], left=True, device="cpu")
    assert Prompt(torch.zeros(*mask.shape, 4), mask).row_widths() == [STEP, STEP, 2 * STEP, 2 * STEP]


def test_rows_are_taken_with_their_prefix_and_padded_on_the_left() -> None:
    ids, mask = pad([[5], [6, 7], [8] * 9], left=True, device="cpu")
    embeds = ids[..., None].float()
    keys, values = torch.arange(3.0).view(1, 3, 1, 1, 1), -torch.arange(3.0).view(1, 3, 1, 1, 1)
    prompt = Prompt(embeds, mask, (keys, values), torch.tensor([[1], [0], [1]]))
    wider = prompt.take_rows([2, 0], 20)
    assert wider.embeds.shape == (2, 20, 1)
    assert wider.mask.sum(1).tolist() == [9, 1]
    assert wider.embeds[0, -9:, 0].tolist() == [8.0] * 9
    assert wider.prefix is not None and wider.prefix_mask is not None
    assert wider.prefix[0].flatten().tolist() == [2.0, 0.0]
    assert wider.prefix_mask.tolist() == [[1], [1]]
    narrower = prompt.take_rows([1], 4)
    assert narrower.embeds[0, :, 0].tolist() == [0.0, 0.0, 6.0, 7.0]
    assert narrower.mask.tolist() == [[0, 0, 1, 1]]
