"""Syncs of several sources that do not wait for each other.

Each sync runs in a thread of its own. The next one begins when it has ended, or after PATIENCE, so
the order of quick sources is fixed, and a server that drips delays nobody. Writers of one process
wait for each other in `cmt.stream.store`.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Thread

from cmt.common.progress import Progress
from cmt.errors import CmtError, StreamError
from cmt.sources.sync import SyncReport

PATIENCE = 5.0  # seconds that a source may delay the next one
LONGEST = 1800.0  # seconds without a step after which a sync is given up


@dataclass
class _Turn(Progress):
    """The sync of a source. Its steps are shown until the next one begins."""

    name: str
    progress: Progress | None
    thread: Thread | None = None
    result: SyncReport | None = None
    error: BaseException | None = None
    last_step: float = field(default_factory=time.monotonic)

    def stage(self, name: str, total: int | None = None) -> None:
        self.last_step = time.monotonic()
        if self.progress:
            self.progress.stage(name, total)

    def advance(self, n: int, note: str = "") -> None:
        self.last_step = time.monotonic()
        if self.progress:
            self.progress.advance(n, note)


@dataclass
class Turns:
    """Runs syncs. `sync`: name of a source and its progress → its report."""

    sync: Callable[[str, Progress], SyncReport]
    _running: dict[str, _Turn] = field(default_factory=dict)

    @property
    def running(self) -> set[str]:
        """The sources whose syncs have not ended."""
        return {*self._running}

    def start(self, name: str, progress: Progress | None) -> None:
        """Begin a sync of the source `name`, which has none running, and wait for it a little."""
        turn = self._running[name] = _Turn(name, progress)
        turn.thread = Thread(target=self._run, args=(turn,), daemon=True)  # ends with us
        turn.thread.start()
        turn.thread.join(PATIENCE)
        turn.progress = None

    def ended(self) -> list[tuple[str, SyncReport | CmtError | OSError]]:
        """Remove the syncs that have ended or are given up; return their outcomes in the order in
        which they began. Raises what else ended a sync.
        """
        outcomes = list[tuple[str, SyncReport | CmtError | OSError]]()
        for turn in [*self._running.values()]:
            if turn.thread and turn.thread.is_alive():
                if time.monotonic() - turn.last_step < LONGEST:
                    continue
                turn.error = StreamError(
                    f"source {turn.name} gave nothing for {LONGEST / 60:g} minutes: its sync is "
                    "given up; repeat it later"
                )
            del self._running[turn.name]
            if turn.result:
                outcomes.append((turn.name, turn.result))
            elif isinstance(turn.error, CmtError | OSError):
                outcomes.append((turn.name, turn.error))
            elif turn.error:
                raise turn.error
        return outcomes

    def all_ended(self) -> list[tuple[str, SyncReport | CmtError | OSError]]:
        """Wait for all syncs; return their outcomes."""
        outcomes = self.ended()
        while self._running:
            time.sleep(0.05)
            outcomes += self.ended()
        return outcomes

    def _run(self, turn: _Turn) -> None:
        try:
            turn.result = self.sync(turn.name, turn)
        except BaseException as error:  # noqa: BLE001 - `ended` raises it
            turn.error = error
