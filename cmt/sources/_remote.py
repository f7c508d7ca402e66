"""Files on object storage, which fsspec reads."""

from collections.abc import Iterator
from pathlib import PurePosixPath

import fsspec

from cmt.config import SourceParams
from cmt.errors import ConfigError
from cmt.sources.connector import Connector, Item, Setting, instant_of
from cmt.stream.columns import Record
from cmt.stream.limits import MEGABYTE

_MARKS = ("ETag", "etag", "md5Hash", "md5", "content_md5", "checksum", "version_id")
_DATES = ("LastModified", "last_modified", "updated", "mtime", "created")


class StorageSource(Connector):
    """Files on object storage, whose credentials fsspec finds: `address` names one, a folder, or a
    pattern.
    """

    def __init__(self, source: SourceParams, setting: Setting) -> None:
        self._format, self._setting = source.format, setting
        address = setting.expand(source.address)
        try:
            self._files, self._path = fsspec.core.url_to_fs(
                address, skip_instance_cache=True, use_listings_cache=False
            )
        except (ImportError, ValueError) as error:
            raise ConfigError(
                f"sources.{source.name}: {error}; `pip install 'cmt-memory[sources]'` reads s3, "
                "other packages "
                "of fsspec read other protocols"
            ) from None

    def list(self) -> Iterator[Item]:
        one = any(c in self._path for c in "*?[") or self._files.isfile(self._path)
        pattern = self._path if one else f"{self._path.rstrip('/')}/**"
        for path, info in sorted(self._files.glob(pattern, detail=True).items()):
            if info["type"] == "file" and not PurePosixPath(path).name.startswith("."):
                date = next((info[name] for name in _DATES if info.get(name)), None)
                marks = [str(info[name]) for name in _MARKS if info.get(name)]
                yield Item(
                    path,
                    instant_of(date),
                    " ".join([*(marks or [str(date)]), str(info.get("size"))]),
                )

    def fetch(self, key: str) -> Iterator[Record]:
        with self._files.open(key, "rb") as file:
            yield from self._setting.read(key, iter(lambda: file.read(MEGABYTE), b""), self._format)
