"""Processes that start at once: a server that has imported torch and transformers forks them.

A new interpreter needs seconds for these imports. The server runs no code of this repository, so a
process shows what `cmt` itself imports.
"""

import multiprocessing
import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
PRELOADED = ("pyarrow.dataset", "torch", "transformers.models.llama.modeling_llama")
CONTEXT.set_forkserver_preload([*PRELOADED])


@contextmanager
def started(
    function: Callable[..., object], *args: Any, **kwargs: Any
) -> Iterator[ForkServerProcess]:
    """A process that calls the importable `function` in the environment of this one.

    It is ended with the block. Raises AssertionError with the traceback if the function fails.
    """
    receiver, sender = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(
        target=_call, args=(sender, dict(os.environ), function, args, kwargs), daemon=True
    )
    process.start()
    sender.close()
    try:
        yield process
        process.join(120)
        assert process.exitcode is not None, f"{function.__name__} has not ended after 120 s"
        if receiver.poll():
            try:
                raise AssertionError(receiver.recv())
            except EOFError:  # it was killed, or has returned
                pass
    finally:
        process.kill()
        process.join()
        receiver.close()


def exit_code(function: Callable[..., object], *args: Any, **kwargs: Any) -> int | None:
    """The exit code of a process that calls `function`; negative: the signal that ended it."""
    with started(function, *args, **kwargs) as process:
        pass
    return process.exitcode


def _call(
    errors: Connection,
    environment: dict[str, str],
    function: Callable[..., object],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> None:
    os.environ.clear()
    os.environ |= environment
    try:
        function(*args, **kwargs)
    except Exception:
        errors.send(traceback.format_exc())
        raise SystemExit(1) from None
