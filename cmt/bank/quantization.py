"""Memory vectors as the bytes of a bank row: `fp16`, or `int8` and `int4` with one fp16 scale per
vector.

The format of a compressor's codebook, `pq<bytes>-<digest>`, has the given bytes a vector;
`cmt.modeling.codebook` encodes and decodes it.
"""

import re

import numpy as np
from numpy.typing import NDArray

from cmt.errors import BankError, ConfigError

LEVELS = {"int8": 127, "int4": 7}  # largest integer of each format
SMALLEST_SCALE = 2.0**-24  # smallest positive fp16 number; keeps the scale of a zero vector above 0

_CODEBOOK = re.compile(r"pq(?P<bytes>[1-9]\d*)-[0-9a-f]{12}")

Vectors = NDArray[np.float32]  # (k, D)


def vector_bytes(codes: str, dim: int) -> int:
    """Size in bytes of one stored vector of `dim` numbers, including the fp16 scale of the integer
    formats.

    Raises ConfigError if `codes` is unknown.
    """
    if codebook := _CODEBOOK.fullmatch(codes):
        return int(codebook["bytes"])
    sizes = {"fp16": 2 * dim, "int8": 2 + dim, "int4": 2 + (dim + 1) // 2}
    if codes not in sizes:
        raise ConfigError(f"codes {codes!r} are unknown: choose one of {', '.join(sizes)}")
    return sizes[codes]


def quantize(vectors: Vectors, codes: str) -> bytes:
    """Encode `vectors` (k, D) as k · `vector_bytes(codes, D)` bytes: all scales first, then all
    numbers.

    Raises BankError if `codes` is int4 and D is odd.
    """
    if codes == "fp16":
        return bytes(vectors.astype("<f2").tobytes())
    if codes == "int4" and vectors.shape[1] % 2:
        raise BankError(
            f"int4 packs two numbers a byte and cannot hold vectors of {vectors.shape[1]}: use "
            "codes int8"
        )
    top = LEVELS[codes]
    largest = np.abs(vectors).max(1, keepdims=True)  # (k, 1)
    scales = np.maximum(largest / top, SMALLEST_SCALE).astype("<f2")  # (k, 1)
    scaled = vectors / scales.astype(np.float32)  # (k, D)
    integers = np.clip(np.rint(scaled), -top, top).astype(np.int8)  # (k, D)
    if codes == "int4":  # two numbers a byte
        low, high = integers[:, 0::2] & 15, integers[:, 1::2] & 15  # (k, D/2)
        integers = (low | high << 4).astype(np.int8)
    return bytes(scales.tobytes() + integers.tobytes())


def dequantize(blob: bytes, codes: str, dim: int) -> Vectors:
    """Decode the vectors (k, `dim`) that `quantize` encoded, up to rounding.

    Raises BankError if the length of `blob` is not a multiple of `vector_bytes(codes, dim)`.
    """
    count, rest = divmod(len(blob), vector_bytes(codes, dim))
    if rest:
        raise BankError(
            f"a memory of {len(blob)} bytes holds no whole number of {codes} vectors of {dim}: run "
            "`cmt verify`"
        )
    if codes == "fp16":
        return np.frombuffer(blob, "<f2").reshape(count, dim).astype(np.float32)
    scales = np.frombuffer(blob, "<f2", count).reshape(count, 1).astype(np.float32)
    integers = np.frombuffer(blob, np.int8, offset=2 * count)
    if codes == "int4":
        # the left shift comes first so that the right shift extends the sign of the low half
        integers = np.stack([(integers << 4) >> 4, integers >> 4], -1).astype(np.int8)
    return integers.reshape(count, dim).astype(np.float32) * scales
