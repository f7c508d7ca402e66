"""Faults in the system calls of this process, and a clock that can be moved; see `faults.c`."""

import atexit
import ctypes
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

FAULTS = {"kill": 1, "full disk": 2, "I/O error": 3, "torn write": 4}
"""What happens at the chosen call: SIGKILL before it, ENOSPC, EIO, or half of a write and
SIGKILL.
"""
CALLS = {
    1: "write", 18: "pwrite", 20: "writev", 74: "fsync", 75: "fdatasync", 77: "ftruncate",
    82: "rename", 86: "link",
    87: "unlink", 263: "unlinkat", 264: "renameat", 265: "linkat", 296: "pwritev", 316: "renameat2",
}  # fmt: skip
"""Numbers of the system calls on x86-64 that `faults.c` traps."""


@dataclass(frozen=True)
class Hit:
    """The system call that was made to fail."""

    call: str
    path: str


def prepare() -> None:
    """Compile `faults.c` and load it into every process that starts from here on.

    Exits with a sentence where there is no C compiler, or another system.
    """
    if "LD_PRELOAD" in os.environ:
        return
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        sys.exit("faults are injected by a seccomp filter for Linux on x86-64: run it there")
    source = Path(__file__).with_name("faults.c")
    target = Path(tempfile.mkdtemp(prefix="cmt-faults-")) / "faults.so"
    atexit.register(shutil.rmtree, target.parent)
    try:
        subprocess.run(
            ["cc", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", target, source], check=True
        )
    except FileNotFoundError:
        sys.exit("there is no C compiler: install one (Debian: apt-get install gcc libc6-dev)")
    os.environ["LD_PRELOAD"] = str(target)


def arm(folder: Path, *, fault: str, place: int, report: int) -> None:
    """Make the `place`-th call of this process that changes a file below `folder` fail; 0 counts
    without failing.

    The call is written to the descriptor `report` first; see `read_hit`. It cannot be undone. The
    process has to be started after `prepare`, like those of `move_clock`.
    """
    loaded = ctypes.CDLL(None)
    loaded.soak_arm.argtypes = [ctypes.c_char_p, ctypes.c_int, ctypes.c_long, ctypes.c_int]
    if error := loaded.soak_arm(bytes(folder.resolve()), FAULTS[fault], place, report):
        raise OSError(error, f"the seccomp filter cannot be installed: {os.strerror(error)}")


def counted() -> int:
    """Calls since `arm` that changed a file below its folder."""
    loaded = ctypes.CDLL(None)
    loaded.soak_counted.restype = ctypes.c_long
    return int(loaded.soak_counted())


def read_hit(report: bytes) -> Hit | None:
    """What `arm` wrote to its descriptor; None if the process made fewer calls."""
    if not report:
        return None
    number, length = struct.unpack_from("ll", report)
    return Hit(CALLS[number], report[16 : 16 + length].decode())


def move_clock(seconds: int) -> None:
    """Move the clock of this process by some seconds."""
    ctypes.CDLL(None).soak_clock(ctypes.c_long(seconds))
