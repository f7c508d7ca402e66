"""`cmt serve`: questions over HTTP, until Ctrl-C."""

import socket
import sys
from contextlib import suppress
from typing import Annotated

import typer

from cmt.cli.context import Json, report
from cmt.cli.output import write_line
from cmt.errors import ServiceError

_LOCAL = ("127.0.0.1", "::1", "localhost")
_GRACE_SECONDS = 5  # for answers that are under way at Ctrl-C


def serve(
    ctx: typer.Context,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 takes a free one.")] = 8000,
    as_json: Json = False,
) -> None:
    """Answer over HTTP: a web page, JSON, OpenAI's interface, metrics; its page /docs says more."""
    workspace = ctx.obj.workspace
    with _listening(host, port) as listener:
        with ctx.obj.display as display:
            display.stage("load")
            import uvicorn

            from cmt.serving.app import LOOPBACK, create_app

            app = create_app(workspace, hosts=LOOPBACK if host in _LOCAL else ["*"])
        if host not in _LOCAL:
            write_line(f"warning: whoever reaches {host} can ask, and read every document", style="yellow", stderr=True)
        url = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
        report({"url": url}, f"answering on {url} until Ctrl-C", as_json=as_json)
        sys.stdout.flush()  # who started this with a pipe waits for the line
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=_GRACE_SECONDS, server_header=False)
        with suppress(KeyboardInterrupt):  # the way to end it
            uvicorn.Server(config).run(sockets=[listener])


def _listening(host: str, port: int) -> socket.socket:
    """A socket that takes connections from now on. ServiceError when the address is not to be had."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        reason = str(error.strerror).partition(" (while")[0]  # Python adds the address once more
        raise ServiceError(
            f"cannot listen on {host} port {port} ({reason}): "
            "end what listens there, or name another address with --host and --port"
        ) from None
