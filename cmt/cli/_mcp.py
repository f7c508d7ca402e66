"""`cmt mcp`: let an assistant use the bank over the Model Context Protocol."""

from typing import Annotated

import typer


def mcp(
    ctx: typer.Context,
    write: Annotated[
        bool, typer.Option("--write", help="Also let the assistant ingest and forget documents.")
    ] = False,
    source: Annotated[
        str, typer.Option(metavar="NAME", help="Publisher of the documents that it ingests.")
    ] = "mcp",
) -> None:
    """Let an assistant such as Claude Desktop use the bank: it starts this command and talks to it
    over stdin and stdout.
    """
    project = ctx.obj.project  # a mistake in params.yaml ends the command before the imports
    from cmt.serving.mcp_server import create_server

    create_server(project, write=write, source=source).run("stdio")
