"""A folder of this machine: each file is an item."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path, PurePath

from cmt.config import SourceParams
from cmt.errors import StreamError
from cmt.sources.connector import Connector, Item, Setting
from cmt.stream.columns import Record
from cmt.stream.readers.detection import people_in, records_of
from cmt.stream.readers.files import read_regular, walk


class FolderSource(Connector):
    """The files below the folder `address`, or the matches of its pattern, without hidden files."""

    def __init__(self, source: SourceParams, setting: Setting) -> None:
        path = Path(setting.expand(source.address))
        # the pattern begins at the first part with a wildcard that is not the name of a folder,
        # such as notes[1]
        marked = (n for n, part in enumerate(path.parts) if any(c in part for c in "*?["))
        wild = next((n for n in marked if not Path(*path.parts[: n + 1]).is_dir()), len(path.parts))
        self._root, pattern = Path(*path.parts[:wild]), path.parts[wild:] or ("**",)
        self._pattern = (*pattern, "*") if pattern[-1] == "**" else pattern
        self._format, self._limits = source.format, setting.limits

    def list(self) -> Iterator[Item]:
        if not self._root.is_dir():
            raise StreamError(
                f"{self._root} is not a folder: check the address, and that its disk is mounted"
            )

        def fail(error: OSError) -> None:  # files that cannot be seen have not vanished
            raise StreamError(
                f"cannot list {error.filename}: {error.strerror}; allow it, or name a narrower "
                "pattern"
            )

        for path in walk(self._root, self._enter, fail):
            name = path.relative_to(self._root)
            if name.name.startswith(".") or not (
                _matches(name.parts, self._pattern) and path.is_file()
            ):
                continue
            with suppress(FileNotFoundError):  # it vanished a moment ago
                found = path.stat()
                changed = datetime.fromtimestamp(found.st_mtime, UTC)
                yield Item(name.as_posix(), changed, f"{found.st_size} {found.st_mtime_ns}")

    def _enter(self, name: PurePath) -> bool:
        return not name.name.startswith(".") and _matches(name.parts, self._pattern, below=True)

    def fetch(self, key: str) -> Iterator[Record]:
        data = read_regular(
            self._root / key, key, self._limits
        )  # raises, so that the next sync tries again
        people = people_in(self._root, self._limits)
        yield from records_of(
            data, key, format=self._format, limits=self._limits, inside=True, people=people
        )


def _matches(parts: Sequence[str], pattern: Sequence[str], *, below: bool = False) -> bool:
    """Whether a path matches a pattern, in which `**` is any number of folders; `below`: whether
    one below it may.
    """
    if not (parts and pattern):
        return not parts and bool(pattern) == below
    if pattern[0] == "**":
        return any(
            _matches(parts[number:], pattern[1:], below=below) for number in range(len(parts) + 1)
        )
    return fnmatch(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:], below=below)
