"""Progress on stderr: a bar for the stage at work where stderr is a terminal, and everywhere a line when it is done."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from cmt.common.text import plain


class ProgressBar:
    """A Watch for people. `stage` and `advance` are what rounds call; `at` is what a download calls."""

    def __init__(self, console: Console) -> None:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[detail]}", markup=False),
            TimeRemainingColumn(),
        )
        # a bar vanishes when its stage ends, and the line takes its place
        self._bars = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._console = console
        self._task: TaskID | None = None
        self.current = ""
        """The stage at work, "" before the first."""
        self.title = ""
        """What the next stages belong to, as a slice; stands before their names."""

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        self._close(whole=kind is None)
        self._bars.stop()

    def stage(self, name: str, total: int | None = None) -> None:
        """A new stage begins; `total` steps, None when unknown."""
        self._close()
        self.current, self._total, self._done, self._note = name, total, 0, ""
        self._started, self._name = time.perf_counter(), plain(f"{self.title} {name}")
        self._task = self._bars.add_task(self._name, total=total, detail="")

    def advance(self, n: int, note: str = "") -> None:
        """`n` more steps are done; `note` is shown beside the bar."""
        self._done += n
        self._note = note or self._note
        self._show()

    def at(self, stage: str, done: int, total: int | None) -> None:
        """`stage` has come to `done` of `total`; without a total they are bytes."""
        if stage != self.current:
            self.stage(stage, total)
        self._done = done
        self._note = "" if total else f"{done / 1e6:,.1f} MB"
        self._show()

    def _show(self) -> None:
        if self._task is not None:
            self._bars.update(self._task, completed=self._done, detail=self._detail())

    def _detail(self) -> str:
        count = f"{self._done:,} of {self._total:,}" if self._total else ""
        return ", ".join(filter(None, (count, self._note)))

    def _close(self, *, whole: bool = True) -> None:
        if self._task is None:
            return
        self._bars.remove_task(self._task)
        self._bars.refresh()
        self._task = None
        parts = [self._detail(), f"{time.perf_counter() - self._started:.1f} s", "" if whole else "not finished"]
        if whole or self._done:
            self._console.print(Text(f"{self._name}: {', '.join(filter(None, parts))}", "dim"), soft_wrap=True)
