"""The cost of a system: time, memory, storage, and the tokens that the LM reads."""

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from cmt.lm import decoding
from cmt.lm.model import FrozenLM
from cmt.lm.prompt import Prompt

_PROC = Path("/proc/self")


@dataclass(frozen=True)
class Cost:
    """The cost of one system."""

    adapt_seconds: float | None
    """Wall-clock seconds to process all documents, from the rounds or a fine-tuning; None if unknown."""
    seconds_per_question: float
    """Wall-clock seconds of answering in batches of `answering.batch_size`, divided by the number of questions."""
    peak_bytes: int | None
    """Peak resident memory of the process during the run, with libraries, LM and bank; None except on Linux."""
    peak_device_bytes: int | None
    """Peak memory that torch allocated on the accelerator during the run; None without one."""
    stored_bytes: int
    """Bytes stored for the system beside the frozen LM, without search indexes."""
    tokens_per_question: float
    """Positions that the LM reads before its answer: examples, texts, soft tokens and prefix."""

    def to_json(self) -> dict[str, Any]:
        """Seconds with four decimals, tokens with one; None is null."""
        digits = {"adapt_seconds": 4, "seconds_per_question": 4, "tokens_per_question": 1}
        return {
            name: round(value, digits[name]) if name in digits and value is not None else value
            for name, value in asdict(self).items()
        }


class TokenMeter:
    """Versions of `generate` and `complete` that count the prompt positions that the LM reads in `tokens_read`."""

    def __init__(self) -> None:
        self.tokens_read = 0

    def generate(self, lm: FrozenLM, prompt: Prompt, **options: Any) -> decoding.Generation:
        """`decoding.generate`, metered; a shared head counts for every question."""
        self.tokens_read += int(prompt.whole_mask.sum())
        return decoding.generate(lm, prompt, **options)

    def complete(self, lm: FrozenLM) -> decoding.Complete:
        """`decoding.complete` of `lm`, metered."""
        return partial(decoding.complete, lm, generate=self.generate)


@dataclass
class Peak:
    """Peak memory in bytes; set when `peak_memory` exits."""

    resident: int | None = None
    """The process; None except on Linux."""
    device: int | None = None
    """The accelerator; None without one."""


@contextmanager
def peak_memory() -> Iterator[Peak]:
    """Measure the peak memory of a block of code.

    The kernel's high-water mark (VmHWM) is reset at the start. getrusage's mark cannot be reset, so a system would
    show the peak of an earlier system.
    """
    # 1. return freed memory to the kernel, which malloc otherwise keeps: gigabytes after a fine-tuning
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
    peak.resident = next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), None)
    peak.device = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
