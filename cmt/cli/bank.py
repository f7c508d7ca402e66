"""`cmt bank …`: maintain the stored memories, without loading an LM."""

from typing import Annotated

import typer

from cmt.cli import output
from cmt.cli.context import Json, print_result

bank = typer.Typer(no_args_is_help=True, help="The memory bank.")


@bank.command(epilog="Example: cmt bank stats --json")
def stats(ctx: typer.Context, as_json: Json = False) -> None:
    """Count rows, documents and bytes."""
    result = ctx.obj.workspace.open_bank().stats()
    print_result(result, lambda: output.write_bank_stats(result), as_json=as_json)


@bank.command("optimize", epilog="Example: cmt bank optimize --keep-days 30")
def optimize_banks(
    ctx: typer.Context,
    keep_days: Annotated[
        float | None,
        typer.Option(
            min=0, metavar="DAYS", help="Drop older versions, which no rollback can then restore. Default: none."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Rebuild the indexes and compact the files, in the banks of all compressors."""
    from cmt.rounds.maintenance import optimize

    with ctx.obj.progress as progress:
        result = optimize(ctx.obj.workspace, keep_days=keep_days, progress=progress)
    print_result(result, lambda: output.write_bank_stats(result), as_json=as_json)
