"""The peak memory of a block of code, in the process and on the accelerator."""

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

_PROC = Path("/proc/self")


@dataclass
class Peak:
    """Peak memory in bytes; set when `peak_memory` exits."""

    resident: int | None = None  # the process; None except on Linux
    device: int | None = None  # the accelerator; None without one


@contextmanager
def peak_memory() -> Iterator[Peak]:
    """Measure the peak memory of a block by the kernel's mark VmHWM, which can be reset, unlike
    that of getrusage.
    """
    # 1. return freed memory to the kernel, which malloc otherwise keeps
    gc.collect()
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):  # glibc only
        trim(0)
    # 2. reset the high-water marks
    peak, is_reset = Peak(), True
    try:
        (_PROC / "clear_refs").write_text("5")
    except OSError:  # not Linux, or not allowed
        is_reset = False
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    yield peak
    # 3. read them
    lines = (_PROC / "status").read_text().splitlines() if is_reset else []
    peak.resident = next(
        (1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), None
    )
    peak.device = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
