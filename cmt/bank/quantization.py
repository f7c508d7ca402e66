"""Memory vectors ⇄ bytes of a bank row: `fp16`, or `int8` / `int4` with one fp16 scale a vector."""

import numpy as np
from numpy.typing import NDArray

from cmt.errors import BankError

LEVELS = {"int8": 127, "int4": 7}
SMALLEST_SCALE = 2.0**-24  # of fp16; anything less would divide a zero vector by zero

Vectors = NDArray[np.float32]  # (k, D)


def quantize(vectors: Vectors, codes: str) -> bytes:
    """`vectors` (k, D) as bytes: k·2·D for fp16, else k·(2 + D) or k·(2 + D/2): all scales, then all codes.

    BankError when int4 is to hold vectors of odd length.
    """
    if codes == "fp16":
        return bytes(vectors.astype("<f2").tobytes())
    if codes == "int4" and vectors.shape[1] % 2:
        raise BankError(f"int4 packs two numbers a byte and cannot hold vectors of {vectors.shape[1]}: use codes int8")
    top = LEVELS[codes]
    scale = np.maximum(np.abs(vectors).max(1, keepdims=True) / top, SMALLEST_SCALE).astype("<f2")
    whole = np.clip(np.rint(vectors / scale.astype(np.float32)), -top, top).astype(np.int8)
    return bytes(scale.tobytes() + (_pack(whole) if codes == "int4" else whole.tobytes()))


def dequantize(blob: bytes, codes: str, dim: int) -> Vectors:
    """The inverse of `encode`, rounding apart. BankError when the length fits no whole number of vectors."""
    size = row_bytes(codes, dim)
    count, rest = divmod(len(blob), size)
    if rest:
        what = f"a memory of {len(blob)} bytes holds no whole number of {codes} vectors of {dim}"
        raise BankError(f"{what}: run `cmt bank verify`")
    if codes == "fp16":
        return np.frombuffer(blob, "<f2").reshape(count, dim).astype(np.float32)
    scale = np.frombuffer(blob, "<f2", count).reshape(count, 1).astype(np.float32)
    body = np.frombuffer(blob, np.int8, offset=2 * count)
    whole = _unpack(body) if codes == "int4" else body
    return whole.reshape(count, dim).astype(np.float32) * scale


def row_bytes(codes: str, dim: int) -> int:
    """Bytes of one vector of `dim` numbers."""
    return {"fp16": 2 * dim, "int8": 2 + dim, "int4": 2 + dim // 2}[codes]


def _pack(whole: NDArray[np.int8]) -> bytes:
    low, high = whole[:, 0::2] & 15, whole[:, 1::2] & 15
    return bytes((low | (high << 4)).astype(np.int8).tobytes())


def _unpack(body: NDArray[np.int8]) -> NDArray[np.int8]:
    # shifting left first keeps the sign of the low half
    low, high = (body << 4) >> 4, body >> 4
    return np.stack([low, high], -1).reshape(-1).astype(np.int8)
