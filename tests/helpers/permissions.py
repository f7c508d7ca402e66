"""Folders that other users may read, folders that nobody can list, and a user whom permissions
stop.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


@contextmanager
def readable_folder() -> Iterator[Path]:
    """A temporary folder that other users may read, unlike pytest's; deleted at the end."""
    folder = Path(tempfile.mkdtemp())
    try:
        yield folder
    finally:
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755)
        shutil.rmtree(folder)


def make_read_only(folder: Path) -> None:
    """Take the right to write from a folder and all that is in it."""
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)


@contextmanager
def as_nobody() -> Iterator[None]:
    """Run the block as the user nobody if the tests run as root, whom permissions do not stop."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def deny_listing(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let no folder with one of these names be listed, even by root."""

    def scandir(path: Any, found: Any = os.scandir) -> Any:
        if Path(path).name in names:
            raise PermissionError(13, "Permission denied", path)
        return found(path)

    monkeypatch.setattr(os, "scandir", scandir)
