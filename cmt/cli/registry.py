"""`cmt registry …`: compressors in MLflow's model registry, and which of them is the champion."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cmt.cli import output
from cmt.cli.context import Json, report

if TYPE_CHECKING:
    from cmt.tracking.registry import Registry

registry = typer.Typer(no_args_is_help=True, help="The registered compressors.")


@registry.command(epilog="Example: cmt registry add data/trained")
def add(
    ctx: typer.Context,
    folder: Annotated[
        Path | None, typer.Argument(metavar="FOLDER", help="The compressor. Default: compressor.path.")
    ] = None,
    questions: Annotated[int, typer.Option(min=1, help="Held-out questions to measure it on.")] = 500,
    as_json: Json = False,
) -> None:
    """Measure a compressor on held-out articles, and register it as a version that can be served."""
    workspace = ctx.obj.workspace
    folder = folder or workspace.params.compressor.path
    with ctx.obj.display as display:
        display.stage("load")
        from cmt.evaluation.held_out import measure_compressor

        display.stage("evaluate")
        scores, held_out = measure_compressor(workspace, folder, questions=questions)
        display.stage("register")
        version = _registry(ctx).add(
            folder, project=ctx.obj.params, params=workspace.params, scores=scores, held_out=held_out
        )
    line = f"{folder} is version {version}, F1 {scores['f1']:.1f} ({held_out})"
    line += f"; `cmt registry promote {version}` puts it to use"
    report({"version": version, "held_out": held_out, "scores": scores}, line, as_json=as_json)


@registry.command(epilog="Example: cmt registry promote 3")
def promote(
    ctx: typer.Context,
    version: Annotated[str | None, typer.Argument(metavar="VERSION", help="Default: the newest.")] = None,
    as_json: Json = False,
) -> None:
    """Make a version the champion if its held-out F1 is higher than the champion's."""
    done = _registry(ctx).promote(version)
    state = "is now the champion" if done.promoted else "does not become the champion"
    report(done, f"version {done.version} {state}: {done.reason}", as_json=as_json)


@registry.command("list", epilog="Example: cmt registry list --json")
def list_(ctx: typer.Context, as_json: Json = False) -> None:
    """List the versions with their scores, the newest first."""
    found = _registry(ctx).versions()
    rows = [[v.version, "champion" if v.champion else "", v.digest[:12], v.held_out, v.f1] for v in found]
    names = ["version", "alias", "compressor", "measured on", "F1"]
    report({"versions": found}, lambda: output.write_table(names, rows, left=4), as_json=as_json)


def _registry(ctx: typer.Context) -> "Registry":
    from cmt.tracking.registry import Registry

    workspace = ctx.obj.workspace
    return Registry(workspace.params.tracking, workspace.root)
