"""Sources that change: a model of what a source has, the media that show it, and the stream beside
it.
"""

import json
import os
import random
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from cmt.config import SourceParams, StreamParams
from cmt.sources.connector import Connector, Item, Setting
from cmt.sources.kinds import open_connector
from cmt.sources.sync import Sync, SyncReport, withdrawn
from cmt.stream.columns import Record
from cmt.stream.limits import DEFAULT_LIMITS
from cmt.stream.schema import normalise
from cmt.stream.store import SliceStore
from cmt.timeline import Timeline

CLOCK = "2031-12-31T00:00:00Z"
Texts = dict[str, dict[str, str]]
"""Key of an item → doc_id → text; the doc_id "" stands for a document that has none of its own."""


class Killed(BaseException):
    """The process ends here."""


@dataclass
class Scripted(Connector):
    """A source in memory; `marks` are the fingerprints."""

    texts: Texts = field(default_factory=dict)
    dates: dict[str, str] = field(default_factory=dict)
    complete: bool = True
    cursor: dict[str, str] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)

    def list(self) -> Iterator[Item]:
        for key, documents in self.texts.items():
            yield Item(key, None, json.dumps([documents, self.dates.get(key)], sort_keys=True))

    def fetch(self, key: str) -> Iterator[Record]:
        if key in self.broken:
            raise OSError(f"{key} is broken")
        for row in rows(self.texts[key], self.dates.get(key, "2031-01-02")):
            yield Record(row, key)


def rows(documents: Mapping[str, str], date: str | None = "2031-01-02") -> list[dict[str, Any]]:
    """The rows of an item."""
    own = {"published_at": date} if date else {}
    return [
        {"text": text, **own, **({"doc_id": doc_id} if doc_id else {})}
        for doc_id, text in documents.items()
    ]


@dataclass
class Project:
    """A stream, and the forgetting of its documents."""

    folder: Path
    stream: StreamParams = field(default_factory=lambda: StreamParams(clock=CLOCK))
    store: SliceStore = field(init=False)

    def __post_init__(self) -> None:
        self.store = SliceStore(path=self.folder / "stream", quarantine=self.folder / "quarantine")

    def setting(self, **secrets: str) -> Setting:
        return Setting(DEFAULT_LIMITS, secrets, tuple(secrets))

    def sync(
        self,
        source: SourceParams,
        connector: Connector | None = None,
        settled: Callable[[str, str | None], bool] | None = None,
        siblings: Collection[str] = (),
        **options: bool,
    ) -> SyncReport:
        """Synchronise the stream; by default with a newly opened connector."""
        return Sync(
            source,
            connector or open_connector(source, self.setting()),
            store=self.store,
            folder=self.folder / "state/sources",
            stream=self.stream,
            forget=lambda doc_ids: self.store.forget({doc_id: () for doc_id in doc_ids}),
            settled=settled,
            siblings=siblings,
        ).run(**options)

    def texts(self) -> dict[str, str]:
        """doc_id → text of the visible documents, without withdrawn ones; each version differs from
        the one before.
        """
        store, forgotten = self.store, set(self.store.forgotten())
        versions = [version for slice_ in store.slices() for version in store.versions(slice_)]
        timeline = Timeline(versions)
        contents = {
            (row["doc_id"], row["sha256"]): row["text"] for row in store.all_documents().to_pylist()
        }
        found = {}
        for doc_id in {version.doc_id for version in versions} - forgotten:
            own = sorted(
                (one for one in versions if one.doc_id == doc_id), key=lambda one: one.order
            )
            assert all(a.sha256 != b.sha256 for a, b in zip(own, own[1:], strict=False)), (
                f"{doc_id} is doubled"
            )
            text = contents[doc_id, own[-1].sha256]
            if timeline.superseded_at(doc_id, own[-1].published_at) is None and text != withdrawn(
                doc_id
            ):
                found[doc_id] = text
        return found


def source(**changes: Any) -> SourceParams:
    """A source named `news`."""
    given: dict[str, Any] = {"name": "news", "kind": "folder", "address": ".", "max_vanished": 1.0}
    return SourceParams(**given | changes)


def expected(texts: Texts, name: Callable[[str], str]) -> dict[str, str]:
    """doc_id → text of what a source has; `name`: key → the doc_id of a document without one."""
    return {
        doc_id or name(key): normalise(text)
        for key, one in texts.items()
        for doc_id, text in one.items()
    }


class Changing:
    """What a source has, changed by seeded steps. Texts and doc_ids are never used twice, except
    for returning ones.
    """

    def __init__(self, seed: int, *, returning: bool) -> None:
        self.random, self.texts, self._number = random.Random(seed), Texts(), 0
        self._gone: Texts = {}
        self._returning = returning

    def step(self) -> None:
        """Add, change, extend, shorten, move, delete, bring back and reorder items."""
        for _ in range(self.random.choice([0, 1, 1, 2, 5])):
            keys = sorted(self.texts)
            act = self.random.choice(
                ["add", "add", "many", "change", "change", "edit", "delete", "move", "return"]
            )
            key = self.random.choice(keys) if keys else ""
            if act == "add" or not keys:
                self.texts[f"{self._next()}.jsonl"] = {"": self._text()}
            elif act == "many":
                self.texts[f"{self._next()}.jsonl"] = {
                    f"d{self._next()}": self._text() for _ in range(3)
                }
            elif act == "change":
                self.texts[key] = {doc_id: self._text() for doc_id in self.texts[key]}
            elif act == "edit" and len(self.texts[key]) > 1:
                self.texts[key] = dict(list(self.texts[key].items())[1:]) | {
                    f"d{self._next()}": self._text()
                }
            elif act == "delete":
                self._gone[key] = self.texts.pop(key)
            elif act == "move" and "" not in self.texts[key]:
                self.texts[f"{self._next()}.jsonl"] = self.texts.pop(key)
            elif act == "return" and self._gone and self._returning:
                key = self.random.choice(sorted(self._gone))
                self.texts[key] = self._gone.pop(key)
        items = list(self.texts.items())
        self.random.shuffle(items)
        self.texts = dict(items)

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _text(self) -> str:
        n = self._next()
        return " ".join(f"word{n}x{self.random.randrange(10**6)}" for _ in range(6)) + "."


class Faulty(Connector):
    """`inner`, which fails or is killed at random moments and lists in any order."""

    def __init__(self, inner: Connector, rng: random.Random, *, fail: float, kill: float) -> None:
        self.inner, self._random, self._fail, self._kill = inner, rng, fail, kill
        self.complete = inner.complete

    @property
    def cursor(self) -> dict[str, str]:
        return self.inner.cursor

    @cursor.setter
    def cursor(self, value: dict[str, str]) -> None:
        self.inner.cursor = value

    def list(self) -> Iterator[Item]:
        self._disturb()
        items = [*self.inner.list()]
        self._random.shuffle(items)
        yield from items

    def fetch(self, key: str) -> Iterator[Record]:
        self._disturb()
        yield from self.inner.fetch(key)

    def _disturb(self) -> None:
        if self._random.random() < self._kill:
            raise Killed
        if self._random.random() < self._fail:
            raise OSError("the network is down")


def write_files(folder: Path, texts: Texts, *, date: str | None = "2031-01-02") -> None:
    """Write each item as a file of JSON lines, and delete the files of other items."""
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        if path.name not in texts:
            path.unlink()
    for key, documents in texts.items():
        content = "".join(json.dumps(row) + "\n" for row in rows(documents, date))
        path = folder / key
        if not path.exists() or path.read_text() != content:
            path.write_text(content)


def atom(*entries: str) -> str:
    """An Atom feed of `entries`."""
    return f'<feed xmlns="http://www.w3.org/2005/Atom"><title>News</title>{"".join(entries)}</feed>'


def atom_entry(identifier: str, words: str) -> str:
    """An entry of an Atom feed."""
    date = "<published>2031-01-02T00:00:00Z</published>"
    return (
        f"<entry><id>{identifier}</id><title>News</title>{date}<content>{words}</content></entry>"
    )


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of an HTTP server for `folder`."""
    with serving(partial(_Quiet, directory=os.fspath(folder))) as address:
        yield address


@contextmanager
def serving(handler: Callable[..., Any]) -> Iterator[str]:
    """The address of an HTTP server with this handler."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=partial(server.serve_forever, poll_interval=0.01))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Print nothing."""


def later(stream: StreamParams, rng: random.Random) -> StreamParams:
    """`stream` with a clock that somebody set forward or back."""
    return stream.model_copy(
        update={"clock": f"2031-{rng.randint(6, 12):02}-{rng.randint(1, 28):02}T00:00:00Z"}
    )
