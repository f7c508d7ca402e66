"""Asking a running `cmt serve` of the same project, so that no model is loaded.

`cmt serve` writes `server.json` to the state folder of its project. A server is used only if its `/health` reports the
same project and the same parameters, and if the compressor was not replaced after the start of the server. The bank
needs no comparison: its address is one of these parameters, and a server answers every question from the newest
version at that address.

A server with tokens gets the one in the environment variable CMT_TOKEN, once it is known that the process that wrote
`server.json` still runs: otherwise a process that took over its port would receive the token.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cmt.answering.answer import Answer, Source, Span
from cmt.common.dates import iso
from cmt.config import Params, state_folder
from cmt.serving.identity import answering_digest, project_digest

FILE = "server.json"
TOKEN_VARIABLE = "CMT_TOKEN"  # noqa: S105 - the name of the variable
_HOST = "127.0.0.1"
_CHECKPOINT = ("config.json", "compressor.safetensors")
_HEALTH_SECONDS = 2.0
_ANSWER_SECONDS = 120.0


@contextmanager
def announced(state: Path, *, host: str, port: int, started_at: datetime) -> Iterator[None]:
    """Keep `server.json` in the folder `state` while a server listens on `host`, if that is reachable as 127.0.0.1.

    `started_at`: an instant before the server loaded its compressor. A folder that cannot be written is no error; then
    `cmt ask` does not find the server.
    """
    from cmt.common.storage import write_json

    file = state / FILE
    if host not in (_HOST, "localhost", "0.0.0.0"):  # noqa: S104 - compared, not listened on
        yield
        return
    record = {"url": f"http://{_HOST}:{port}", "pid": os.getpid(), "started_at": iso(started_at)}
    with suppress(OSError):
        write_json(file, record)
    try:
        yield
    finally:
        with suppress(OSError, ValueError):
            if json.loads(file.read_text()) == record:  # a server that started later may have replaced it
                file.unlink()


class ServerClient:
    """A server on this computer that answers for one project."""

    def __init__(self, port: int, *, token: str = "") -> None:
        self._port = port
        self._headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})

    @classmethod
    def find(cls, root: Path, params: Params) -> "ServerClient | None":
        """The running server of the project in the folder `root` and of these parameters, or None."""
        try:
            # 1. the announced address
            record = json.loads((state_folder(params, root) / FILE).read_text())
            url = urlsplit(record["url"])
            if url.scheme != "http" or url.hostname != _HOST or not url.port:
                return None
            # 2. the compressor is the one that the server loaded
            changed = max((params.compressor.path / name).stat().st_ctime for name in _CHECKPOINT)
            if changed > datetime.fromisoformat(record["started_at"]).timestamp():
                return None
            # 3. project and parameters are the same
            token = os.environ.get(TOKEN_VARIABLE, "")
            if token:
                os.kill(record["pid"], 0)  # OSError if it ended, or is another user's
            client = cls(url.port, token=token)
            health = client._request("GET", "/health", timeout=_HEALTH_SECONDS)
            own = project_digest(root), answering_digest(params)
            return client if (health["project"], health["params"]) == own else None
        except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, HTTPException):
            return None

    def ask(self, question: str, as_of: datetime | None) -> Answer | None:
        """The server's answer, or None if the request fails."""
        body = {"question": question, "as_of": None if as_of is None else iso(as_of)}
        try:
            return _answer(self._request("POST", "/ask", body, timeout=_ANSWER_SECONDS))
        except (OSError, ValueError, LookupError, TypeError, AttributeError, HTTPException):
            return None

    def _request(self, method: str, path: str, body: object = None, *, timeout: float) -> dict[str, Any]:
        """The JSON object of a response. Raises OSError, HTTPException, ValueError."""
        connection = HTTPConnection(_HOST, self._port, timeout=timeout)  # knows no proxies
        try:
            content = None if body is None else json.dumps(body)
            connection.request(method, path, content, self._headers)
            response = connection.getresponse()
            if response.status != 200:
                raise ValueError(f"status {response.status}")
            value = json.loads(response.read())
        finally:
            connection.close()
        if not isinstance(value, dict):
            raise ValueError("not a JSON object")
        return value


def _answer(reply: dict[str, Any]) -> Answer:
    """The body of `POST /ask` as an Answer."""
    sources = tuple(_source(source) for source in reply["sources"])
    return Answer(
        reply["question"],
        reply["answer"],
        reply["verdict"],
        reply["confidence"],
        sources,
        id=reply["id"],
        uncalibrated=reply["uncalibrated"],
    )


def _source(source: dict[str, Any]) -> Source:
    return Source(
        doc_id=source["doc_id"],
        title=source["title"],
        published_at=datetime.fromisoformat(source["published_at"]),
        similarity=source["similarity"],
        weight=source["weight"],
        text=source["text"],
        spans=tuple(Span(**span) for span in source["spans"]),
        quote=Span(**source["quote"]) if source["quote"] else None,
        supersedes=source["supersedes"],
    )
