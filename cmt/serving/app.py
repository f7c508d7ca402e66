"""The ASGI application: routes, error handlers, middleware and the web page."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import FastAPI
from fastapi.responses import FileResponse
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.staticfiles import StaticFiles

from cmt import __version__
from cmt.serving import openai, routes
from cmt.serving.batching import DynamicBatcher
from cmt.serving.documents import DocumentBrowser
from cmt.serving.errors import HANDLERS
from cmt.serving.middleware import BodyLimit, RequestCounter, SecurityHeaders
from cmt.serving.rate_limit import RateLimit

if TYPE_CHECKING:
    from cmt.workspace import Workspace

WEB = Path(__file__).parent / "web"
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


def create_app(workspace: "Workspace", *, hosts: Sequence[str] = LOOPBACK) -> FastAPI:
    """The application over `workspace`, with LM and compressor loaded.

    `hosts`: allowed values of the Host header, `*` for any. This refuses pages of other sites that resolve their own
    name to 127.0.0.1 (DNS rebinding). ModelError when LM or compressor is missing.
    """
    batcher = DynamicBatcher(workspace)
    batcher.load()
    app = FastAPI(title="cmt", version=__version__, description=_ABOUT, docs_url=None, redoc_url=None)
    app.state.batcher, app.state.browser = batcher, DocumentBrowser(batcher.bank)
    app.include_router(routes.router)
    app.include_router(openai.router)
    app.mount("/web", StaticFiles(directory=WEB), name="web")
    app.add_api_route("/", lambda: FileResponse(WEB / "index.html"), include_in_schema=False)
    app.add_api_route("/docs", lambda: FileResponse(WEB / "docs.html"), include_in_schema=False)
    for kind, handler in HANDLERS.items():
        app.add_exception_handler(kind, handler)
    app.add_middleware(BodyLimit)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)
    if per_minute := workspace.params.serving.requests_per_minute:
        app.add_middleware(RateLimit, per_minute=per_minute)
    app.add_middleware(RequestCounter, metrics=batcher.metrics)
    app.add_middleware(SecurityHeaders)
    return app


_ABOUT = "Answers from the memory of a stream of documents, as of a date, with their sources."
