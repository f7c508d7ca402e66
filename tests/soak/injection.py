"""A command, run with a fault at each of its system calls, on copies of a project."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tests.soak.faults import FAULTS
from tests.soak.findings import Findings, kind_of_file
from tests.soak.processes import Outcome, mapping, run

Result = TypeVar("Result")
AnyCommand = TypeVar("AnyCommand", bound="Command")


@dataclass(frozen=True)
class Command:
    """A command, and the project that it starts from."""

    name: str
    arguments: tuple[str, ...]
    template: Path
    calls: int
    """System calls that it makes below the project."""


def undisturbed(
    name: str, arguments: tuple[str, ...], template: Path, folder: Path, result: Callable[[Path], Result]
) -> tuple[Result, int]:
    """The result of a command without a fault on a copy of `template`, and the number of its system calls."""
    project = shutil.copytree(template, folder / name)
    outcome = run(project, *arguments, fault="kill", place=0)
    if outcome.status != 0:
        raise RuntimeError(f"{name} fails without a fault: {outcome.errors}")
    after = result(project)
    shutil.rmtree(project)
    return after, outcome.calls


def at_all_calls(
    commands: Sequence[AnyCommand],
    check: Callable[[AnyCommand, str, int], Findings],
    *,
    sparse: dict[str, int],
    every: int,
    workers: int,
    on_point: Callable[[int, int], None],
) -> Findings:
    """`check` every fault at every call of the `commands`; `on_point`: done and total.

    `sparse`: commands of which only each n-th call is hit. `every`: of all these faults, each n-th is injected.
    """
    findings = Findings()
    points = [
        (command, fault, place)
        for command in commands
        for fault in FAULTS
        for place in range(1, command.calls + 1, sparse.get(command.name, 1))
    ][::every]
    with mapping(workers) as map_:
        for done, found in enumerate(map_(check, *zip(*points, strict=True)), 1):
            findings.merge(found)
            on_point(done, len(points))
    return findings


@contextmanager
def with_fault(
    folder: Path, command: Command, fault: str, place: int, findings: Findings
) -> Iterator[tuple[Path, Outcome, str] | None]:
    """Run `command` with one fault on a copy of its project, and count it in `findings`.

    Yields the project, the outcome, and the place of the fault in words; None if the fault hit no call, because another
    thread was faster, or tore no write.
    """
    project = shutil.copytree(
        command.template, folder / f"{command.name}-{fault.replace(' ', '-').replace('/', '')}-{place}"
    )
    try:
        outcome = run(project, *command.arguments, fault=fault, place=place)
        if outcome.hit is None or (fault == "torn write" and "write" not in outcome.hit.call):
            yield None
            return
        path = Path(outcome.hit.path)
        file = kind_of_file(path.relative_to(project.resolve()) if path.is_absolute() else path)
        findings.checked["fault_points"] += 1
        findings.faults[file, outcome.hit.call] += 1
        yield project, outcome, f"{command.name}, {fault} at call {place} ({outcome.hit.call} {file})"
    finally:
        shutil.rmtree(project)
