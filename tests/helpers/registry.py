"""Compressors of the tiny project in a registry."""

from pathlib import Path

import cmt
from cmt.tracking.registry import Registry

HELD_OUT = "500 questions on 20 articles, seed 0"


def registry(folder: Path) -> Registry:
    workspace = cmt.open(params=folder / "params.yaml")
    return Registry(workspace.params.tracking, workspace.root)


def add(folder: Path, compressor: Path, **scores: float | None) -> str:
    params = cmt.open(params=folder / "params.yaml").params
    project = folder / "params.yaml"
    return registry(folder).add(compressor, project=project, params=params, scores=scores, held_out=HELD_OUT)
