"""Faults at the system calls of each operation: round, forget, undo, purge, rollback, promotion,
and so on.

After the fault the project must have the content before or after the operation, the next command
must report the interruption, `cmt verify` must find nothing, and the repeated operation must
succeed. SQLite tests I/O errors in the same way (https://sqlite.org/testing.html).
"""

import logging
import re
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from cmt.errors import CmtError
from cmt.rounds import recovery
from tests.soak.findings import Findings, difference
from tests.soak.injection import Command, at_all_calls, undisturbed
from tests.soak.processes import Outcome, run
from tests.soak.project import (
    Content,
    content,
    opened,
    problems,
    with_champion,
    with_other_compressor,
)

OPTIMIZE = ("bank", "optimize", "--keep-days", "0")
OPERATIONS: dict[str, tuple[str, ...]] = {
    "round": ("update", "--all"),
    "forget": ("forget", "ferry-1"),
    "undo": ("forget", "ferry-1", "--undo"),
    "purge": ("forget", "ferry-1", "--purge"),
    "rollback": ("rollback", "2031-02/0001"),
    "promote": ("update", "--all"),
    "optimize": OPTIMIZE,
    "ingest": ("ingest", "more"),
    "recompress": ("recompress",),
}
SPARSE = {"undo": 29, "recompress": 61}
"""Operations of hundreds of calls, most of which others make too: a fault hits every n-th."""
REPEATED = 4
"""After the fault at every fourth call the operation is repeated, which takes as long as all the
rest.
"""
REPAIR = "cmt bank optimize"
"""What `cmt verify` advises for an index that was not finished; the only repair that a fault may
leave to a person.
"""


@dataclass(frozen=True)
class Operation(Command):
    """An operation, and the contents of its project before and after it."""

    before: Content
    after: Content
    # whether it is two commits: the rounds, and the pointer to the bank that answers
    steps: bool = False

    @property
    def contents(self) -> tuple[Content, ...]:
        """What the project may have after a fault."""
        between = replace(self.after, answering=self.before.answering)
        return (self.before, self.after, between) if self.steps else (self.before, self.after)


def operations(project: Path, folder: Path, names: Sequence[str]) -> list[Operation]:
    """Run each operation once without a fault on a copy of `project`, which `build` wrote."""
    templates = dict.fromkeys(names, project)
    if "promote" in names:
        templates["promote"] = with_other_compressor(project, folder / "promoted")
    if "undo" in names:
        templates["undo"] = shutil.copytree(project, folder / "forgotten")
        run(templates["undo"], *OPERATIONS["forget"])
    if "recompress" in names:
        templates["recompress"] = with_champion(project, folder / "champion", filled=False)
    return [
        measure(name, OPERATIONS[name], templates[name], folder, steps=name == "recompress")
        for name in names
    ]


def measure(
    name: str, arguments: tuple[str, ...], template: Path, folder: Path, *, steps: bool = False
) -> Operation:
    """Run an operation once without a fault on a copy of `template`."""
    after, calls = undisturbed(name, arguments, template, folder, content)
    return Operation(name, arguments, template, calls, content(template), after, steps)


def every_point(
    project: Path,
    folder: Path,
    *,
    workers: int,
    every: int = 1,
    names: Sequence[str] = tuple(OPERATIONS),
    on_point: Callable[[int, int], None],
) -> Findings:
    """Inject every fault at every call of the operations `names`, or at every `every`-th.
    `on_point`: done and total.

    The operations run on copies of `project`, which `build` wrote, in `folder`.
    """
    found = operations(project, folder, names)
    return at_all_calls(
        found, check, folder, sparse=SPARSE, every=every, workers=workers, on_point=on_point
    )


def check(
    operation: Operation,
    project: Path,
    outcome: Outcome,
    where: str,
    findings: Findings,
    place: int,
) -> None:
    """Check what `operation` left in `project` after a fault at the call number `place`."""
    # 1. The command ended as it should: killed, or with its result, or with an error of one line.
    if outcome.status is None:
        return findings.add("wrong", f"{where}: it did not end")
    if "Traceback" in outcome.errors or "panicked" in outcome.errors:
        findings.add("wrong", f"{where}: {_last_line(outcome.errors)}")
    if outcome.status == 0 and _content(project) != operation.after:
        findings.add("silent", f"{where}: it reported success, but its result is not there")
    # 2. The next command completes or undoes it, and says so.
    interrupted = _is_open(project)
    with _log() as lines:
        try:
            workspace = opened(project)
            with recovery.updating(workspace.project):
                recovery.recover(workspace.project)
        except CmtError as error:
            return findings.add("wrong", f"{where}: the next command fails: {error}")
    if interrupted and not lines:
        findings.add("silent", f"{where}: the next command says nothing of the interruption")
    # 3. The content is the content before or after the operation.
    found = _content(project)
    if isinstance(found, str):
        return findings.add("wrong", f"{where}: {found}")
    if found not in operation.contents:
        kind = difference(found, operation.contents)
        return findings.add(kind, f"{where}: neither the content of before nor of after")
    # 4. Nothing is damaged, or `cmt verify` says how to repair it.
    left = problems(project)
    if left and all(REPAIR in problem for problem in left):
        run(project, *OPTIMIZE[:2])
        left = problems(project)
    if left:
        findings.add("wrong", f"{where}: cmt verify finds: {left[0]}")
    # 5. The operation can be repeated.
    if place % REPEATED == 0 and (found != operation.after or operation.name == "optimize"):
        repeated = run(project, *operation.arguments)
        if repeated.status != 0 or _content(project) != operation.after:
            findings.add(
                "wrong", f"{where}: repeated: {_last_line(repeated.errors) or 'another content'}"
            )


def _content(project: Path) -> Content | str:
    """The content, or the error that reading it raises."""
    try:
        return content(project)
    except (CmtError, RuntimeError) as error:  # the latter of Lance
        return f"{type(error).__name__}: {error}"


def _is_open(project: Path) -> bool:
    """Whether there is a round, rollback or forgetting without an end."""
    try:
        workspace = opened(project)
        if workspace.project.history.forgetting_journal.exists():
            return True
        return any(
            round_.state in ("started", "rolling_back")
            for round_ in workspace.project.ledger.rounds()
        )
    except CmtError:
        return False


def _last_line(text: str) -> str:
    lines = [
        line for line in text.splitlines() if line and not re.match(r"(\S+ )?\w+: .*\d s$", line)
    ]
    return lines[-1] if lines else ""


@contextmanager
def _log() -> Iterator[list[str]]:
    """The warnings of `cmt` that are logged meanwhile by this thread."""
    lines: list[str] = []
    handler = logging.Handler(logging.WARNING)
    thread = threading.get_ident()
    handler.emit = lambda record: (  # type: ignore[method-assign]
        lines.append(record.getMessage()) if record.thread == thread else None
    )
    logger = logging.getLogger("cmt")
    logger.addHandler(handler)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
