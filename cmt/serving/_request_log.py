"""The request log and the count of requests; each request gets an id, which X-Request-ID
returns.
"""

import json
import logging
import uuid
from datetime import UTC, datetime
from logging.handlers import WatchedFileHandler
from pathlib import Path
from time import perf_counter
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cmt.common.dates import iso
from cmt.serving._errors import REQUEST_ID
from cmt.serving._metrics import Metrics
from cmt.serving._middleware import request_state

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
LONGEST_QUESTION = 2_000  # characters of a question that the log keeps


class _PrivateFile(WatchedFileHandler):
    """A file that only its owner can read, even after a rotation."""

    def _open(self) -> Any:
        Path(self.baseFilename).touch(mode=0o600)
        return super()._open()


class RequestLog:
    """Counts every request and logs it as a line of JSON.

    A line has id, time, method, route, status, milliseconds and the name of the token. Addresses
    and paths are never logged, questions only with `questions`. `handler`: see `log_handler`.
    """

    def __init__(
        self, app: ASGIApp, *, handler: logging.Handler, questions: bool, metrics: Metrics
    ) -> None:
        self.app, self.questions, self.metrics = app, questions, metrics
        self._logger = logging.Logger(
            "cmt.requests"
        )  # not in the logger hierarchy, so no other log repeats it
        self._logger.addHandler(handler)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        began, time, status, answered = perf_counter(), datetime.now(UTC), 500, False
        # a client may send any word
        method = scope["method"] if scope["method"] in _METHODS else "other"
        state = request_state(scope)
        state["request_id"] = uuid.uuid4().hex

        async def send_with_id(message: Message) -> None:
            nonlocal status, answered
            if message["type"] == "http.response.start":
                status, answered = message["status"], True
                MutableHeaders(scope=message)[REQUEST_ID] = state["request_id"]
                self.metrics.count_request(method=method, route=_route(scope), status=status)
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except Exception:  # Starlette answers it outside this class
            if not answered:
                self.metrics.count_request(method=method, route=_route(scope), status=status)
            raise
        finally:
            token = state.get("token")
            entry = {
                "time": iso(time),
                "id": state["request_id"],
                "method": method,
                "route": _route(scope),
                "status": status,
                "ms": round(1000 * (perf_counter() - began), 1),
                "token": token.name if token else None,
            }
            if self.questions and "question" in state:
                entry["question"] = state["question"][:LONGEST_QUESTION]
            self._logger.info("%s", json.dumps(entry))


def log_handler(path: Path | None) -> logging.Handler:
    """A handler for stderr, or for the file `path`, which may be rotated. Raises OSError."""
    if path is None:
        return logging.StreamHandler()
    path.parent.mkdir(parents=True, exist_ok=True)
    return _PrivateFile(path)


def _route(scope: Scope) -> str:
    """The template of the route of a request; "" without a route."""
    return getattr(scope.get("route"), "path", "")
