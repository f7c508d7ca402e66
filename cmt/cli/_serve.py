"""`cmt serve`: answer questions over HTTP until Ctrl-C."""

import ipaddress
import socket
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from cmt.cli.context import Json, print_result
from cmt.cli.output import write_line
from cmt.errors import ServiceError

if TYPE_CHECKING:
    from cmt.project import Project


def serve(
    ctx: typer.Context,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Address to listen on.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(metavar="PORT", min=0, max=65_535, help="0: a free port.")
    ] = 8000,
    as_json: Json = False,
) -> None:
    """Answer over HTTP: a web page, JSON, the OpenAI interface and metrics. `/docs` describes
    them.
    """
    project: Project = ctx.obj.project
    has_tokens = project.params.serving.token_file is not None
    if not (has_tokens or _is_loopback(host)):
        raise ServiceError(
            f"without tokens anyone who reaches {host} can read every document: set "
            "serving.token_file, run "
            "`cmt token add NAME`, or leave out --host"
        )
    try:
        listener = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET
        )
    except OSError as error:
        reason = str(error.strerror).partition(" (while")[0]  # Python repeats the address there
        raise ServiceError(
            f"cannot listen on {host} port {port} ({reason}): "
            "stop the program that listens there, or name another address with --host and --port"
        ) from None
    with listener:
        # 1. load the model while connections wait
        with ctx.obj.stage("load") as progress:
            from cmt.serving.app import LOOPBACK, create_app
            from cmt.serving.protocol import run

            # with tokens any Host is safe: a page of another site has no token
            app = create_app(project, hosts=["*"] if has_tokens else [*LOOPBACK, host])
        # 2. print the address
        progress.current = "serve"
        if not _is_loopback(host):
            warning = (
                f"warning: tokens, questions and answers travel to {host} unencrypted: "
                "put a TLS proxy in front"
            )
            write_line(warning, style="yellow", stderr=True)
        url = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
        print_result({"url": url}, f"answering on {url} until Ctrl-C", as_json=as_json)
        sys.stdout.flush()  # a parent process may be waiting for the line
        # 3. serve until Ctrl-C or SIGTERM
        run(app, listener, proxies=project.params.serving.proxies)


def _is_loopback(host: str) -> bool:
    """Whether `host` is localhost or a loopback address; other names are not resolved."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
