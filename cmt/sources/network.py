"""Which addresses a source may connect to, and until when."""

import math
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from ipaddress import ip_address, ip_network
from typing import Any

import httpcore

from cmt.errors import StreamError

# Unicast addresses of the internet by IANA's registries: those of the first networks without those
# of the second ones, which have a special purpose.
_UNICAST = ("0.0.0.0/1", "128.0.0.0/2", "192.0.0.0/3", "2000::/3")
_SPECIAL = (
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
    *("172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16"),
    *("198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
    *("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
)
_PRIVATE = (
    *("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"),
    *("::1/128", "fc00::/7"),
)
"""What `allow_private` may open. Nothing opens the rest: link-local and multicast addresses, and
those of IPv6 that stand for one of IPv4.
"""
_METADATA = ("100.100.100.200", "168.63.129.16", "fd00:ec2::254", "fd20:ce::254")
"""Of clouds, in addition to link-local ones: they give credentials to every process that asks."""


def is_public(address: str) -> bool:
    """Whether an address is one of the internet."""
    return _is_in(address, _UNICAST) and not _is_in(address, (*_SPECIAL, *_METADATA))


def is_private(address: str) -> bool:
    """Whether an address is one that `allow_private` may open."""
    return _is_in(address, _PRIVATE) and not _is_in(address, _METADATA)


def _is_in(address: str, networks: Sequence[str]) -> bool:
    return any(ip_address(address) in ip_network(network) for network in networks)


class Network(httpcore.SyncBackend):
    """Connects to public addresses, to private ones of the host `own`, and to those of `networks`.

    A name is resolved once: the address that is connected to is the one that was checked.
    """

    def __init__(self, own: str | None, networks: Sequence[str]) -> None:
        super().__init__()
        self._own, self._networks = own, networks
        self.deadline = math.inf  # by time.monotonic(), of the present exchange

    def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, *args: Any, **kwargs: Any
    ) -> httpcore.NetworkStream:
        *others, last = self._addresses(host, port)
        for address in others:
            try:
                stream = super().connect_tcp(address, port, self.left(timeout), *args, **kwargs)
                return _Stream(stream, self.left)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        stream = super().connect_tcp(last, port, self.left(timeout), *args, **kwargs)
        return _Stream(stream, self.left)

    def left(self, timeout: float | None) -> float:
        """`timeout`, or the seconds to the deadline if they are fewer. Raises ReadTimeout after
        it.
        """
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout("the exchange takes too long")
        return left if timeout is None else min(timeout, left)

    def _addresses(self, host: str, port: int) -> list[str]:
        """The addresses of a host. Raises StreamError if the source may not connect to one."""
        try:
            infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"{host} has no address: {error}") from None
        addresses = [str(info[4][0]) for info in infos]
        for address in addresses:
            if is_public(address):
                continue
            if not is_private(address):
                raise StreamError(
                    f"{host} is {address}, a special address such as a link-local one, which no "
                    "source may read: name another host"
                )
            if host != self._own and not _is_in(address, self._networks):
                raise StreamError(
                    f"{host} is {address}, an address of a private network: set allow_private in "
                    "its source of params.yaml, to true for the host of its address, or to a list "
                    "of networks"
                )
        return addresses


class _Stream(httpcore.NetworkStream):
    """A connection whose every wait ends at the deadline, however slowly the server sends."""

    def __init__(
        self, stream: httpcore.NetworkStream, left: Callable[[float | None], float]
    ) -> None:
        self._stream, self._left = stream, left

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._left(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        stream = self._stream.start_tls(ssl_context, server_hostname, self._left(timeout))
        return _Stream(stream, self._left)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
