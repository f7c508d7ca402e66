"""Content channel: the tokens of a text are decoded from its vectors, without training."""

import numpy as np
import pytest
import torch

from cmt.bank import quantization
from cmt.lm.model import FrozenLM
from cmt.modeling._token_codec import TokenCodec
from tests.helpers.facts import FACTS


@pytest.fixture(scope="module")
def ids(real_lm: FrozenLM) -> list[int]:
    return real_lm.tokenize("\n".join(fact["text"] for fact in FACTS[:8]))


# the nearest embeddings alone give 96 % at 8 tokens a vector, and 93 % after rounding
# (docs/method.md#content-channel)
@pytest.mark.parametrize(
    ("window", "number_format", "accuracy"),
    [(4, "int4", 1.0), (8, "int8", 0.999), (8, "int4", 0.999)],
)
def test_the_tokens_of_real_text_are_decoded(
    real_lm: FrozenLM, ids: list[int], window: int, number_format: str, accuracy: float
) -> None:
    codec = TokenCodec(real_lm, window)
    blob = quantization.quantize(codec.write(ids).numpy(), number_format)
    stored = torch.from_numpy(quantization.dequantize(blob, number_format, real_lm.hidden_size))
    decoded = codec.read(stored, len(ids))
    assert np.mean(np.array(decoded) == np.array(ids)) >= accuracy


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_a_short_last_window_is_decoded_exactly(
    real_lm: FrozenLM, ids: list[int], count: int
) -> None:
    codec = TokenCodec(real_lm, 4)
    written = codec.write(ids[:count])
    assert written.shape == (-(-count // 4), real_lm.hidden_size)
    assert codec.read(written, count) == ids[:count]


def test_the_length_of_a_vector_does_not_matter(real_lm: FrozenLM, ids: list[int]) -> None:
    codec = TokenCodec(real_lm, 4)
    assert codec.read(37.0 * codec.write(ids[:40]), 40) == ids[:40]


def test_the_rotations_do_not_depend_on_the_global_seed(real_lm: FrozenLM, ids: list[int]) -> None:
    written = TokenCodec(real_lm, 4).write(ids[:40])
    torch.manual_seed(1)
    assert TokenCodec(real_lm, 4).read(written, 40) == ids[:40]
    assert TokenCodec(real_lm, 4).read(written.flip(1), 40) != ids[:40]
