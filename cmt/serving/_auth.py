"""Access: bearer tokens (RFC 6750) and their scopes, and the limit on the requests of each
token.
"""

import logging

from fastapi import HTTPException, Request
from fastapi.responses import JSONResponse
from fastapi.security.utils import get_authorization_scheme_param
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from cmt.errors import CmtError
from cmt.serving._errors import problem
from cmt.serving._middleware import request_state
from cmt.serving._rate_limit import TokenBuckets, client_of
from cmt.serving.tokens import Token, TokenFile

log = logging.getLogger(__name__)

# need no token: the pages, whose scripts ask for one, and the liveness route
_OPEN, _OPEN_FOLDER = ("/", "/docs", "/healthz"), "/web/"


class AccessControl:
    """Refuses requests above the rate limit with 429, and requests without a valid token with 401.

    The pages and the liveness route need no token. Requests with wrong tokens are limited too, by
    their address.
    """

    def __init__(self, app: ASGIApp, *, tokens: TokenFile | None, per_minute: int) -> None:
        """Without `tokens` no request needs one; a `per_minute` of 0 sets no limit."""
        self.app, self.tokens, self.buckets = app, tokens, TokenBuckets(per_minute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        await (refusal or self.app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        # 1. the token, which the state of the request keeps
        if len(Headers(scope=scope).getlist("authorization")) > 1:
            return problem(400, "the request has two Authorization headers: send one")
        is_open = (
            not self.tokens or scope["path"] in _OPEN or scope["path"].startswith(_OPEN_FOLDER)
        )
        scheme, secret = get_authorization_scheme_param(Headers(scope=scope).get("authorization"))
        sent = bool(secret) and scheme.lower() == "bearer"
        if self.tokens and not is_open:
            try:
                request_state(scope)["token"] = self.tokens.find(secret if sent else "")
            except CmtError as error:
                log.error("%s", error)
                return problem(
                    503, "the server cannot read its tokens: its log says why", kind="server_error"
                )
        # 2. the rate
        limit = self.buckets.per_minute
        if limit and (wait := self.buckets.take(client_of(scope))):
            message = (
                f"more than {limit:,} requests a minute from this client: try again in {wait} s, "
            )
            response = problem(
                429, f"{message}or raise serving.requests_per_minute", kind="rate_limit_error"
            )
            response.headers["Retry-After"] = str(wait)
            return response
        # 3. no valid token
        if is_open or request_state(scope)["token"]:
            return None
        message = "this token is not valid here" if sent else "this server needs a token"
        response = problem(
            401, f"{message}: send `Authorization: Bearer TOKEN`", kind="authentication_error"
        )
        response.headers["WWW-Authenticate"] = 'Bearer realm="cmt"' + (
            ', error="invalid_token"' if sent else ""
        )
        return response


def admin_token(request: Request) -> Token:
    """The token of a request to an administrative route. HTTPException (403) if it has another
    scope.
    """
    token: Token = request.state.token
    if token.scope != "admin":
        raise HTTPException(
            403,
            f"the token {token.name} has the scope {token.scope}; this route needs admin",
            headers={
                "WWW-Authenticate": 'Bearer realm="cmt", error="insufficient_scope", scope="admin"'
            },
        )
    return token
