"""Quantized vectors: rounding error, size, and damaged or unsupported input."""

import numpy as np
import pytest

from cmt.bank import quantization
from cmt.errors import BankError, ConfigError

FORMATS = ["fp16", "int8", "int4"]


def vectors(count: int, dim: int) -> quantization.Vectors:
    drawn = np.random.default_rng(7).normal(size=(count, dim))
    return drawn.astype(np.float32)


def round_trip(values: quantization.Vectors, number_format: str) -> quantization.Vectors:
    return quantization.dequantize(
        quantization.quantize(values, number_format), number_format, values.shape[1]
    )


@pytest.mark.parametrize("number_format", ["int8", "int4"])
def test_the_rounding_error_is_at_most_half_a_step(number_format: str) -> None:
    # each has a scale of its own
    values = vectors(20, 64) * np.geomspace(0.01, 100, 20, dtype=np.float32)[:, None]
    step = np.abs(values).max(1, keepdims=True) / quantization.LEVELS[number_format]
    error = np.abs(round_trip(values, number_format) - values) / step
    assert (error.max(1) < 0.5 + 0.08).all()  # the step itself is rounded to fp16
    assert error.max() > 0.4


@pytest.mark.parametrize("number_format", FORMATS)
def test_integers_of_either_sign_are_stored_exactly(number_format: str) -> None:
    top = quantization.LEVELS.get(number_format, 100)
    values = np.arange(-top, top + 2, dtype=np.float32).clip(max=top)[None]
    np.testing.assert_array_equal(round_trip(values, number_format), values)
    np.testing.assert_array_equal(round_trip(values[:, ::-1], number_format), values[:, ::-1])
    zeros = np.stack([values[0], np.zeros_like(values[0])])
    np.testing.assert_array_equal(round_trip(zeros, number_format), zeros)


def test_unknown_codes_are_refused() -> None:
    for use in (
        quantization.vector_bytes,
        lambda codes, dim: quantization.dequantize(b"", codes, dim),
    ):
        with pytest.raises(
            ConfigError, match="codes 'int3' are unknown: choose one of fp16, int8, int4"
        ):
            use("int3", 8)


def test_int4_refuses_vectors_of_odd_length() -> None:
    with pytest.raises(BankError, match="vectors of 9: use codes int8"):
        quantization.quantize(vectors(2, 9), "int4")
    np.testing.assert_allclose(round_trip(vectors(2, 9), "int8"), vectors(2, 9), atol=0.02)


@pytest.mark.parametrize("number_format", FORMATS)
def test_a_truncated_memory_is_refused(number_format: str) -> None:
    blob = quantization.quantize(vectors(3, 8), number_format)
    with pytest.raises(BankError, match=rf"of {len(blob) - 1} bytes .* run `cmt verify`"):
        quantization.dequantize(blob[:-1], number_format, 8)
