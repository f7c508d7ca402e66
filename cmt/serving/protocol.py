"""HTTP/1.1 as uvicorn speaks it, with limits of time and number for connections that wait for a
request.

uvicorn limits the time between two requests, but not the time that a client takes to send one.
"""

import asyncio
import resource
import socket
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_CONNECTIONS = 1_000
_FILES = 64  # descriptors that the server needs for other things


class TimedProtocol(H11Protocol):
    """Closes a connection whose request takes too long to arrive, or that stops reading its answer;
    if there are too many, the one that waits longest.
    """

    header_seconds, body_seconds, unread_seconds = 10.0, 60.0, 60.0
    _unread_timer: asyncio.TimerHandle | None = None
    _timer: asyncio.TimerHandle | None = None
    _since = 0.0  # time at which the wait began
    _state: Any = None  # of h11 while the timer runs: IDLE waits for headers, SEND_BODY for a body

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for headers."""
        super().connection_made(transport)
        self._watch()
        if self.limit_concurrency and len(self.connections) >= self.limit_concurrency:
            waiting = [
                one for one in self.connections if isinstance(one, TimedProtocol) and one._timer
            ]
            min(waiting, key=lambda one: one._since)._close()

    def data_received(self, data: bytes) -> None:
        """Wait for the rest of the request."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Wait for the next request; uvicorn limits the time until its first byte."""
        self._stop()
        self._watch_unread()
        super().on_response_complete()
        if (
            self.conn.their_state is h11.SEND_BODY
        ):  # the next request began before this answer ended
            self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop()
        if self._unread_timer:
            self._unread_timer.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Wait for the client to read."""
        super().pause_writing()
        self._watch_unread()

    def _watch_unread(self) -> None:
        """Begin to wait until the client has read what was written."""
        if not self._unread_timer:
            self._close_if_unread(0)

    def _close_if_unread(self, before: int) -> None:
        """Close if `before` bytes still wait, else look again after a while."""
        waiting = self.transport.get_write_buffer_size()
        self._unread_timer = None
        if waiting and waiting == before:
            self._close()
        elif waiting:
            self._unread_timer = self.loop.call_later(
                self.unread_seconds, self._close_if_unread, waiting
            )

    def _watch(self) -> None:
        state = self.conn.their_state
        if state is self._state:
            return
        self._stop()
        if state in (h11.IDLE, h11.SEND_BODY):
            seconds = self.header_seconds if state is h11.IDLE else self.body_seconds
            self._timer, self._state = self.loop.call_later(seconds, self._close), state
            self._since = self.loop.time()

    def _stop(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = self._state = None

    def _close(self) -> None:
        self._stop()
        self.transport.abort()


def run(app: Any, listener: socket.socket, *, proxies: tuple[str, ...]) -> None:
    """Answer on `listener` until Ctrl-C or SIGTERM. `proxies`: see `server_config`."""
    uvicorn.Server(server_config(app, proxies=proxies)).run(sockets=[listener])


def server_config(app: Any, *, proxies: tuple[str, ...]) -> uvicorn.Config:
    """uvicorn's configuration of `cmt serve`. `proxies`: addresses whose X-Forwarded-For header
    counts.
    """
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = MAX_CONNECTIONS if files < 0 else max(8, min(MAX_CONNECTIONS, files - _FILES))
    return uvicorn.Config(
        app,
        http=TimedProtocol,
        ws="none",
        log_level="warning",
        limit_concurrency=limit,
        timeout_keep_alive=5,  # between two requests of a connection
        timeout_graceful_shutdown=5,  # for answers in progress at Ctrl-C
        proxy_headers=bool(proxies),
        forwarded_allow_ips=list(proxies),
        server_header=False,
    )
