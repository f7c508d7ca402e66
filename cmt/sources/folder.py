"""A folder of this machine: each file is an item."""

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from cmt.config import SourceParams
from cmt.errors import StreamError
from cmt.sources.connector import Connector, Item, Setting
from cmt.stream.readers import Record, records_of
from cmt.stream.readers.files import read_regular


class FolderSource(Connector):
    """The files below the folder `address`, or the matches of its pattern, without hidden files."""

    def __init__(self, source: SourceParams, setting: Setting) -> None:
        path = Path(setting.expand(source.address))
        # the pattern begins at the first part with a wildcard that is not the name of a folder, such as notes[1]
        marked = (n for n, part in enumerate(path.parts) if any(c in part for c in "*?["))
        wild = next((n for n in marked if not Path(*path.parts[: n + 1]).is_dir()), len(path.parts))
        self._root, pattern = Path(*path.parts[:wild]), "/".join(path.parts[wild:]) or "**"
        self._pattern = f"{pattern}/*" if pattern.endswith("**") else pattern
        self._format, self._limits = source.format, setting.limits

    def list(self) -> Iterator[Item]:
        if not self._root.is_dir():
            raise StreamError(f"{self._root} is no folder: check the address, and that its disk is mounted")
        for path in self._root.glob(self._pattern):
            name = path.relative_to(self._root)
            if any(part.startswith(".") for part in name.parts) or not path.is_file():
                continue
            with suppress(FileNotFoundError):  # it vanished a moment ago
                found = path.stat()
                changed = datetime.fromtimestamp(found.st_mtime, UTC)
                yield Item(name.as_posix(), changed, f"{found.st_size} {found.st_mtime_ns}")

    def fetch(self, key: str) -> Iterator[Record]:
        data = read_regular(self._root / key, key, self._limits)  # raises, so that the next sync tries again
        yield from records_of(data, key, format=self._format, limits=self._limits, inside=True)
