"""The TCP side of an ASGI server: one small interface, and what its drivers have in common."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import math
import socket
import ssl
import termios
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from ..utils._logs import shared_log
from ..utils._networks import AddressCounts, client_network
from ..utils._tcp import abort
from ._types import AsgiApp

__all__ = [
    "BACKLOG",
    "Admission",
    "FrontOptions",
    "Listening",
    "TcpFront",
    "abort",
    "end_connections",
    "remote_host",
]

BACKLOG: Final = 2048
"""Connections that may wait to be accepted, as far as the kernel allows."""

# What tells that a client is gone without a word: probes of the kernel, after 30 idle seconds. The
# connections that a socket accepts have its options.
_KEEP_ALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)
# Seconds between two checks of the connections that are left, while a server stops.
_LOOK = 0.02

_logger = logging.getLogger("pywebtransport.asgi")


class TcpFront(Protocol):
    """A server for HTTP over TCP that runs in our event loop, on our sockets, with our TLS."""

    async def start(
        self, app: AsgiApp, sockets: list[socket.socket], ssl_context: ssl.SSLContext
    ) -> None:
        """Serve an application.

        Args:
            app: Called with the scopes ``http`` and ``websocket``, not with ``lifespan``.
            sockets: Bound TCP sockets; from now on they belong to the front.
            ssl_context: For all connections.

        Raises:
            OSError: A socket cannot listen; all of them are closed.
        """

    def reload(self) -> None:
        """The certificates of ``ssl_context`` have changed: new connections use the new ones."""

    async def stop(self, timeout: float) -> None:
        """Accept no more connections, close idle ones, and let requests finish. Idempotent.

        Args:
            timeout: Seconds that requests have. Then their connections are cut, and the tasks of
                the application are cancelled.

        Cancellation: connections are cut without the wait.
        """


class Admission:
    """Limits how many TCP connections there are, together and from each client address.

    Args:
        limit: Connections at a time.
        per_address: Connections at a time from one address, by ``client_network``; None: no limit.
    """

    def __init__(self, limit: int, per_address: int | None) -> None:
        self._limit = limit
        self._networks: dict[object, str] = {}
        self._counts = AddressCounts(per_address)
        self.accepted = 0
        self.refused = 0

    @property
    def open_count(self) -> int:
        """How many connections are open."""
        return len(self._networks)

    def enter(self, connection: object, host: str) -> bool:
        """Count a new connection; False if it has to be cut because a limit is reached."""
        network = client_network(host)
        full = len(self._networks) >= self._limit
        if full or self._counts.is_full(network):
            self.refused += 1
            shared_log(_logger).tell(
                "tcp limit",
                logging.WARNING,
                "a TCP connection was refused: %s is reached",
                "max_connections" if full else "max_connections_per_address",
            )
            return False
        self._counts.add(network)
        self._networks[connection] = network
        self.accepted += 1
        return True

    def leave(self, connection: object) -> None:
        """A connection has ended; one that did not enter is not counted."""
        network = self._networks.pop(connection, None)
        if network is not None:
            self._counts.remove(network)


@dataclass(kw_only=True, frozen=True)
class FrontOptions:
    """What drivers need besides the arguments of ``start``.

    Attributes:
        admission: Counts and limits the connections.
        handshake_timeout: Seconds for the TLS handshake, and then for the head of a request.
        max_head: Bytes that the head of a request may have.
        write_timeout: Seconds that a client may take none of the bytes that wait for it; None: no
            limit.
        has_successor: Whether another process accepts connections on the same sockets.
    """

    admission: Admission
    handshake_timeout: float
    max_head: int
    write_timeout: float | None
    has_successor: Callable[[], bool] = bool


class Listening:
    """Lets sockets listen until ``stop``.

    Args:
        sockets: The sockets, bound.
        options: Of the front.
        serve: Starts a server of the event loop on one of them.
        accept: Takes a connection that was accepted elsewhere.
    """

    def __init__(
        self,
        sockets: list[socket.socket],
        options: FrontOptions,
        serve: Callable[[socket.socket], Awaitable[asyncio.Server]],
        accept: Callable[[socket.socket], object],
    ) -> None:
        self._sockets = sockets
        self._options = options
        self._serve = serve
        self._accept = accept
        # The event loop closes those that it gets. The supervisor of workers has them open, so
        # that alone would leave them listening.
        self._own: list[socket.socket] = []
        self._servers: list[asyncio.Server] = []

    async def start(self) -> None:
        """Let them listen.

        Raises:
            OSError: One cannot listen; all are closed.
        """
        patience = math.ceil((self._options.write_timeout or 0) * 1000)  # 0: that of the system
        try:
            for sock in self._sockets:
                for level, option, value in _KEEP_ALIVE:
                    sock.setsockopt(level, option, value)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, patience)
                self._own.append(sock.dup())
                self._servers.append(await self._serve(sock))
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Accept no more connections, and close the sockets. Idempotent.

        Connections that wait are left to the successor, or accepted if there is none.
        """
        for server in self._servers:
            server.close()
        if not self._options.has_successor():
            for sock in self._own:
                with contextlib.suppress(OSError):  # none waits, or it did not listen
                    while True:
                        self._accept(sock.accept()[0])
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        for sock in (*self._own, *self._sockets):
            sock.close()
        self._own.clear()


async def end_connections(
    transports: Callable[[], Sequence[asyncio.WriteTransport]],
    timeout: float,
    are_coming: Callable[[], bool] = bool,
) -> None:
    """Wait until connections have ended, then cut those that are left.

    A closing connection whose client has received everything is cut at once: the client does not
    have to answer.

    Args:
        transports: Those that are open.
        timeout: Seconds.
        are_coming: Whether there will be others.

    Cancellation: they are cut without the wait.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    try:
        while ((left := transports()) or are_coming()) and loop.time() < deadline:
            for transport in left:
                if transport.is_closing() and _is_delivered(transport):
                    abort(transport)
            await asyncio.sleep(min(_LOOK, timeout))
    finally:
        for transport in transports():
            abort(transport)


def _is_delivered(transport: asyncio.WriteTransport) -> bool:
    """Whether the client's system has received all that was written."""
    try:
        sock = transport.get_extra_info("socket")
        if sock is None or transport.get_write_buffer_size():
            return False
        unsent = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4))
    except OSError:  # it is closed
        return True
    except AttributeError:  # asyncio's TLS transport, once ``close`` was called twice
        return False
    return not any(unsent)


def remote_host(transport: asyncio.BaseTransport) -> str:
    """The address of the client; empty if it is gone."""
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if peer else ""
