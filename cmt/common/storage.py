"""Files that cmt writes and reads again.

Writes are atomic: after a crash a file has its old content or its new content, never a part of
either. JSON is validated when it is read.
"""

import errno
import json
import logging
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter, ValidationError

from cmt.common.digests import json_checksum

log = logging.getLogger(__name__)

_UNFINISHED = ".unfinished"
_DIGEST = b"digest"  # in the metadata of a checked table's schema
_BUFFER = 1 << 20  # bytes; without one, Parquet makes a system call for each header and page


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file to read. Raises OSError, also for a pipe, a socket or a device, which may
    never end.
    """
    kind = path.stat().st_mode
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
        raise OSError(errno.EINVAL, "it is a pipe, a socket or a device, not a file", str(path))
    return path.open("rb")


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically and make its folder. Raises OSError."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, content: Any, *, indent: int = 2) -> None:
    """Write `content` to `path` as indented JSON, atomically. Raises OSError, TypeError."""
    write_bytes(path, json.dumps(content, indent=indent).encode() + b"\n")


def read_json(path: Path, expected: Any) -> Any:
    """The JSON in `path`, validated as the type `expected`, such as `list[str]` or a dataclass.

    Raises OSError, and ValueError with one line that says what is wrong if the file is truncated or
    of another type.
    """
    with open_regular(path) as file:
        content = file.read()
    try:
        return TypeAdapter(expected).validate_json(content, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(f"{place}: {first['msg']}" if place else first["msg"]) from None


def write_checked_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` to `path` as JSON with a checksum over its values, atomically. Raises
    OSError, TypeError.
    """
    write_json(path, {**content, "checksum": json_checksum(content)})


def read_checked_json(path: Path, expected: Any) -> Any:
    """As `read_json`, of a file that `write_checked_json` wrote. Raises ValueError too if its
    checksum differs.
    """
    content = read_json(path, dict[str, Any])
    if content.pop("checksum", None) != json_checksum(content):
        raise ValueError("it does not match its checksum")
    return TypeAdapter(expected).validate_json(json.dumps(content), strict=True)


def write_table(path: Path, table: pa.Table) -> None:
    """Write `table` to `path` as Parquet with page checksums, atomically. Raises OSError,
    ArrowException.
    """
    with atomic_path(path) as temporary, pa.output_stream(temporary, None, _BUFFER) as out:
        pq.write_table(table, out, compression="zstd", write_page_checksum=True)


def write_checked_table(path: Path, table: pa.Table, digest: Callable[[pa.Table], str]) -> None:
    """As `write_table`, with the digest of `table` in its metadata."""
    metadata = {**(table.schema.metadata or {}), _DIGEST: digest(table)}
    write_table(path, table.replace_schema_metadata(metadata))


def read_checked_table(
    path: Path, digest: Callable[[pa.Table], str], *, remedy: str
) -> pa.Table | None:
    """The table that `write_checked_table` wrote; None without one, or with a warning and `remedy`
    if it is damaged.
    """
    if not path.exists():
        return None
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read()
        metadata = dict(table.schema.metadata or {})
        if metadata.pop(_DIGEST, b"").decode() == digest(table):
            return table.replace_schema_metadata(metadata)
        reason = "it does not match its digest"
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
    log.warning("%s is damaged (%s): %s", path, reason, remedy)
    return None


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to `path`, whose folder is made; it replaces `path` unless an
    error occurs.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        yield temporary
        replace_file(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_new_folder(folder: Path, contents: Mapping[str, str]) -> None:
    """Write files, name → text, into `folder`, which is missing or empty. After an error, no file
    is left.

    A missing folder appears with all files at once. Raises FileExistsError if `folder` has files,
    and other OSErrors.
    """
    # 1. check the folder: keep an empty one, because a shell may be in it; replace files of a
    #    killed write
    top = folder = folder.absolute()
    present = folder.exists()
    names = set()
    if folder.is_dir():
        names = {path.name for path in folder.iterdir()}
    elif present:
        names = {""}  # a file
    replaceable = {_UNFINISHED, *contents} if _UNFINISHED in names else set()
    if names - replaceable:
        raise FileExistsError(errno.EEXIST, "it is not an empty folder", str(folder))
    while not top.parent.exists():
        top = top.parent
    temporary = folder / _UNFINISHED if present else top.with_name(f".{top.name}{_UNFINISHED}")
    inside = temporary if present else temporary / folder.relative_to(top)
    # 2. write to a temporary folder, then rename
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        inside.mkdir(parents=True)
        for name, text in contents.items():
            (inside / name).write_text(text, encoding="utf-8")
            flush_to_disk(inside / name)
        if not present:
            temporary.rename(top)
            return
        for name in contents:
            (inside / name).rename(folder / name)
    except BaseException:
        for name in contents if present else ():
            (folder / name).unlink(missing_ok=True)
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def replace_file(temporary: Path, path: Path) -> None:
    """Move the finished file `temporary` to `path` so that the new content survives a power
    failure. Raises OSError.
    """
    # the data first: the new name must never point to content that is not on the disk
    flush_to_disk(temporary)
    os.replace(temporary, path)
    flush_to_disk(path.parent)  # a rename is stored in the folder


def flush_to_disk(path: Path) -> None:
    """Block until the file or folder `path` is on the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def relative(location: Path | str, root: Path) -> str:
    """`location` relative to `root` if it is below it, so that a project that moves keeps its
    keys.
    """
    path = Path(location)
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(location)
