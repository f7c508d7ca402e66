"""Folders that other users may read, and a user whom permissions stop."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
