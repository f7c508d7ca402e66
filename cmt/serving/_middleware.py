"""ASGI middleware: allowed hosts, body limit and security headers; the state of a request."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cmt.serving._errors import problem

MAX_BODY_BYTES = 1_000_000
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",  # answers and documents stay in no cache
}


def request_state(scope: Scope) -> dict[str, Any]:
    """State of a request that middleware and routes share; `request.state` in routes."""
    state: dict[str, Any] = scope.setdefault("state", {})
    return state


class AllowedHosts:
    """Refuses requests whose Host header, without its port, is none of `hosts`; `*` allows any."""

    def __init__(self, app: ASGIApp, *, hosts: Sequence[str]) -> None:
        self.app, self.hosts = app, list(dict.fromkeys(host.lower() for host in hosts))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and "*" not in self.hosts:
            host = re.sub(r":\d*$", "", Headers(scope=scope).get("host", "").lower())
            if host not in self.hosts:
                message = (
                    f"the host {host[:100]!r} is not served here: use one of "
                    f"{', '.join(self.hosts)}"
                )
                return await problem(400, message)(scope, receive, send)
        await self.app(scope, receive, send)


class BodyLimit:
    """Refuses a body of more than MAX_BODY_BYTES, declared or not. `larger`: path → its own limit
    in bytes.
    """

    def __init__(self, app: ASGIApp, *, larger: Mapping[str, int]) -> None:
        self.app, self.larger = app, larger

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        largest = self.larger.get(scope["path"], MAX_BODY_BYTES)
        too_large = f"the request has more than {largest:,} bytes: send less at once"
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdecimal() and int(declared) > largest:
            return await problem(413, too_large)(scope, receive, send)
        received = 0

        async def counted_receive() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > largest:
                raise HTTPException(413, too_large)
            return message

        await self.app(scope, counted_receive, send)


class SecurityHeaders:
    """Adds HEADERS to every response. A request with two lengths ends its connection (RFC 9112,
    6.1), because a proxy may have taken the other one.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_two_lengths = scope["type"] == "http" and {
            "content-length",
            "transfer-encoding",
        } <= set(Headers(scope=scope).keys())

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
                if has_two_lengths:
                    MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        await self.app(scope, receive, with_headers)
