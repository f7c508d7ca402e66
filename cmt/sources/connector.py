"""The contract between a source and `cmt.sources.sync`."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from cmt.config import ENVIRONMENT_NAME
from cmt.errors import ConfigError
from cmt.stream.columns import Record
from cmt.stream.limits import Limits
from cmt.stream.readers.detection import records_of
from cmt.text.date_formats import DateReader


class Item(NamedTuple):
    """A unit of a source that is fetched as a whole: a file, a page, an entry of a feed, a row of a
    table.
    """

    key: str  # names the item for good; without credentials, because it is stored and shown
    # when the item last changed, with a time zone: the date of records without one
    order: datetime | None = None
    fingerprint: str = ""  # changes with the content, from which a listing may compute it


class Unchanged(Exception):  # noqa: N818 - a signal, no error
    """`list` raises it if the source says that nothing has changed since `Connector.cursor`."""


class Connector(Protocol):
    """What a source has. `list` and `fetch` may raise any error; an item that fails does not stop
    the others.
    """

    # whether `list` has every item; otherwise an item that is missing in it has not vanished
    complete: bool = True
    cursor: dict[str, str] = {}
    """With it `list` asks only for changes. Stored after a sync without failures and set again
    before `list`.
    """
    # whether `Item.order` is when the source says that an item changed, so that it dates a new text
    dates_changes: bool = False
    problems: Sequence[str] = ()  # what `list` left out, a line each

    def list(self) -> Iterator[Item]:
        """Every item that the source has now, in any order."""
        ...

    def fetch(self, key: str) -> Iterator[Record]:
        """The records of an item that `list` returned."""
        ...


class Response(NamedTuple):
    """What an address on the web returned after all redirects."""

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Setting:
    """What a connector gets in addition to its parameters."""

    limits: Limits
    secrets: Mapping[str, str] = field(
        default_factory=lambda: os.environ
    )  # name → value, for `${NAME}`
    names: Sequence[str] = ()  # of the secrets to conceal
    fetched: Mapping[str, Response] = field(default_factory=dict)
    """Address → its response, which is not requested again for the first listing."""

    def expand(self, text: str) -> str:
        """`text` with the values of its `${NAME}`. Raises ConfigError for a name without a
        value.
        """
        try:
            return re.sub(ENVIRONMENT_NAME, lambda match: self.secrets[match[1]], text)
        except KeyError as error:
            name = error.args[0]
            raise ConfigError(
                f"${{{name}}} has no value: set the environment variable {name}"
            ) from None

    def conceal(self, text: str) -> str:
        """`text` with `${NAME}` in place of the values of `names`."""
        for name in self.names:
            if value := self.secrets.get(name):
                text = text.replace(value, f"${{{name}}}")
        return text

    def read(self, name: str, blocks: Iterable[bytes], file_format: str | None) -> Iterator[Record]:
        """The records of a file, which the folders of its path `name` may date. Raises StreamError
        above the limit.
        """
        content = bytearray()
        for block in blocks:
            content += block
            if len(content) > self.limits.file_bytes:
                raise self.limits.too_large(name)
        path = name.strip("/")[-500:] or "index"  # the end of a long name
        yield from records_of(bytes(content), path, format=file_format, limits=self.limits)


def instant_of(value: Any) -> datetime | None:
    """The instant of a date in any form that `DateReader` reads, in UTC if it has no zone; None for
    anything else.
    """
    try:
        return DateReader().read(value).start
    except ValueError:
        return None
