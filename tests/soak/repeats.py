"""Faults at the system calls of commands that are repeated after an interruption: pull, train,
registry promote.

After the fault, their result is the one of before, the one of after, or an error that says which
command to run; the repeated command succeeds with the result of an undisturbed one, leaves no
temporary file, and the bank is unchanged.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import yaml

from cmt.errors import CmtError
from cmt.lm.integrity import read_record
from cmt.lm.weights import verify
from cmt.modeling.champion import champion_folder, read_champion
from cmt.modeling.checkpoint import CompressorConfig, checkpoint_digest, load_checkpoint
from cmt.modeling.loading import new_memory_model
from tests.helpers.lamps import write_lamps
from tests.helpers.projects import change_params
from tests.helpers.registry import add
from tests.helpers.tiny import write_gguf
from tests.soak.findings import Findings
from tests.soak.injection import Command, at_all_calls, undisturbed
from tests.soak.processes import Outcome, run
from tests.soak.project import opened

LEFTOVERS = (".*.tmp", ".partial-*", "tmp-checkpoint-*", "scratch/[0-9a-f]*", "*.unfinished")
"""Names of temporary files and folders."""


SPARSE = {
    "train": 41,
    "registry promote": 151,
}  # commands of hundreds of calls: a fault hits every n-th


@dataclass(frozen=True)
class Repeatable(Command):
    """A command, and what it has to leave."""

    result: Callable[[Path], str]
    """The result in a project: "" before the command. Raises CmtError for a result that the command
    has to repair.
    """
    after: str


def every_repeat(
    project: Path,
    folder: Path,
    *,
    workers: int,
    every: int = 1,
    on_point: Callable[[int, int], None],
) -> Findings:
    """Inject every fault at the calls of all commands, or at every `every`-th; `on_point`: done and
    total.
    """
    return at_all_calls(
        _commands(project, folder),
        _check,
        folder,
        sparse=SPARSE,
        every=every,
        workers=workers,
        on_point=on_point,
    )


def _check(
    command: Repeatable, project: Path, outcome: Outcome, where: str, findings: Findings, _: int
) -> None:
    # 1. The command ended as it should.
    if outcome.status not in (0, 1, -9):
        findings.add("wrong", f"{where}: it did not end, or with status {outcome.status}")
    if "Traceback" in outcome.errors:
        findings.add("wrong", f"{where}: {outcome.errors.splitlines()[-1]}")
    # 2. The result is whole.
    found = _result(command, project)
    if found not in ("", command.after) and f"run `cmt {command.arguments[0]}" not in found:
        findings.add("wrong", f"{where}: its result is {found}")
    if outcome.status == 0 and found != command.after:
        findings.add(
            "silent", f"{where}: it reported success, but its result is {found or 'not there'}"
        )
    # 3. The repeated command succeeds, and leaves nothing else.
    repeated = run(project, *command.arguments)
    found = _result(command, project)
    if repeated.status != 0 or found != command.after:
        findings.add("wrong", f"{where}: repeated: {repeated.errors[-300:] or found}")
    if left := [str(path) for name in LEFTOVERS for path in project.rglob(name)]:
        findings.add("wrong", f"{where}: {', '.join(left)} is left")


def _result(command: Repeatable, project: Path) -> str:
    try:
        return command.result(project)
    except CmtError as error:
        return str(error)


def _commands(project: Path, folder: Path) -> list[Repeatable]:
    """The commands, with their projects in `folder`."""
    # 1. The LM as a GGUF file, which is converted.
    to_pull = folder / "to-pull"
    to_pull.mkdir()
    write_gguf(to_pull / "tiny.gguf")
    (to_pull / "params.yaml").write_text(
        yaml.safe_dump({"lm": {"source": "path:tiny.gguf", "path": "lm"}})
    )
    # 2. Four articles to train on.
    trainable = shutil.copytree(project, folder / "to-train")
    lessons = {**write_lamps(trainable, ["Ann", "Bea", "Cyd", "Dot"]), "output": "trained"}
    change_params(trainable, train=lessons)
    # 3. Two versions in MLflow, of which the newer one has smaller keys.
    registered = shutil.copytree(trainable, folder / "registered")
    change_params(
        registered,
        tracking={"enabled": True},
        promotion={"max_loss": 100.0, "min_saving": 0.01, "questions": 1},
    )
    workspace = opened(registered)
    torch.manual_seed(7)
    design = replace(CompressorConfig.of(workspace.params), key_dim=8)
    new_memory_model(workspace.project.lm, design).save(registered / "other")
    add(registered, workspace.params.compressor.path, f1=40.0)
    add(registered, registered / "other", f1=41.0)
    commands = (
        ("pull", ("model", "pull"), to_pull, _pulled),
        ("train", ("train",), trainable, _trained),
        ("registry promote", ("registry", "promote"), registered, _promoted),
    )
    repeatable = []
    for name, arguments, template, result in commands:
        after, calls = undisturbed(name, arguments, template, folder, result)
        repeatable.append(Repeatable(name, arguments, template, calls, result, after))
    return repeatable


def _pulled(project: Path) -> str:
    params = opened(project).params.lm
    if not list((project / "lm").glob("tiny*")):
        return ""
    return read_record(verify(source=params.source, path=params.path)).digest


def _trained(project: Path) -> str:
    folder = project / "trained"
    if not (folder / "compressor.safetensors").exists():
        return ""
    load_checkpoint(folder)
    return checkpoint_digest(folder)


def _promoted(project: Path) -> str:
    workspace = opened(project)
    if (named := read_champion(workspace.project.state)) is None:
        return ""
    for one in (named.champion, named.previous):
        load_checkpoint(champion_folder(workspace.project.state, one.digest))
    return json.dumps([named.champion.digest, named.previous.digest])
