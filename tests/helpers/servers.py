"""The server of `cmt serve` in this process, on a free port of 127.0.0.1."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import uvicorn
from starlette.types import ASGIApp

from cmt.serving.app import create_app
from cmt.serving.protocol import TimedProtocol, server_config
from tests.helpers.projects import open_workspace


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The address of a server over the project in `folder`."""
    with running(create_app(open_workspace(folder).project)) as url:
        yield url


@contextmanager
def serving_client(
    folder: Path, *, proxies: tuple[str, ...] = (), **overrides: Any
) -> Iterator[httpx.Client]:
    """A client of a server over the project in `folder`; `overrides` as for `open_workspace`."""
    app = create_app(open_workspace(folder, **overrides).project)
    with running(app, proxies=proxies) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client


@contextmanager
def running(
    app: ASGIApp,
    *,
    proxies: tuple[str, ...] = (),
    http: type[TimedProtocol] = TimedProtocol,
    port: int = 0,
) -> Iterator[str]:
    """The address of a server of `app`, which speaks `http`; `proxies`: see `serving.proxies`.
    `port`: 0 is a free one.
    """
    config = server_config(app, proxies=proxies)
    config.http = http
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", port)) as listener:
        thread = Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
