"""Authentication: bearer tokens (RFC 6750) and their scopes.

`Identification` precedes the rate limit, which counts the requests of each token. `Authorization` follows it, so that
requests with wrong tokens are limited too.
"""

import logging

from fastapi import HTTPException, Request
from fastapi.security.utils import get_authorization_scheme_param
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from cmt.errors import ConfigError
from cmt.serving.errors import problem
from cmt.serving.middleware import request_state
from cmt.serving.tokens import Token, TokenFile

log = logging.getLogger(__name__)

LIVENESS = "/healthz"
_OPEN = ("/", "/docs", LIVENESS)  # need no token: the pages, whose scripts ask for one, and the liveness route
_OPEN_FOLDER = "/web/"


class Identification:
    """Stores the token of a request in its state; None without a valid token."""

    def __init__(self, app: ASGIApp, *, tokens: TokenFile) -> None:
        self.app, self.tokens = app, tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or is_open(scope["path"]):
            return await self.app(scope, receive, send)
        try:
            request_state(scope)["token"] = self.tokens.find(_secret(scope))
        except ConfigError as error:
            log.error("%s", error)
            message = "the server cannot read its tokens: its log says why"
            return await problem(503, message, kind="server_error")(scope, receive, send)
        await self.app(scope, receive, send)


class Authorization:
    """Refuses requests without a valid token with 401, except for the pages and the liveness route."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or is_open(scope["path"]) or request_state(scope)["token"]:
            return await self.app(scope, receive, send)
        sent = bool(_secret(scope))
        message = "this token is not valid here" if sent else "this server needs a token"
        response = problem(401, f"{message}: send `Authorization: Bearer TOKEN`", kind="authentication_error")
        response.headers["WWW-Authenticate"] = 'Bearer realm="cmt"' + (', error="invalid_token"' if sent else "")
        await response(scope, receive, send)


def is_open(path: str) -> bool:
    """Whether a path needs no token."""
    return path in _OPEN or path.startswith(_OPEN_FOLDER)


def admin_token(request: Request) -> Token:
    """The token of a request to an administrative route. HTTPException (403) if it has another scope."""
    token: Token = request.state.token
    if token.scope != "admin":
        raise HTTPException(
            403,
            f"the token {token.name} has the scope {token.scope}; this route needs admin",
            headers={"WWW-Authenticate": 'Bearer realm="cmt", error="insufficient_scope", scope="admin"'},
        )
    return token


def _secret(scope: Scope) -> str:
    """The token in a request's header; "" without one."""
    scheme, secret = get_authorization_scheme_param(Headers(scope=scope).get("authorization"))
    return secret if scheme.lower() == "bearer" else ""
