"""`cmt sync`: synchronise the stream with its sources."""

from collections.abc import Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from cmt.cli import output
from cmt.cli.context import Json, print_result
from cmt.common.secrets import mask_secrets
from cmt.errors import StreamError
from cmt.text.display import counted

if TYPE_CHECKING:
    from cmt.workspace import Workspace


def sync(
    ctx: typer.Context,
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="The source. Default: all of them.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only compare; fetch and write nothing.")
    ] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Fetch every item again, even unchanged ones.")
    ] = False,
    accept_vanished: Annotated[
        bool,
        typer.Option(
            "--accept-vanished",
            help="Continue even if more than max_vanished of the items vanished.",
        ),
    ] = False,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch", help="Run until Ctrl-C: sync a changed folder, other sources on schedule."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Synchronise the stream with the sources of params.yaml: new, changed and vanished items.

    A source that cannot be listed does not stop the others, but the command fails at the end.
    """
    if watch and (dry_run or everything or accept_vanished):
        raise typer.BadParameter(
            "takes neither --dry-run, --all nor --accept-vanished: sync with them before",
            param_hint="--watch",
        )
    from cmt.sources.turns import Turns

    workspace: Workspace = ctx.obj.workspace
    if not workspace.params.sources:
        raise StreamError("no source: add one to `sources` in params.yaml, see docs/sources.md")
    names = [name] if name else [source.name for source in workspace.params.sources]
    if watch:
        return _watch(ctx, names, as_json=as_json)
    with ctx.obj.progress as progress:
        turns = Turns(
            lambda each, steps: workspace.sync(
                each,
                dry_run=dry_run,
                everything=everything,
                accept_vanished=accept_vanished,
                progress=steps,
            )
        )
        for each in names:
            progress.title = each
            turns.start(each, progress)
        outcomes = dict(turns.all_ended())
    of_sources = [outcomes[each] for each in names]
    reports = [one for one in of_sources if not isinstance(one, Exception)]
    errors = [one for one in of_sources if isinstance(one, Exception)]
    shown = {"sources": reports, "errors": [str(error) for error in errors]}
    print_result(shown, lambda: output.write_synced(reports), as_json=as_json)
    _raise_last(errors, failed=sum(report.failed for report in reports))


def _raise_last(errors: Sequence[Exception], *, failed: int) -> None:
    """Print all errors but the last one, which is raised; or raise if items `failed`."""
    for earlier in errors[:-1]:
        output.write_line(f"error: {earlier}", style="red", stderr=True)
    if errors:
        raise StreamError(str(errors[-1]))
    if failed:
        raise StreamError(f"{counted(failed, 'item')} could not be fetched: repeat it later")


def _watch(ctx: typer.Context, names: list[str], *, as_json: bool) -> None:
    """Sync each source when it is due, until Ctrl-C.

    Prints each sync that changed the stream, and the problems that the source did not have at its
    last sync.
    """
    from cmt.sources.turns import Turns
    from cmt.sources.watch import WatchedSource, wait

    workspace: Workspace = ctx.obj.workspace
    opened = [WatchedSource(*workspace.open_source(name)[:2]) for name in names]
    sources = {source.name: source for source in opened}
    turns = Turns(
        lambda name, steps: workspace.sync(name, settled=sources[name].settled, progress=steps)
    )
    output.write_line(f"watching {', '.join(names)} until Ctrl-C", stderr=True)
    shown: dict[str, list[str]] = {}
    while True:
        ctx.obj.progress.current = "watch"
        idle = [source for source in opened if source.name not in turns.running]
        for source in wait(idle, once=len(idle) < len(opened)):
            progress = None if source.name in shown else ctx.obj.progress  # the first takes long
            with progress or nullcontext():
                turns.start(source.name, progress)
        for name, outcome in turns.ended():
            report = None if isinstance(outcome, Exception) else outcome
            problems = report.problems if report else [f"error: {mask_secrets(str(outcome))}"]
            changed = report and (report.slices or report.forgotten)
            if changed or problems != shown.get(name, []):
                for problem in problems:
                    output.write_line(f"{name}: {problem}", style="red", stderr=True)
                if report and as_json:
                    output.write_json(report, indent=None)
                elif report:
                    output.write_line(
                        f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}Z {name}: {report.summary()}"
                    )
            shown[name] = problems
