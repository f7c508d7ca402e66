"""Commands of `cmt` in separate processes, forked from a server that has imported torch and has run
nothing.
"""

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.soak.faults import Hit, arm, counted, move_clock, prepare, read_hit

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.soak.preload"])
SECONDS = 60  # a command that takes longer counts as hanging


@dataclass(frozen=True)
class Outcome:
    """The result of a command."""

    status: int | None
    """Exit status, the negative number of a signal, or None if it had to be ended after SECONDS."""
    output: str
    errors: str
    calls: int  # system calls that changed files of the project; 0 if it was killed
    hit: Hit | None  # the call that failed


@contextmanager
def mapping(workers: int) -> Iterator[Callable[..., Iterable[Any]]]:
    """A `map` whose calls run in `workers` processes; for one worker in this process.

    Processes, because transformers cannot load two language models at once in the threads of one.
    Each starts a fork server of its own, which takes seconds.
    """
    if workers == 1:
        yield map
    else:
        with ProcessPoolExecutor(workers, mp_context=PROCESSES) as pool:
            yield pool.map


def run(
    folder: Path,
    *arguments: str,
    fault: str = "",
    place: int = 0,
    below: Path | None = None,
    clock: int = 0,
) -> Outcome:
    """Run `cmt` in the project `folder`, with a fault or with a clock that is wrong by some
    seconds.

    The fault hits call number `place` among the calls that change files below `below`, by default
    the project.
    """
    prepare()  # before the server starts
    with tempfile.TemporaryDirectory(prefix="cmt-run-") as notes:
        options = (Path(notes), folder, arguments, fault, place, below or folder, clock)
        process = PROCESSES.Process(target=_command, args=options)
        process.start()
        process.join(SECONDS)
        if hanging := process.is_alive():
            process.kill()
            process.join()
        texts = {path.name: path.read_bytes() for path in Path(notes).iterdir()}
    return Outcome(
        status=None if hanging else process.exitcode,
        output=texts.get("stdout", b"").decode(errors="replace"),
        errors=texts.get("stderr", b"").decode(errors="replace"),
        calls=int(texts.get("calls", b"0") or 0),
        hit=read_hit(texts.get("report", b"")),
    )


def _command(
    notes: Path,
    folder: Path,
    arguments: tuple[str, ...],
    fault: str,
    place: int,
    below: Path,
    clock: int,
) -> None:
    """Run the command line in this process; its streams, its calls and its fault go to files in
    `notes`.
    """
    from cmt.cli.main import main

    # 1. The streams of a terminal's process.
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        os.dup2(os.open(notes / name, os.O_WRONLY | os.O_CREAT), descriptor)
    os.chdir(folder)
    sys.argv = ["cmt", *arguments]
    # 2. The fault.
    if clock:
        move_clock(clock)
    if fault:
        arm(
            below,
            fault=fault,
            place=place,
            report=os.open(notes / "report", os.O_WRONLY | os.O_CREAT),
        )
    # 3. The command, which ends with SystemExit.
    try:
        main()
    finally:
        if fault:
            (notes / "calls").write_text(str(counted()))
