"""An RSS or Atom feed: each entry is an item."""

import hashlib
import json
from collections.abc import Iterator

from cmt.config import SourceParams
from cmt.sources.connector import Connector, Item, Setting
from cmt.sources.web import Web, validators
from cmt.stream.readers import Record


class FeedSource(Connector):
    """The entries of the feed `address`. A feed shows its newest entries alone, so none of them ever vanishes.

    It is asked with the entity tag and the date of the last response, so that an unchanged feed is not sent again.
    """

    complete = False

    def __init__(self, source: SourceParams, setting: Setting) -> None:
        self._url, self._format, self._setting = setting.expand(source.address), source.format, setting
        self.web = Web.of(source, setting)
        self._entries: dict[str, Record] = {}

    def list(self) -> Iterator[Item]:
        response = self.web.get_changed(self._url, self.cursor)
        self.cursor = validators(response)
        for record in self._setting.read("feed.xml", [response.body], self._format):
            content = json.dumps([record.fields, record.error], sort_keys=True, default=str)
            digest = hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()
            key = self._setting.conceal(str(record.fields.get("doc_id") or record.fields.get("url") or digest))
            if key not in self._entries:
                self._entries[key] = record
                yield Item(key, None, digest)

    def fetch(self, key: str) -> Iterator[Record]:
        yield self._entries[key]
