"""Temporary folders in the state folder, where the next command and a purge find the files of a
killed command.

A folder is alive while its process holds the lock next to it, which ends with the process.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout

_FOLDER = "scratch"
_GUARD = "guard"  # the lock for making and removing folders


@contextmanager
def scratch_folder(state: Path) -> Iterator[Path]:
    """An empty folder below `state`, deleted at the end; folders of killed processes go first.
    Raises OSError.
    """
    remove_dead(state)
    root = state / _FOLDER
    root.mkdir(parents=True, exist_ok=True)
    folder = root / uuid4().hex
    lock = FileLock(folder.with_suffix(".lock"))
    with FileLock(root / _GUARD):
        lock.acquire()
        folder.mkdir()
    try:
        yield folder
    finally:
        with FileLock(root / _GUARD):
            _remove(folder, lock)


def remove_dead(state: Path) -> list[Path]:
    """Delete the folders of killed processes below `state`; returns the folders of live processes.
    Raises OSError.
    """
    root, live = state / _FOLDER, list[Path]()
    folders = [path for path in root.glob("*") if path.is_dir()]
    if not folders:
        return []
    with FileLock(root / _GUARD):
        for folder in folders:
            lock = FileLock(folder.with_suffix(".lock"))
            try:
                lock.acquire(timeout=0)
            except Timeout:
                live.append(folder)
            else:
                _remove(folder, lock)
    return live


def _remove(folder: Path, lock: FileLock) -> None:
    """Delete a folder whose lock this process holds, then the lock."""
    with suppress(FileNotFoundError):
        shutil.rmtree(folder)
    Path(lock.lock_file).unlink(missing_ok=True)
    lock.release()
