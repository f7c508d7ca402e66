"""A command, run with a fault at each of its system calls, on copies of a project."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from tests.soak.faults import FAULTS
from tests.soak.findings import Findings, kind_of_file
from tests.soak.processes import mapping, run

Result = TypeVar("Result")


@dataclass(frozen=True)
class Command:
    """A command, and the project that it starts from."""

    name: str
    arguments: tuple[str, ...]
    template: Path
    calls: int  # system calls that it makes below the project


def undisturbed(
    name: str,
    arguments: tuple[str, ...],
    template: Path,
    folder: Path,
    result: Callable[[Path], Result],
) -> tuple[Result, int]:
    """The result of a command without a fault on a copy of `template`, and the number of its system
    calls.
    """
    project = shutil.copytree(template, folder / name)
    outcome = run(project, *arguments, fault="kill", place=0)
    if outcome.status != 0:
        raise RuntimeError(f"{name} fails without a fault: {outcome.errors}")
    after = result(project)
    shutil.rmtree(project)
    return after, outcome.calls


def at_all_calls(
    commands: Sequence[Command],
    check: Callable[..., None],
    folder: Path,
    *,
    sparse: dict[str, int],
    every: int,
    workers: int,
    on_point: Callable[[int, int], None],
) -> Findings:
    """Inject every fault at every call of the `commands`, on copies in `folder`; `on_point`: done
    and total.

    `check`: see `one_fault`. `sparse`: commands of which only each n-th call is hit. `every`: of
    all these faults, each n-th is injected.
    """
    findings = Findings()
    points = [
        (command, fault, place)
        for command in commands
        for fault in FAULTS
        for place in range(1, command.calls + 1, sparse.get(command.name, 1))
    ][::every]
    with mapping(workers) as map_:
        for done, found in enumerate(
            map_(partial(one_fault, folder, check), *zip(*points, strict=True)), 1
        ):
            findings.merge(found)
            on_point(done, len(points))
    return findings


def one_fault(
    folder: Path, check: Callable[..., None], command: Command, fault: str, place: int
) -> Findings:
    """Run `command` with one fault on a copy of its project in `folder`, and check what it left.

    `check` gets command, project, outcome, the place of the fault in words, the findings to add to,
    and `place`. It is not called if the fault hit no call, because another thread was faster, or
    tore no write.
    """
    findings = Findings()
    project = shutil.copytree(
        command.template,
        folder / f"{command.name}-{fault.replace(' ', '-').replace('/', '')}-{place}",
    )
    outcome = run(project, *command.arguments, fault=fault, place=place)
    if outcome.hit and (fault != "torn write" or "write" in outcome.hit.call):
        path = Path(outcome.hit.path)
        file = kind_of_file(path.relative_to(project.resolve()) if path.is_absolute() else path)
        findings.checked["fault_points"] += 1
        findings.faults[file, outcome.hit.call] += 1
        where = f"{command.name}, {fault} at call {place} ({outcome.hit.call} {file})"
        check(command, project, outcome, where, findings, place)
    shutil.rmtree(project)
    return findings
