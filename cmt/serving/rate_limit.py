"""Limit on the requests of one client: a token bucket for each bearer token or address; 429 when it is empty."""

import math
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from time import monotonic

from starlette.types import ASGIApp, Receive, Scope, Send

from cmt.serving.errors import problem
from cmt.serving.middleware import request_state

LARGEST_NUMBER = 10_000
"""Clients that are remembered; the one that was silent longest is forgotten first."""


class RateLimit:
    """Refuses the requests of a client above `per_minute` with 429 and the seconds to wait in Retry-After."""

    def __init__(self, app: ASGIApp, *, per_minute: int) -> None:
        self.app, self.buckets = app, TokenBuckets(per_minute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        wait = self.buckets.take(client_of(scope)) if scope["type"] == "http" else 0
        if wait:
            message = (
                f"more than {self.buckets.per_minute:,} requests a minute from this client: try again in {wait} s, "
                "or raise serving.requests_per_minute"
            )
            response = problem(429, message, kind="rate_limit_error")
            response.headers["Retry-After"] = str(wait)
            return await response(scope, receive, send)
        await self.app(scope, receive, send)


class TokenBuckets:
    """A bucket for each client: full at first with `per_minute` tokens, a request takes one, time refills it."""

    def __init__(self, per_minute: int, *, clock: Callable[[], float] = monotonic) -> None:
        self.per_minute, self._clock = per_minute, clock
        self._buckets: dict[str, tuple[float, float]] = {}  # client → tokens, seconds of the last request

    def take(self, client: str) -> int:
        """Take a token of `client`; 0, or the whole seconds until there is one."""
        now = self._clock()
        tokens, last = self._buckets.pop(client, (float(self.per_minute), now))
        tokens = min(self.per_minute, tokens + (now - last) * self.per_minute / 60)
        allowed = tokens >= 1
        self._buckets[client] = tokens - allowed, now  # at the end: the order is that of the last requests
        if len(self._buckets) > LARGEST_NUMBER:
            del self._buckets[next(iter(self._buckets))]
        return 0 if allowed else math.ceil((1 - tokens) * 60 / self.per_minute)


def client_of(scope: Scope) -> str:
    """The name of the token, or else the address; of IPv6 the network /64, whose addresses one client may have."""
    if token := request_state(scope).get("token"):
        return f"token {token.name}"
    address: str = (scope.get("client") or ("", 0))[0]
    try:
        parsed = ip_address(address)
    except ValueError:  # none, behind a Unix socket
        return address
    return str(int(parsed) >> 64) if isinstance(parsed, IPv6Address) else address
