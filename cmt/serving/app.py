"""The server's parts put together: routes, errors with one shape, headers that keep a browser on this page alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cmt import __version__
from cmt.errors import BankError, CmtError, ConfigError
from cmt.serving import openai, routes
from cmt.serving.catalogue import Catalogue
from cmt.serving.desk import Desk
from cmt.serving.metrics import Metrics
from cmt.serving.schemas import Fault, Problem, explain

if TYPE_CHECKING:
    from cmt.workspace import Workspace

WEB = Path(__file__).parents[1] / "web"
LARGEST_BODY = 1_000_000  # bytes
_TOO_LARGE = f"the request has more than {LARGEST_BODY:,} bytes: send the question alone"
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def create_app(workspace: "Workspace", *, hosts: Sequence[str] = LOOPBACK) -> FastAPI:
    """The server over `workspace`, its model loaded. `hosts`: names it answers to in the Host header; `*` any.

    A page of a stranger that points its own name at 127.0.0.1 is refused by its Host header. ModelError when LM or
    compressor is missing.
    """
    desk = Desk(workspace)
    desk.load()
    app = FastAPI(title="cmt", version=__version__, description=_ABOUT, docs_url=None, redoc_url=None)
    app.state.desk, app.state.catalogue = desk, Catalogue(desk.bank)
    app.include_router(routes.router)
    app.include_router(openai.router)
    app.mount("/web", StaticFiles(directory=WEB), name="web")
    app.add_api_route("/", lambda: FileResponse(WEB / "index.html"), include_in_schema=False)
    app.add_api_route("/docs", lambda: FileResponse(WEB / "docs.html"), include_in_schema=False)
    for kind, handler in _HANDLERS.items():
        app.add_exception_handler(kind, handler)
    app.add_middleware(_Limited)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)
    app.add_middleware(_Counted, metrics=desk.metrics)
    app.add_middleware(_WithHeaders)
    return app


_ABOUT = "Answers from the memory of a stream of documents, each as of a date, with the documents that it rests on."


class _Limited:
    """Refuses a body of more than LARGEST_BODY, whether its length was announced or not."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        announced = Headers(scope=scope).get("content-length", "")
        if announced.isdecimal() and int(announced) > LARGEST_BODY:
            return await _problem(413, _TOO_LARGE)(scope, receive, send)
        taken = 0

        async def counting() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > LARGEST_BODY:
                raise HTTPException(413, _TOO_LARGE)
            return message

        await self.app(scope, counting, send)


class _WithHeaders:
    """Adds HEADERS to every response."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self.app(scope, receive, with_headers)


class _Counted:
    """Counts requests by their route, not by their path."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def counting(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "")
                self.metrics.requested(method=scope["method"], route=route, status=message["status"])
            await send(message)

        await self.app(scope, receive, counting if scope["type"] == "http" else send)


def _problem(
    status: int, message: str, *, kind: str = "invalid_request_error", param: str | None = None
) -> JSONResponse:
    return JSONResponse(Problem(error=Fault(message=message, type=kind, param=param)).model_dump(), status)


async def _invalid(request: Request, error: Any) -> JSONResponse:
    message, param = explain(error.errors())
    # OpenAI's clients know 400 as the request that cannot be used
    return _problem(400 if request.url.path.startswith("/v1/") else 422, message, param=param)


async def _refused(_: Request, error: Any) -> JSONResponse:
    if isinstance(error, ConfigError):
        return _problem(422, str(error))
    return _problem(503 if isinstance(error, BankError) else 500, str(error), kind="server_error")


async def _http(_: Request, error: Any) -> JSONResponse:
    return _problem(error.status_code, str(error.detail))


async def _unexpected(_: Request, error: Exception) -> JSONResponse:
    said = f"{type(error).__name__} in cmt, which is a fault of it: its log has the place"
    return _problem(500, said, kind="server_error")


_HANDLERS: dict[type[Exception], Any] = {
    RequestValidationError: _invalid,
    CmtError: _refused,
    HTTPException: _http,
    Exception: _unexpected,
}
