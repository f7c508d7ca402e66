"""Damage the files of a bank like a failing disk or an incomplete copy, and fill the disk."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """No file can be written beyond `size` bytes, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def replace_bytes(folder: Path, old: bytes, new: bytes) -> int:
    """Replace `old` by `new`, of equal length, in the Lance files below `folder`; returns how many
    files had it.
    """
    assert len(old) == len(new)
    changed = 0
    for path in folder.rglob("*.lance"):
        if path.is_file() and old in (content := path.read_bytes()):
            path.write_bytes(content.replace(old, new))
            changed += 1
    return changed


def garble(files: "list[Path]") -> None:
    """Overwrite the first half of each file; its length stays."""
    for file in files:
        content = file.read_bytes()
        half = len(content) // 2
        file.write_bytes(bytes(byte ^ 0x5A for byte in content[:half]) + content[half:])


def flip(file: Path, position: int, bits: int = 1) -> None:
    """Change `bits` of the byte at a position of a file; a second time changes them back."""
    content = bytearray(file.read_bytes())
    content[position] ^= bits
    file.write_bytes(bytes(content))


def newest_index(table: Path) -> list[Path]:
    """The files of the newest index of a Lance table."""
    folder = max((table / "_indices").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    return sorted(folder.iterdir())


def lose_versions(table: Path, *, keep: int) -> None:
    """Delete the manifests of a Lance table after version `keep`, and the hint that names the
    newest.
    """
    for path in (table / "_versions").iterdir():
        number = int(path.stem) if path.suffix == ".manifest" else None
        if number is None or (2**64 - 1 - number if number > 2**32 else number) > keep:
            path.unlink()
