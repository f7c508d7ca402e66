"""The server of `cmt serve` in this process, on a free port of 127.0.0.1."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import uvicorn
from fastapi import FastAPI

import cmt
from cmt.serving.app import create_app


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The address of a server over the project in `folder`."""
    with running(create_app(cmt.open(params=folder / "params.yaml"))) as url:
        yield url


@contextmanager
def running(app: FastAPI) -> Iterator[str]:
    """The address of a server of `app`."""
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=5))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
