"""`cmt changes`: the changes that rounds inferred, and how to reject them; no LM is loaded."""

from typing import TYPE_CHECKING, Annotated

import typer

from cmt.cli import output
from cmt.cli.context import Json, print_result

if TYPE_CHECKING:
    from cmt.project import Project


def changes(
    ctx: typer.Context,
    doc_ids: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[DOC_ID]...", help="Only changes that name one of these documents."
        ),
    ] = None,
    reject: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="Give this change no effect on answers; can be repeated."),
    ] = None,
    restore: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="Undo the rejection of this change; can be repeated."),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the changes that rounds found between documents, or reject some.

    A rejected change stays rejected when a round finds it again. No document is changed or hidden.
    """
    from cmt.evaluation.changes.report import describe
    from cmt.rounds.care.rejection import set_states

    wanted = {*(reject or ()), *(restore or ())}
    if wanted and doc_ids:
        raise typer.BadParameter(
            "name documents, or use --reject and --restore", param_hint="DOC_ID"
        )
    project: Project = ctx.obj.project
    if wanted:
        with ctx.obj.stage("changes"):
            set_states(project, reject=reject or (), restore=restore or ())
    found = [
        report
        for report in describe(project, doc_ids or ())
        if not wanted or report.change.id in wanted
    ]
    nothing = f"no change names {' or '.join(doc_ids)}" if doc_ids else "no change was found"
    print_result(
        {"changes": [report.to_json() for report in found]},
        (lambda: output.write_changes(found)) if found else nothing,
        as_json=as_json,
    )
