"""Progress on stderr: a bar for the current stage on a terminal, and everywhere a line for each finished stage."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from cmt.common.text import plain


class ProgressBar:
    """Shows the progress of stages (`cmt.common.progress.Progress`) and of downloads (`at`)."""

    def __init__(self, console: Console) -> None:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[detail]}", markup=False),
            TimeRemainingColumn(),
        )
        # a bar disappears at the end of its stage; a line with its duration replaces it
        self._bars = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._console = console
        self._task: TaskID | None = None
        self.current = ""  # name of the current stage, "" before the first
        self.title = ""  # shown before the names of the stages that follow, such as the id of a slice

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        self._close(finished=kind is None)
        self._bars.stop()

    def stage(self, name: str, total: int | None = None) -> None:
        """Finish the current stage and begin `name` of `total` steps (None: unknown)."""
        self._close(finished=True)
        self.current, self._total, self._done, self._note = name, total, 0, ""
        self._started, self._label = time.perf_counter(), plain(f"{self.title} {name}")
        self._task = self._bars.add_task(self._label, total=total, detail="")

    def advance(self, n: int, note: str = "") -> None:
        """Add `n` completed steps to the current stage and show `note` beside them."""
        self._done += n
        self._note = note or self._note
        self._refresh()

    def at(self, stage: str, done: int, total: int | None) -> None:
        """Show `stage` at `done` of `total` steps; without a total `done` counts bytes."""
        if stage != self.current:
            self.stage(stage, total)
        self._done = done
        self._note = "" if total else f"{done / 1e6:,.1f} MB"
        self._refresh()

    def _refresh(self) -> None:
        if self._task is not None:
            self._bars.update(self._task, completed=self._done, detail=self._detail())

    def _detail(self) -> str:
        count = f"{self._done:,} of {self._total:,}" if self._total else ""
        return ", ".join(filter(None, (count, self._note)))

    def _close(self, *, finished: bool) -> None:
        """Replace the bar of the current stage by its line; a finished stage counts as complete."""
        if self._task is None:
            return
        self._bars.remove_task(self._task)
        self._bars.refresh()
        self._task = None
        if finished and self._total:
            self._done = self._total  # stages that report no steps, such as one write of many rows, are complete too
        parts = [self._detail(), f"{time.perf_counter() - self._started:.1f} s", "" if finished else "not finished"]
        if finished or self._done:
            self._console.print(Text(f"{self._label}: {', '.join(filter(None, parts))}", "dim"), soft_wrap=True)
