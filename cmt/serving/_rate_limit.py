"""Limit on the requests of one client: a token bucket for each bearer token or address."""

import math
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from time import monotonic

from cachetools import LRUCache
from starlette.types import Scope

from cmt.serving._middleware import request_state

MAX_CLIENTS = 10_000  # whose buckets are kept


class TokenBuckets:
    """A bucket for each client: it starts with `per_minute` tokens, a request takes one, time
    refills it.
    """

    def __init__(self, per_minute: int, *, clock: Callable[[], float] = monotonic) -> None:
        self.per_minute, self._clock = per_minute, clock
        self._buckets = LRUCache[str, tuple[float, float]](
            MAX_CLIENTS
        )  # client → tokens, time of the last request

    def take(self, client: str) -> int:
        """Take a token of `client`; returns 0, or the seconds until the next token."""
        now = self._clock()
        tokens, last = self._buckets.get(client, (float(self.per_minute), now))
        tokens = min(self.per_minute, tokens + (now - last) * self.per_minute / 60)
        allowed = tokens >= 1
        self._buckets[client] = tokens - allowed, now
        return 0 if allowed else math.ceil((1 - tokens) * 60 / self.per_minute)


def client_of(scope: Scope) -> str:
    """The name of the token, or else the address; for IPv6 the /64 network, which one client may
    own.
    """
    if token := request_state(scope).get("token"):
        return f"token {token.name}"
    address: str = (scope.get("client") or ("", 0))[0]
    try:
        parsed = ip_address(address)
    except ValueError:  # none, behind a Unix socket
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    return str(parsed.ipv4_mapped or int(parsed) >> 64)
