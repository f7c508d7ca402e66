"""An S3 server of this machine, and a proxy before it that stores a write and reports its
failure.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread

BUCKET = "cmt-bank"


@contextmanager
def s3_server() -> Iterator[int]:
    """Port of an S3 server with an empty bucket."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = [str(Path(sys.executable).parent / "moto_server"), "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while _request(port, "PUT", f"/{BUCKET}") != 200:
            assert process.poll() is None and time.monotonic() < deadline, (
                "the S3 server does not answer"
            )
            time.sleep(0.2)
        yield port
    finally:
        process.kill()
        process.wait()


def _request(port: int, method: str, path: str) -> int:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, headers={"Host": f"127.0.0.1:{port}"})
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def environment(port: int) -> dict[str, str]:
    """What LanceDB reads: credentials, and the address of the server instead of Amazon's."""
    return {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT": f"http://127.0.0.1:{port}",
        "AWS_ALLOW_HTTP": "true",
    }


@dataclass
class Proxy:
    """Passes requests on. The writes `ambiguous`, counted from 1, are stored and then answered with
    503.
    """

    target: int
    ambiguous: frozenset[int] = frozenset()
    writes: list[str] = field(default_factory=list)
    """Paths of the writes so far."""
    lock: Lock = field(default_factory=Lock)

    @contextmanager
    def running(self) -> Iterator[int]:
        """Port of the proxy."""
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                connection = HTTPConnection("127.0.0.1", proxy.target, timeout=60)
                connection.request(self.command, self.path, body, dict(self.headers))
                reply = connection.getresponse()
                content = reply.read()
                status = (
                    503
                    if self.command == "PUT"
                    and reply.status == 200
                    and proxy.is_ambiguous(self.path)
                    else 0
                )
                self.send_response(status or reply.status)
                for name, value in reply.getheaders():
                    is_length = name.lower() == "content-length"
                    if (
                        name.lower() not in ("transfer-encoding", "connection", "date", "server")
                        and not is_length
                    ):
                        self.send_header(name, value)
                length = reply.getheader("Content-Length") if self.command == "HEAD" else None
                self.send_header("Content-Length", length or str(0 if status else len(content)))
                self.end_headers()
                if self.command != "HEAD" and not status:
                    self.wfile.write(content)
                connection.close()

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any

            def log_message(self, *_: object) -> None:
                """Nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def is_ambiguous(self, path: str) -> bool:
        """Count a write; whether its success is hidden."""
        with self.lock:
            self.writes.append(path)
            return len(self.writes) in self.ambiguous


def cli(folder: Path, port: int, *arguments: str) -> subprocess.Popen[str]:
    """A `cmt` process on the project in `folder`."""
    command = [sys.executable, "-m", "cmt", "--params", str(folder / "params.yaml"), *arguments]
    return subprocess.Popen(
        command,
        env=os.environ | environment(port),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
