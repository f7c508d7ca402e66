"""`cmt bank …`: look after the stored memories, without loading an LM."""

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from cmt.cli import output
from cmt.cli.context import CommandApp, Json, print_result
from cmt.errors import RoundError

if TYPE_CHECKING:
    from cmt.workspace import Workspace

bank = CommandApp(help="The memory bank.")


@bank.command(epilog="Example: cmt bank stats --json")
def stats(ctx: typer.Context, as_json: Json = False) -> None:
    """Count rows, documents and bytes."""
    result = ctx.obj.workspace.stored_bank.stats()
    print_result(result, lambda: output.write_bank_stats(result), as_json=as_json)


@bank.command(epilog="Example: cmt bank optimize --keep-days 30")
def optimize(
    ctx: typer.Context,
    keep_days: Annotated[
        float | None,
        typer.Option(
            min=0, metavar="DAYS", help="Drop versions older than this; no rollback reaches them. Default: drop none."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Rebuild the indexes and compact the files, in the banks of all compressors."""
    workspace: Workspace = ctx.obj.workspace
    with ctx.obj.progress as progress, workspace.updating():
        progress.stage("optimize")
        keep = None
        if keep_days is not None:
            _check_no_interruption(workspace)
            keep = max(timedelta(days=keep_days), timedelta(milliseconds=1))
        for compressor_bank in workspace.banks():
            compressor_bank.optimize(**({} if keep is None else {"keep": keep}))
        result = workspace.stored_bank.stats()
    print_result(result, lambda: output.write_bank_stats(result), as_json=as_json)


def _check_no_interruption(workspace: "Workspace") -> None:
    """RoundError if a round or rollback was interrupted: its recovery needs the bank version before it."""
    for round_ in workspace.ledger.rounds():
        if round_.state in ("started", "rolling_back"):
            what = "round" if round_.state == "started" else "rollback of round"
            raise RoundError(
                f"the {what} {round_.round_id} of compressor {round_.compressor[:12]} was interrupted: "
                "run `cmt update` with that compressor before versions are dropped"
            )
