"""The ASGI application: routes, error handlers, middleware and the web page."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import FastAPI
from fastapi.responses import FileResponse
from starlette.staticfiles import StaticFiles

from cmt import __version__
from cmt.common.imports import missing_extra
from cmt.project import Project
from cmt.serving import _admin, _openai, _routes
from cmt.serving._admin import Admin
from cmt.serving._auth import AccessControl
from cmt.serving._batching import DynamicBatcher
from cmt.serving._documents import DocumentBrowser
from cmt.serving._errors import HANDLERS
from cmt.serving._middleware import AllowedHosts, BodyLimit, SecurityHeaders
from cmt.serving._request_log import RequestLog, log_handler
from cmt.serving.tokens import TokenFile
from cmt.stream.limits import MEGABYTE

if TYPE_CHECKING:
    from cmt.serving._mcp_http import McpEndpoint

WEB = Path(__file__).parent / "web"
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


def create_app(project: Project, *, hosts: Sequence[str] = LOOPBACK) -> FastAPI:
    """The application of `project`, with LM and compressor loaded.

    `hosts`: allowed values of the Host header, `*` for any, against sites that resolve their own
    name to 127.0.0.1 (DNS rebinding). Raises ModelError if LM or compressor is missing, CmtError if
    the tokens cannot be read.
    """
    serving = project.params.serving
    tokens = TokenFile(serving.token_file) if serving.token_file else None
    if tokens:
        tokens.tokens()
    _ = project.model  # loads LM and compressor before the first question
    batcher, browser, admin = DynamicBatcher(project), DocumentBrowser(project), Admin(project)
    mcp = _mcp_endpoint(batcher, browser, admin)
    log = log_handler(serving.request_log)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            stack.callback(log.close)
            if mcp:
                await stack.enter_async_context(mcp.running())
            yield

    # 1. Routes.
    about = "Answers from the memory of a stream of documents, as of a date, with their sources."
    app = FastAPI(
        title="cmt",
        version=__version__,
        description=about,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.batcher, app.state.browser = batcher, browser
    app.include_router(_routes.router)
    app.include_router(_openai.router)
    if tokens:
        app.state.admin = admin
        app.include_router(_admin.router)
    if mcp:
        app.router.routes.append(mcp.route)
    app.mount("/web", StaticFiles(directory=WEB), name="web")
    app.add_api_route("/", lambda: FileResponse(WEB / "index.html"), include_in_schema=False)
    # FastAPI's own page would load scripts from another host and send no token
    app.add_api_route("/docs", lambda: FileResponse(WEB / "docs.html"), include_in_schema=False)
    for kind, handler in HANDLERS.items():
        app.add_exception_handler(kind, handler)
    # 2. Middleware, the innermost first.
    app.add_middleware(
        BodyLimit, larger={_admin.INGEST: serving.ingest_megabytes * MEGABYTE} if tokens else {}
    )
    app.add_middleware(AllowedHosts, hosts=hosts)
    app.add_middleware(AccessControl, tokens=tokens, per_minute=serving.requests_per_minute)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(
        RequestLog, handler=log, questions=serving.log_questions, metrics=batcher.metrics
    )
    return app


def _mcp_endpoint(
    batcher: DynamicBatcher, browser: DocumentBrowser, admin: Admin
) -> "McpEndpoint | None":
    """Answers the Model Context Protocol; None without the extra `mcp`."""
    try:
        from cmt.serving._mcp_http import McpEndpoint
        from cmt.serving.mcp_server import Served
    except ImportError as error:
        if missing_extra(error) is None:
            raise
        return None
    return McpEndpoint(batcher.project, Served(batcher, browser, admin))
