"""Fixtures of the tests of the commands."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def adapted(adapted_workspace: Path) -> Path:
    """The project after its two rounds, as a copy."""
    return adapted_workspace


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Handle Ctrl-C even if the tests run in the background of a shell, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
