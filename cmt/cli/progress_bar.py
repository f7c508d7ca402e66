"""Progress on stderr: a bar for the current stage on a terminal, and everywhere a line for each
finished stage.
"""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from cmt.text.display import plain


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
        self._bars = Progress(
            *columns, console=console, transient=True, disable=not console.is_terminal
        )
        self._console = console
        self._task: Task | None = None
        self.current = ""  # name of the current stage, "" before the first
        # shown before the names of the stages that follow, such as the id of a slice
        self.title = ""

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None
    ) -> None:
        self._close(finished=kind is None)
        self._bars.stop()

    def stage(self, name: str, total: int | None = None) -> None:
        """Finish the current stage and begin `name` of `total` steps (None: unknown)."""
        self._close(finished=True)
        self.current = name
        self._bars.add_task(plain(f"{self.title} {name}"), total=total, note="", detail="")
        self._task = self._bars.tasks[-1]

    def advance(self, n: int, note: str = "") -> None:
        """Add `n` completed steps to the current stage and show `note` next to them."""
        if self._task:
            self._show(self._task, self._task.completed + n, note or self._task.fields["note"])

    def at(self, stage: str, done: int, total: int | None) -> None:
        """Show `stage` at `done` of `total` steps; without a total `done` counts bytes."""
        if stage != self.current:
            self.stage(stage, total)
        if self._task:
            self._show(self._task, done, "" if total else f"{done / 1e6:,.1f} MB")

    def _show(self, task: Task, done: float, note: str) -> None:
        count = f"{done:,} of {task.total:,}" if task.total else ""
        self._bars.update(
            task.id, completed=done, note=note, detail=", ".join(filter(None, (count, note)))
        )

    def _close(self, *, finished: bool) -> None:
        """Replace the bar of the current stage by its line; a finished stage counts as complete."""
        if self._task is None:
            return
        task, self._task = self._task, None
        # stages that report no steps, such as one write of many rows, are complete too
        self._show(
            task, task.total if finished and task.total else task.completed, task.fields["note"]
        )
        self._bars.remove_task(task.id)
        self._bars.refresh()
        parts = [
            task.fields["detail"],
            f"{task.elapsed or 0:.1f} s",
            "" if finished else "not finished",
        ]
        if finished or task.completed:
            self._console.print(
                Text(f"{task.description}: {', '.join(filter(None, parts))}", "dim"), soft_wrap=True
            )
