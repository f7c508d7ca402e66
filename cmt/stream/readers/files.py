"""Files as bytes, decompressed within limits, and the records that readers make of them."""

import bz2
import gzip
import io
import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import pyarrow as pa

from cmt.common.storage import open_regular
from cmt.errors import StreamError
from cmt.stream._urls import url_identity
from cmt.stream.columns import column_of
from cmt.stream.limits import Limits

COMPRESSIONS = {b"\x1f\x8b": "gz", b"\xfd7zXZ\0": "xz", b"BZh": "bz2", b"\x28\xb5\x2f\xfd": "zst"}
UNPACKING = (zipfile.BadZipFile, tarfile.TarError, RuntimeError, OSError, EOFError, zlib.error)
"""What reading a member of an archive raises."""
_XZ_MEMORY = 256_000_000  # bytes; `xz -9` needs 65 MB, the format allows 4 GB


def part_of(fields: dict[str, Any], part: str) -> dict[str, Any]:
    """Return `fields` with `#part` appended to ids and addresses; without an id, the address
    becomes the doc_id.
    """
    named = {
        key: f"{fields[key]}#{part}"
        for key in fields
        if fields[key] and column_of(key) in ("doc_id", "url")
    }
    urls = [str(fields[key]) for key in named if column_of(key) == "url"]
    own = (
        {"doc_id": f"{url_identity(urls[0]) or urls[0]}#{part}"}
        if urls and len(urls) == len(named)
        else {}
    )
    return {**fields, **named, **own}


def walk(
    folder: Path, enter: Callable[[PurePath], bool], failed: Callable[[OSError], object]
) -> Iterator[Path]:
    """Yield the files below `folder`. `enter`: whether to list the folder with this relative path.

    `failed` gets the error of a folder that cannot be listed. Links are followed after all other
    folders, and no folder is listed twice, so that a new link renames no file.
    """
    listed, starts = set[tuple[int, int]](), [folder]
    for start in starts:
        for root, folders, names in os.walk(start, onerror=failed):
            here = os.stat(root)
            if (here.st_dev, here.st_ino) in listed:
                folders.clear()
                continue
            listed.add((here.st_dev, here.st_ino))
            inner = Path(root).relative_to(folder)
            folders[:] = sorted(name for name in folders if enter(inner / name))
            starts += [path for name in folders if (path := Path(root, name)).is_symlink()]
            yield from (Path(root, name) for name in names)


def read_regular(path: Path, name: str, limits: Limits) -> bytes:
    """The content of a regular file, at most one byte more than `limits`. Raises StreamError, also
    for a pipe.
    """
    try:
        with open_regular(path) as file:
            large = os.fstat(file.fileno()).st_size > limits.file_bytes
            return (
                file.read(limits.file_bytes + 1) if large else file.read()
            )  # read(n) allocates n bytes
    except OSError as error:
        raise StreamError(f"cannot read {name}: {error.strerror or error}") from None


class Member(NamedTuple):
    """A file in an archive."""

    name: str
    size: int  # bytes that it takes in addition to the archive
    read: Callable[[], bytes]  # raises one of UNPACKING


def members(data: bytes, form: str) -> Iterator[Member]:
    """Yield the files in an archive, `form` "zip" or "tar". Raises BadZipFile and TarError."""
    if form == "tar":
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
            for one in filter(tarfile.TarInfo.isreg, tar):
                yield Member(one.name, one.size * one.issparse(), partial(_read_tar, tar, one))
        return
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for member in archive.infolist():
            if not member.is_dir():
                yield Member(
                    member.filename, member.file_size, partial(read_member, archive, member)
                )


def _read_tar(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    with archive.extractfile(member) or io.BytesIO() as file:
        return file.read()


def read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """A member of a ZIP archive, at most one byte more than it declares. Raises BadZipFile, also
    without Deflate.
    """
    if member.compress_type not in (
        zipfile.ZIP_STORED,
        zipfile.ZIP_DEFLATED,
    ):  # others expand without a bound
        raise zipfile.BadZipFile("its compression is not Deflate")
    with archive.open(member) as file:
        return file.read(member.file_size + 1)


def compression_of(data: bytes) -> str | None:
    """gz, xz, bz2 or zst by the first bytes; None for anything else."""
    return next((name for start, name in COMPRESSIONS.items() if data.startswith(start)), None)


def decompress(data: bytes, compression: str, name: str, size: int, limits: Limits) -> bytes:
    """`data` decompressed to at most `size` bytes. Raises StreamError, also if it exceeds them."""
    try:
        if compression == "xz":
            content = _read_xz(data, size + 1)
        elif compression == "zst":
            with pa.CompressedInputStream(pa.BufferReader(data), "zstd") as stream:
                content = stream.read(size + 1)
        else:
            with (gzip.open if compression == "gz" else bz2.open)(io.BytesIO(data)) as file:
                content = file.read(size + 1)
    except (lzma.LZMAError, EOFError, zlib.error, OSError, ValueError) as error:
        raise StreamError(
            f"{name} is damaged or not a .{compression} file ({error}); fetch it again"
        ) from None
    if len(content) > size:
        raise limits.too_large(name)
    return bytes(content)


def _read_xz(packed: bytes, size: int) -> bytes:
    """At most `size` decompressed bytes. `lzma.open` does not limit the dictionary, whose size the
    file determines.
    """
    content = io.BytesIO()
    while packed and content.tell() < size:
        stream = lzma.LZMADecompressor(memlimit=_XZ_MEMORY)
        try:
            content.write(stream.decompress(packed, size - content.tell()))
        except lzma.LZMAError:
            if content.tell():
                break  # trailing bytes are no stream
            raise
        if not stream.eof and content.tell() < size:
            raise EOFError("the file ends within its compressed data")
        packed = stream.unused_data.lstrip(b"\0")  # streams may be padded
    return content.getvalue()
