"""Atomic writes: a file is written whole or not at all."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    pass


def write_bytes(path: Path, data: bytes) -> None:
    """Put `data` at `path` in one step, making its folder; a crash leaves the old file or the new one."""
    _replace(path, lambda temporary: temporary.write_bytes(data))


def write_table(path: Path, table: pa.Table) -> None:
    """Put `table` at `path` in one step, as Parquet with page checksums."""
    _replace(path, lambda temporary: pq.write_table(table, temporary, compression="zstd", write_page_checksum=True))


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        write(temporary)
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_json(path: Path, content: Any) -> None:
    """Write `content` as JSON, whole or not at all."""
    write_bytes(path, json.dumps(content, indent=2).encode() + b"\n")
