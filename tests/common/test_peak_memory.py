"""Peak memory of a block of code."""

import numpy as np
import pytest

from cmt.common.peak_memory import peak_memory

MB = 2**20


@pytest.mark.parametrize("block", [50_000, 200 * MB])
def test_peak_memory_does_not_include_an_earlier_block(block: int) -> None:
    with peak_memory() as large:
        blocks = [np.ones(block, dtype=np.uint8) for _ in range(200 * MB // block)]
        above = np.ones(
            50_000, dtype=np.uint8
        )  # allocated after them: without trimming, small blocks stay resident
        del blocks
    with peak_memory() as small:
        np.ones(MB, dtype=np.uint8)
    del above
    if large.resident is None or small.resident is None:
        assert large.resident is small.resident is None
    else:
        assert large.resident - small.resident > 150 * MB
