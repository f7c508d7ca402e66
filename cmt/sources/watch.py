"""When to sync a source again: a folder once its files have changed and settled, each source at its
schedule.
"""

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from cronsim import CronSim

from cmt.config import SourceParams
from cmt.sources.connector import Connector

INTERVAL = timedelta(minutes=5)  # between two syncs of a source without a schedule
_PAUSE = 1.0  # seconds between two listings of a folder; a file rests if both show the same of it
_LISTING_SHARE = 0.1  # of the time, at most


class WatchedSource:
    """A source, due at once, and then at its schedule; a folder also after a change, which two
    listings show.
    """

    def __init__(self, source: SourceParams, connector: Connector) -> None:
        self.name, self._schedule = source.name, source.schedule
        self._folder = connector if source.kind == "folder" else None
        self._due = datetime.min.replace(tzinfo=UTC)
        self._resting: dict[
            str, str | None
        ] = {}  # key → its last fingerprint that two listings had; None: it vanished
        self._last = self._list()

    def is_due(self, now: datetime) -> bool:
        """List a folder again, and return whether the source should be synced."""
        before, self._last = self._last, self._list()
        keys = self._resting.keys() | self._last.keys()
        moved = [
            key for key in keys if self._resting.get(key) != self._last.get(key) == before.get(key)
        ]
        self._resting.update({key: self._last.get(key) for key in moved})
        if not moved and now < self._due:
            return False
        self._due = next(CronSim(self._schedule, now)) if self._schedule else now + INTERVAL
        return True

    def settled(self, key: str, fingerprint: str | None) -> bool:
        return not self._folder or self._resting.get(key) == self._last.get(key) == fingerprint

    def _list(self) -> dict[str, str]:
        """Key → fingerprint of the files of a folder; {} if it cannot be listed, which a sync
        reports.
        """
        try:
            return (
                {item.key: item.fingerprint for item in self._folder.list()} if self._folder else {}
            )
        except Exception:  # of any file system
            return {}


def wait(sources: Sequence[WatchedSource], *, once: bool = False) -> list[WatchedSource]:
    """Sleep until some of `sources` are due, and return them. `once`: look after one pause only."""
    pause = _PAUSE
    while True:
        time.sleep(pause)
        started = time.monotonic()
        due = [source for source in sources if source.is_due(datetime.now(UTC))]
        if due or once:
            return due
        pause = max(_PAUSE, (time.monotonic() - started) / _LISTING_SHARE)
