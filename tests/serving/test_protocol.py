"""Clients that send half a request, or nothing, stop no other client."""

import socket
import time
from contextlib import ExitStack, suppress
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from cmt.serving import protocol
from cmt.serving._middleware import SecurityHeaders
from cmt.serving.protocol import TimedProtocol
from tests.helpers.servers import running

HALVES = [
    b"",
    b"POST /",
    b"POST / HTTP/1.1\r\nHost: a\r\nX: ",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nab",
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\nPOST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nab",
]


class Hasty(TimedProtocol):
    """Waits less than half a second."""

    header_seconds, body_seconds, unread_seconds = 0.3, 0.4, 0.2


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the number of bytes of the body."""
    if scope["type"] != "http":
        return
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(size).encode()})


def connect(url: str, stack: ExitStack, sent: bytes) -> socket.socket:
    client = stack.enter_context(
        socket.create_connection((urlsplit(url).hostname, urlsplit(url).port))
    )
    client.settimeout(10)
    client.sendall(sent)
    return client


@pytest.mark.parametrize("half", HALVES)
def test_half_a_request_ends_in_time(half: bytes) -> None:
    with running(echo, http=Hasty) as url, ExitStack() as stack:
        client, began = connect(url, stack, half), time.monotonic()
        try:
            while client.recv(1_000):
                pass
        except ConnectionResetError:
            pass
        assert time.monotonic() - began < 5


def test_a_client_that_drips_ends_in_time() -> None:
    with running(echo, http=Hasty) as url, ExitStack() as stack:
        client = connect(url, stack, b"GET / HTTP/1.1\r\nHost: a\r\nX: ")
        began = time.monotonic()
        with pytest.raises(OSError):
            while time.monotonic() - began < 5:
                client.sendall(b"a")
                time.sleep(0.02)


def test_a_slow_answer_and_two_requests_of_a_connection_are_served() -> None:
    with running(echo, http=Hasty) as url, httpx.Client(base_url=url) as client:
        assert [client.post("/", content=b"a" * 100_000).text for _ in range(3)] == ["100000"] * 3
        time.sleep(0.6)  # uvicorn's own limit between requests is longer
        assert client.post("/", content=b"ab").text == "2"


LARGE = 20_000_000  # bytes, more than the buffers of the system


async def large(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with LARGE bytes."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(LARGE)})


def test_a_client_that_never_reads_is_closed() -> None:
    with running(large, http=Hasty) as url, ExitStack() as stack:
        client = connect(url, stack, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        time.sleep(2)
        received = 0
        with suppress(ConnectionResetError):
            while block := client.recv(1_000_000):
                received += len(block)
        assert received < LARGE
        assert len(httpx.get(url, timeout=10).content) == LARGE


def test_a_request_with_two_lengths_ends_its_connection() -> None:
    request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n"
    request += b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    with running(SecurityHeaders(echo)) as url, ExitStack() as stack:
        client = connect(url, stack, request + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        received = b""
        while block := client.recv(1_000):
            received += block
        assert received.count(b"HTTP/1.1 200") == 1 and b"connection: close" in received.lower()


@pytest.mark.parametrize("halves", [HALVES, HALVES[3:4]])
def test_hundreds_of_half_requests_stop_no_other_client(
    halves: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "MAX_CONNECTIONS", 20)
    with running(echo) as url, ExitStack() as stack:
        for number in range(100):
            connect(url, stack, halves[number % len(halves)])
        for _ in range(5):
            assert httpx.post(f"{url}/", content=b"abc", timeout=5).text == "3"
