"""A Hugging Face hub on 127.0.0.1 with one repository, `org/tiny` at `main`, as model and as dataset."""

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

COMMIT = "c" * 40


class Hub(http.server.BaseHTTPRequestHandler):
    """The part of the hub's HTTP API that a download uses, over the files in `folder`."""

    protocol_version = "HTTP/1.1"

    def __init__(self, *arguments: Any, folder: Path) -> None:
        self.folder = folder
        super().__init__(*arguments)

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        files = [file for file in self.folder.rglob("*") if file.is_file()]
        names = [str(file.relative_to(self.folder)) for file in files]
        path = self.path.partition("?")[0].replace("/api/datasets/", "/api/models/").replace("/datasets/", "/")
        if path == "/api/models/org/tiny/revision/main":
            self.reply({"id": "org/tiny", "sha": COMMIT, "siblings": [{"rfilename": name} for name in names]})
        elif path == f"/api/models/org/tiny/tree/{COMMIT}":
            self.reply(
                [
                    {"type": "file", "path": name, "size": file.stat().st_size, "oid": name}
                    for name, file in zip(names, files, strict=True)
                ]
            )
        elif path.startswith(f"/org/tiny/resolve/{COMMIT}/"):
            self.reply((self.folder / path.partition(COMMIT + "/")[2]).read_bytes())
        else:
            self.reply({}, status=404, reason="RevisionNotFound" if "/org/tiny/" in path else "RepoNotFound")

    do_HEAD = do_GET

    def reply(self, content: Any, *, status: int = 200, reason: str = "") -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{hash(body)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("X-Error-Code", reason)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


@contextmanager
def serving_hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Serve `folder` as `org/tiny`, and point the hub's client to this server."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Hub, folder=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
