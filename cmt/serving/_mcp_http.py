"""The Model Context Protocol over HTTP: the route `/mcp` of `cmt serve`.

There are no sessions: each request is complete in itself and gets one JSON response, so a restart
interrupts no client, and a client that disappears leaves nothing behind.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from mcp.server.transport_security import TransportSecuritySettings
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from cmt.project import Project
from cmt.serving._middleware import MAX_BODY_BYTES, request_state
from cmt.serving.mcp_server import MemoryServer, Served, create_server

PATH = "/mcp"


class McpEndpoint:
    """Answers the requests of `route`; `running` must be entered before the first one."""

    def __init__(self, project: Project, served: Served) -> None:
        """`served`: what answers the other routes, too."""
        # GET and DELETE are for sessions: 405 tells a client that there are none
        self.route = Route(PATH, endpoint=self, methods=["POST"], include_in_schema=False)
        logger = logging.getLogger()
        handlers, level = logger.handlers[:], logger.level
        self._reading, self._writing = (
            _over_http(create_server(project, write=write, served=served))
            for write in (False, True)
        )
        logger.handlers[:] = handlers  # MCPServer sets up the log for a process of its own
        logger.setLevel(level)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the tasks that answer requests."""
        async with self._reading.session_manager.run(), self._writing.session_manager.run():
            yield

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request with the tools that its token may call. HTTPException (403) for a
        request from a page of another site.
        """
        scope["route"] = self.route  # for the request log
        headers = Headers(scope=scope)
        origin, host = headers.get("origin"), headers.get("host", "")
        if origin is not None and origin.lower().partition("://")[2] != host.lower():
            raise HTTPException(403, f"a page of {origin[:100]!r} may not use {PATH}")
        token: Any = request_state(scope).get("token")
        server = self._writing if token and token.scope == "admin" else self._reading
        await server.session_manager.handle_request(scope, receive, send)


def _over_http(server: MemoryServer) -> MemoryServer:
    """Make the session manager of `server`; tokens, hosts and limits are those of `cmt serve`."""
    server.streamable_http_app(
        json_response=True,
        stateless_http=True,
        max_request_body_size=MAX_BODY_BYTES,
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )
    return server
