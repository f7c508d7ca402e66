"""`cmt init`: a project for your own documents, with them or with a small example to replace."""

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from cmt.cli import output
from cmt.cli.context import ColumnMap, Json, PublishedAt, parse_columns
from cmt.lm.source import folder_name

# an update in the example changed the answer to this question
_NEXT_COMMANDS = (
    "cmt model pull",
    "cmt ingest",
    "cmt update --all",
    'cmt ask "What is the toll on the Alder Bridge?"',
    'cmt ask "What is the toll on the Alder Bridge?" --as-of 2026-09-27',
)


def init(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.")],
    from_: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="PATH|URL", help="Documents to ingest: file, folder, feed or page."
        ),
    ] = None,
    map_: ColumnMap = None,
    published_at: PublishedAt = None,
    lm: Annotated[
        str | None,
        typer.Option(
            "--lm", metavar="SOURCE", help="LM to train a compressor for: hub:, path: or pypi:."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a project for your own documents: params.yaml, an example news.jsonl, and .gitignore.

    With --from: ingest these documents instead, adapt the newest ones, and answer up to three
    questions on them.
    """
    columns = parse_columns(map_)
    if from_ is not None and lm is not None:
        raise typer.BadParameter(
            "train for the LM first, then `cmt ingest` your documents", param_hint="--from, --lm"
        )
    if from_ is not None:
        from cmt.cli._own_documents import start

        return start(
            ctx.obj, folder, from_, columns=columns, published_at=published_at, as_json=as_json
        )
    if columns or published_at:
        raise typer.BadParameter(
            "it is for the documents of --from", param_hint="--map, --published-at"
        )
    from cmt.cli._new_project import write_project

    files = write_project(
        folder, lm=_absolute_source(lm) if lm else None, overrides=ctx.obj.overrides
    )
    next_commands = (
        [_NEXT_COMMANDS[0], "cmt data pull", "cmt train", *_NEXT_COMMANDS[1:]]
        if lm
        else _NEXT_COMMANDS
    )
    commands = [f"cd {shlex.quote(str(folder))}", *next_commands]
    if as_json:
        return output.write_json({"path": folder, "files": files, "commands": commands})
    output.write_line(f"{folder} has params.yaml, news.jsonl and .gitignore; next:")
    output.write_lines(commands, indent=2)


def _absolute_source(source: str) -> str:
    """`source` with an absolute path, or with a revision. Raises ConfigError if it is malformed."""
    if source.startswith("path:"):
        source = f"path:{os.path.realpath(os.path.expanduser(source.removeprefix('path:')))}"
    if source.startswith("hub:") and "@" not in source:
        source += "@main"
    folder_name(source)
    return source
