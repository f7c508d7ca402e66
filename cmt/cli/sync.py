"""`cmt sync`: bring the stream in step with its sources."""

from typing import TYPE_CHECKING, Annotated

import typer

from cmt.cli import output
from cmt.cli.context import Json, print_result
from cmt.common.text import counted
from cmt.errors import CmtError, ConfigError, StreamError

if TYPE_CHECKING:
    from cmt.sources.sync import SyncReport
    from cmt.workspace import Workspace


def sync(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="The source. Default: all of them.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Compare alone; fetch and write nothing.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Fetch every item again, also unchanged ones.")] = False,
    accept_vanished: Annotated[
        bool, typer.Option("--accept-vanished", help="Go on however much vanished (max_vanished).")
    ] = False,
    as_json: Json = False,
) -> None:
    """Bring the stream in step with the sources of params.yaml: new, changed and vanished items.

    A source that cannot be listed does not stop the others; the command fails at its end.
    """
    workspace: Workspace = ctx.obj.workspace
    if not workspace.params.sources:
        raise ConfigError("no source: add one to `sources` in params.yaml, see docs/sources.md")
    reports: list[SyncReport] = []
    errors: list[CmtError] = []
    with ctx.obj.progress as progress:
        for each in [name] if name else [source.name for source in workspace.params.sources]:
            progress.title = each
            try:
                report = workspace.sync(
                    each, dry_run=dry_run, everything=everything, accept_vanished=accept_vanished, progress=progress
                )
                reports.append(report)
            except StreamError as error:
                errors.append(error)
    shown = {"sources": reports, "errors": [str(error) for error in errors]}
    print_result(shown, lambda: output.write_synced(reports), as_json=as_json)
    for earlier in errors[:-1]:
        output.write_line(f"error: {earlier}", style="red", stderr=True)
    if errors:
        raise errors[-1]
    if failed := sum(report.failed for report in reports):
        raise StreamError(f"{counted(failed, 'item')} could not be fetched: repeat it later")
