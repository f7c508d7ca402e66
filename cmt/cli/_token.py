"""`cmt token …`: access to `cmt serve`."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cmt.cli import output
from cmt.cli.context import Json, print_result
from cmt.errors import ConfigError

if TYPE_CHECKING:
    from cmt.serving.tokens import TokenFile

token = typer.Typer(no_args_is_help=True, help="The bearer tokens of `cmt serve`.")
TokenName = Annotated[
    str, typer.Argument(metavar="NAME", help="Owner of the token, named in the request log.")
]


@token.command(epilog="Example: cmt token add newsroom --scope admin")
def add(
    ctx: typer.Context,
    name: TokenName,
    scope: Annotated[
        Literal["ask", "admin"],
        typer.Option(
            help="ask: ask and read the bank; admin: also ingest and forget.", show_choices=False
        ),
    ] = "ask",
    source: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE", help="Publisher of the documents that it ingests. Default: NAME."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Create a token and print it once; only its digest is stored."""
    secret = _file(ctx).add(name, scope=scope, source=source)
    print_result(
        {"name": name, "scope": scope, "source": source or name, "token": secret},
        secret,
        as_json=as_json,
    )
    may = "ask, ingest and forget" if scope == "admin" else "ask questions and read every document"
    output.write_line(f"store it now: it is not shown again; it may {may}", stderr=True)


@token.command("list", epilog="Example: cmt token list --json")
def list_(ctx: typer.Context, as_json: Json = False) -> None:
    """List the tokens by name, without the tokens themselves."""
    names = ["name", "scope", "source", "created_at"]
    tokens = [{name: getattr(entry, name) for name in names} for entry in _file(ctx).tokens()]
    rows = [[*entry.values()] for entry in tokens]
    print_result(
        {"tokens": tokens}, lambda: output.write_table(names, rows, left=4), as_json=as_json
    )


@token.command(epilog="Example: cmt token revoke newsroom")
def revoke(ctx: typer.Context, name: TokenName, as_json: Json = False) -> None:
    """Remove a token; a running server refuses its next request."""
    _file(ctx).revoke(name)
    print_result({"name": name}, f"the token of {name} is revoked", as_json=as_json)


def _file(ctx: typer.Context) -> "TokenFile":
    """The file that serving.token_file names. Raises ConfigError if it names none."""
    from cmt.serving.tokens import TokenFile

    path = ctx.obj.params.serving.token_file
    if path is None:
        raise ConfigError(
            "serving.token_file names no file: set it in params.yaml, such as `token_file: "
            "data/tokens.json`"
        )
    return TokenFile(path)
