"""Compressors of the tiny project in a registry."""

from pathlib import Path

from tests.helpers.projects import open_workspace

HELD_OUT = "500 questions on 20 articles, seed 0"


def add(folder: Path, compressor: Path, **scores: float | None) -> str:
    """Register a compressor with the project in `folder`; returns its version."""
    workspace, project = open_workspace(folder), folder / "params.yaml"
    return workspace.project.registry.add(
        compressor, project=project, params=workspace.params, scores=scores, held_out=HELD_OUT
    )
