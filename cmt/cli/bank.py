"""`cmt bank …`: look after the stored memories. No LM is loaded for it."""

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from cmt.cli import output
from cmt.cli.context import Json, report
from cmt.errors import BankError, RoundError

if TYPE_CHECKING:
    from cmt.workspace import Workspace

bank = typer.Typer(no_args_is_help=True, help="The memory bank.")


@bank.command(epilog="Example: cmt bank verify")
def verify(ctx: typer.Context, as_json: Json = False) -> None:
    """Check every stored row; exit with 1 when something is wrong."""
    with ctx.obj.display as display:
        display.stage("verify")
        stored = ctx.obj.workspace.stored_bank
        problems, digest, rows = stored.verify(), stored.digest(), stored.count_rows()
    lines = problems or [f"all is well with {rows:,} rows; digest {digest}"]
    found = {"rows": rows, "digest": digest, "problems": problems}
    report(found, lambda: output.write_lines(lines), as_json=as_json)
    if problems:
        raise BankError(f"the bank has {len(problems)} problem{'s' if len(problems) > 1 else ''}")


@bank.command(epilog="Example: cmt bank stats --json")
def stats(ctx: typer.Context, as_json: Json = False) -> None:
    """Count rows, documents and bytes."""
    found = ctx.obj.workspace.stored_bank.stats()
    report(found, lambda: output.write_values(found), as_json=as_json)


@bank.command(epilog="Example: cmt bank optimize --keep-days 30")
def optimize(
    ctx: typer.Context,
    keep_days: Annotated[
        float | None,
        typer.Option(min=0, help="Drop versions older than this; no rollback reaches them. Default: none."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compact the files and bring the indexes up to date, in the banks of all compressors."""
    workspace: Workspace = ctx.obj.workspace
    with ctx.obj.display as display, workspace.updating():
        display.stage("optimize")
        how = {}
        if keep_days is not None:
            _check_finished(workspace)
            how["keep"] = max(timedelta(days=keep_days), timedelta(milliseconds=1))
        for one in workspace.banks():
            one.optimize(**how)
        found = workspace.stored_bank.stats()
    report(found, lambda: output.write_values(found), as_json=as_json)


def _check_finished(workspace: "Workspace") -> None:
    """An interrupted round or rollback still needs the version before it."""
    for round_ in workspace.ledger.rounds():
        if round_.state in ("started", "rolling_back"):
            what = "round" if round_.state == "started" else "rollback of round"
            raise RoundError(
                f"the {what} {round_.round_id} of compressor {round_.compressor[:12]} was interrupted: "
                "run `cmt update` with it before versions are dropped"
            )
