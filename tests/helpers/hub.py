"""A model hub on this machine, for downloads with `huggingface_hub`."""

import http.server
import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.sources import serving

COMMIT = "c" * 40


class Hub(http.server.BaseHTTPRequestHandler):
    """The part of the hub's HTTP interface that a download needs: one model, `org/tiny` at `main`,
    in `folder`.
    """

    protocol_version = "HTTP/1.1"

    def __init__(self, *arguments: Any, folder: Path) -> None:
        self.folder = folder
        super().__init__(*arguments)

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        files = [file for file in self.folder.rglob("*") if file.is_file()]
        names = [str(file.relative_to(self.folder)) for file in files]
        path = self.path.partition("?")[0]
        if path == "/api/models/org/tiny/revision/main":
            self.answer(
                {
                    "id": "org/tiny",
                    "sha": COMMIT,
                    "siblings": [{"rfilename": name} for name in names],
                }
            )
        elif path == f"/api/models/org/tiny/tree/{COMMIT}":
            rows = zip(names, files, strict=True)
            self.answer(
                [{"type": "file", "path": n, "size": f.stat().st_size, "oid": n} for n, f in rows]
            )
        elif path.startswith(f"/org/tiny/resolve/{COMMIT}/"):
            self.answer((self.folder / path.partition(COMMIT + "/")[2]).read_bytes())
        else:
            self.answer(
                {},
                status=404,
                reason="RevisionNotFound" if "/org/tiny/" in path else "RepoNotFound",
            )

    do_HEAD = do_GET

    def answer(self, content: Any, *, status: int = 200, reason: str = "") -> None:
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
def serve_hub(handler: type[Hub], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let `huggingface_hub` download from `folder`, through `handler`."""
    with serving(partial(handler, folder=folder)) as address:
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield
