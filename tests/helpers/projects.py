"""Open, adapt, interrupt and inspect projects with a tiny LM."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml

import cmt
from cmt.config import dotted, set_dotted
from cmt.modeling.champion import Champion, Promoted, keep_compressor, write_champion
from cmt.modeling.checkpoint import CompressorConfig, checkpoint_digest
from cmt.modeling.loading import new_memory_model
from cmt.rounds.runner import STEPS as AFTER_BEGIN
from cmt.rounds.runner import RoundRunner
from cmt.workspace import Workspace

JANUARY, FEBRUARY = "2031-01/0001", "2031-02/0001"
"""The slices of the tiny project."""
STEPS = ("begin", *(step.method for step in AFTER_BEGIN if step.method != "track"))
"""The steps of a round up to its commit."""


def open_workspace(folder: Path, **overrides: Any) -> Workspace:
    """A newly opened workspace; the override `gate__min_f1=50` sets `gate.min_f1`."""
    values = {dotted(*name.split("__")): value for name, value in overrides.items()}
    return cmt.open(params=folder / "params.yaml", overrides=values)


def change_params(folder: Path, **sections: dict[str, Any]) -> None:
    """Set values in the project's params.yaml, by section."""
    file = folder / "params.yaml"
    params = yaml.safe_load(file.read_text())
    for name, values in sections.items():
        for key, value in values.items():
            set_dotted(params, dotted(name, key), value)
    file.write_text(yaml.safe_dump(params))


def run_steps(workspace: Workspace, slice_id: str, *, last: str) -> None:
    """Run a round up to the step `last`, like a process that is killed after it."""
    runner = RoundRunner(workspace.project, slice_id)
    for step in STEPS[: STEPS.index(last) + 1]:
        getattr(runner, step)()


def adapt(folder: Path) -> Path:
    """Take the project's articles into the stream and run every round."""
    workspace = open_workspace(folder)
    workspace.ingest()
    for slice_id in workspace.pending():
        workspace.update(slice_id=slice_id)
    return folder


def ingest_more(folder: Path, *, month: int, doc_ids: list[str]) -> None:
    """Add documents of a month of 2031, without questions, as another slice."""
    date = f"2031-{month:02}-10T07:00:00Z"
    rows = [{"doc_id": name, "published_at": date, "text": f"News of {name}."} for name in doc_ids]
    file = folder / "more.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    open_workspace(folder).ingest(source=file)


def lacking_memory(slice_id: str) -> Callable[[RoundRunner], Path]:
    """`RoundRunner.compress` that runs out of memory on the slice `slice_id`."""
    compress = RoundRunner.compress

    def failing(runner: RoundRunner) -> Path:
        if runner.slice.slice_id == slice_id:
            raise MemoryError
        return compress(runner)

    return failing


def states(workspace: Workspace) -> dict[str, str]:
    """The state of each round by its id."""
    return {round_.round_id: round_.state for round_ in workspace.rounds()}


def name_champion(folder: Path) -> Path:
    """Make another compressor the champion; its bank is not filled yet. Returns `folder`."""
    workspace = open_workspace(folder)
    old, new = workspace.params.compressor.path, save_other_compressor(workspace, folder / "new")
    for compressor in (old, new):
        keep_compressor(workspace.project.state, compressor)
    write_champion(workspace.project.state, Champion(_promoted(new), _promoted(old)))
    return folder


def _promoted(compressor: Path) -> Promoted:
    digest = checkpoint_digest(compressor)
    return Promoted(digest, digest[:12])


def save_other_compressor(workspace: Workspace, folder: Path) -> Path:
    """Write a compressor with other weights to `folder`; returns the folder."""
    torch.manual_seed(7)
    model = new_memory_model(workspace.project.lm, CompressorConfig.of(workspace.params))
    with torch.no_grad():
        for tensor in model.trained_tensors().values():
            tensor.add_(0.1 * torch.randn_like(tensor))
    model.save(folder)
    return folder
