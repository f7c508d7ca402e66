"""What a way of answering costs: time, memory, storage, and the tokens that the LM reads."""

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
    """The price of one row."""

    adapt_seconds: float | None
    """Wall-clock seconds to take in all documents: by the rounds' own timings, or of fine-tuning; None: not noted."""
    seconds_per_question: float
    """Wall-clock seconds of answering, in batches of `answering.batch_size`, by the number of questions."""
    peak_bytes: int | None
    """Most memory that this process had resident while the row was adapted and asked, libraries, LM and bank included.
    None where the system cannot tell (it takes Linux)."""
    peak_device_bytes: int | None
    """Most memory of the accelerator that torch had allocated meanwhile; None without one."""
    stored_bytes: int
    """Kept for this row beside the frozen LM, without search indexes."""
    tokens_per_question: float
    """Positions that the LM reads before its answer: worked examples, texts, soft tokens and prefix included."""

    def to_json(self) -> dict[str, Any]:
        """Seconds with four decimals, tokens with one."""
        digits = {"adapt_seconds": 4, "seconds_per_question": 4, "tokens_per_question": 1}
        return {k: round(v, digits[k]) if k in digits and v is not None else v for k, v in asdict(self).items()}


class TokenMeter:
    """`generate` and `complete` that count the positions of the prompts that the LM reads."""

    def __init__(self) -> None:
        self.tokens_read = 0

    def generate(
        self, lm: FrozenLM, prompt: Prompt, *, against: Prompt | None = None, **options: Any
    ) -> decoding.Generation:
        """As `decoding.generate`; a shared head counts for every question."""
        for read in filter(None, (prompt, against)):
            self.tokens_read += int(read.whole_mask.sum())
        return decoding.generate(lm, prompt, against=against, **options)

    def complete(self, lm: FrozenLM) -> decoding.Complete:
        """`decoding.complete` of `lm`, counted."""
        return partial(decoding.complete, lm, generate=self.generate)


@dataclass
class Peak:
    """High-water marks, known once `peak_memory` is left."""

    resident: int | None = None
    device: int | None = None


@contextmanager
def peak_memory() -> Iterator[Peak]:
    """Watch memory from here on.

    The kernel's mark (VmHWM) is put back first: that of getrusage never falls, a row would show its forerunner's.
    """
    gc.collect()
    _trim()
    known, peak = _reset(), Peak()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    yield peak
    peak.resident = _high_water() if known else None
    peak.device = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None


def _trim() -> None:
    """Give back what the allocator keeps of earlier rows: after a fine-tuning that is gigabytes."""
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):  # glibc's own
        trim(0)


def _reset() -> bool:
    try:
        (_PROC / "clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _high_water() -> int | None:
    lines = (_PROC / "status").read_text().splitlines()
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), None)
