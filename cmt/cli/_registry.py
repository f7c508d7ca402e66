"""`cmt registry …`: compressors as versions in MLflow's model registry, one of them the
champion.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cmt.cli import output
from cmt.cli.context import Json, print_result

if TYPE_CHECKING:
    from cmt.project import Project

registry = typer.Typer(no_args_is_help=True, help="The registered compressors.")


@registry.command(epilog="Example: cmt registry add data/trained")
def add(
    ctx: typer.Context,
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="FOLDER", help="The compressor. Default: compressor.path."),
    ] = None,
    questions: Annotated[
        int, typer.Option(min=1, metavar="N", help="Held-out questions to measure it on.")
    ] = 500,
    as_json: Json = False,
) -> None:
    """Measure a compressor on held-out articles and register it as a version that can be served."""
    from cmt.evaluation.held_out import measure_compressor

    project: Project = ctx.obj.project
    folder = folder or project.params.compressor.path
    with ctx.obj.stage("evaluate") as progress:
        scores, held_out = measure_compressor(project, folder, questions=questions)
        progress.stage("register")
        version = project.registry.add(
            folder,
            project=ctx.obj.params_path,
            params=project.params,
            scores=scores,
            held_out=held_out,
        )
    line = f"{folder} is version {version}, F1 {scores['f1']:.1f} ({held_out})"
    line += f"; `cmt registry promote {version}` makes it the champion if it is better"
    print_result(
        {"version": version, "held_out": held_out, "scores": scores}, line, as_json=as_json
    )


@registry.command(epilog="Example: cmt registry promote 3")
def promote(
    ctx: typer.Context,
    version: Annotated[
        str | None, typer.Argument(metavar="VERSION", help="Default: the newest.")
    ] = None,
    slice_: Annotated[
        str | None,
        typer.Option("--slice", metavar="SLICE", help="The deciding slice. Default: the newest."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare a version with the active compressor, and make it the champion if it is better on the
    stream.
    """
    from cmt.rounds.promotion import promote_version

    project: Project = ctx.obj.project
    with ctx.obj.stage("load") as progress:
        promotion = promote_version(project, version, slice_id=slice_, progress=progress)
    state = "is now the champion" if promotion.promoted else "does not become the champion"
    line = f"version {promotion.version} {state}: {promotion.reason}"
    if promotion.promoted and promotion.figures:
        line += "; the previous compressor answers until `cmt recompress` has filled the new bank"
    if promotion.figures and not as_json:
        output.write_table(["", "challenger", "in use"], promotion.figures.rows())
    print_result(promotion, line, as_json=as_json)


@registry.command(epilog="Example: cmt registry rollback")
def rollback(ctx: typer.Context, as_json: Json = False) -> None:
    """Return to the previous champion, and adapt the slices added since."""
    from cmt.rounds.promotion import roll_back_promotion
    from cmt.rounds.recompression import recompress

    with ctx.obj.stage("rollback") as progress:
        roll_back_promotion(ctx.obj.project)
        result = recompress(ctx.obj.project, progress=progress, sleep=lambda _: None)
    line = (
        f"compressor {result.compressor[:12]} is the champion again and answers; slices "
        f"adapted: {result.slices}"
    )
    print_result(result, line, as_json=as_json)


@registry.command("list", epilog="Example: cmt registry list --json")
def list_(ctx: typer.Context, as_json: Json = False) -> None:
    """List the versions with their scores, newest first."""
    versions = ctx.obj.project.registry.versions()
    rows = [[v.version, ", ".join(v.aliases), v.digest[:12], v.held_out, v.f1] for v in versions]
    names = ["version", "aliases", "compressor", "measured on", "F1"]
    print_result(
        {"versions": versions}, lambda: output.write_table(names, rows, left=4), as_json=as_json
    )
