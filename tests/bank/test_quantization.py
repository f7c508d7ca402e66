"""Memory vectors as bytes: within a step of what they were, small, and refused when they do not fit."""

import numpy as np
import pytest

from cmt.bank import quantization
from cmt.bank.schema import vector_bytes
from cmt.errors import BankError

FORMATS = ["fp16", "int8", "int4"]


def vectors(count: int, dim: int) -> quantization.Vectors:
    drawn = np.random.default_rng(7).normal(size=(count, dim))
    return drawn.astype(np.float32)


def back(values: quantization.Vectors, number_format: str) -> quantization.Vectors:
    return quantization.dequantize(quantization.quantize(values, number_format), number_format, values.shape[1])


@pytest.mark.parametrize("number_format", ["int8", "int4"])
def test_a_number_comes_back_within_half_a_step(number_format: str) -> None:
    values = vectors(20, 64)
    step = np.abs(values).max(1, keepdims=True) / quantization.LEVELS[number_format]
    wrong = np.abs(back(values, number_format) - values) / step
    assert wrong.max() < 0.5 + 0.08  # the step itself is rounded to fp16
    assert wrong.max() > 0.4


def test_fp16_keeps_eleven_bits() -> None:
    values = vectors(20, 64)
    np.testing.assert_allclose(back(values, "fp16"), values, rtol=2**-11, atol=2**-24)


@pytest.mark.parametrize("number_format", FORMATS)
def test_whole_numbers_of_either_sign_come_back_exactly(number_format: str) -> None:
    top = quantization.LEVELS.get(number_format, 100)
    values = np.arange(-top, top + 2, dtype=np.float32).clip(max=top)[None]
    np.testing.assert_array_equal(back(values, number_format), values)
    np.testing.assert_array_equal(back(values[:, ::-1], number_format), values[:, ::-1])


@pytest.mark.parametrize("number_format", FORMATS)
def test_a_zero_vector_stays_zero_among_others(number_format: str) -> None:
    values = vectors(3, 8)
    values[1] = 0
    assert not back(values, number_format)[1].any()
    assert back(values, number_format)[[0, 2]].any(1).all()


@pytest.mark.parametrize("number_format", ["int8", "int4"])
def test_every_vector_has_a_scale_of_its_own(number_format: str) -> None:
    values = vectors(2, 64) * np.array([[100.0], [0.001]], dtype=np.float32)
    largest = np.abs(values).max(1)
    assert (np.abs(back(values, number_format) - values).max(1) < largest / 10).all()


@pytest.mark.parametrize("number_format", FORMATS)
def test_a_memory_has_the_length_that_the_bank_expects(number_format: str) -> None:
    blob = quantization.quantize(vectors(5, 64), number_format)
    assert len(blob) == 5 * quantization.vector_bytes(number_format, 64) == 5 * vector_bytes(number_format, 64)


def test_int4_is_about_a_quarter_of_fp16() -> None:
    assert quantization.vector_bytes("int4", 576) == 290
    assert quantization.vector_bytes("fp16", 576) == 1152


def test_int4_refuses_vectors_of_odd_length() -> None:
    with pytest.raises(BankError, match="vectors of 9: use codes int8"):
        quantization.quantize(vectors(2, 9), "int4")
    np.testing.assert_allclose(back(vectors(2, 9), "int8"), vectors(2, 9), atol=0.02)


@pytest.mark.parametrize("number_format", FORMATS)
def test_a_memory_that_was_cut_is_refused(number_format: str) -> None:
    blob = quantization.quantize(vectors(3, 8), number_format)
    with pytest.raises(BankError, match=rf"of {len(blob) - 1} bytes .* run `cmt bank verify`"):
        quantization.dequantize(blob[:-1], number_format, 8)
