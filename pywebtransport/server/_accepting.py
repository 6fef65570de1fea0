"""Accepts TCP connections: within limits from their first packet on, a few in each turn."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import math
import socket
from collections.abc import Callable
from typing import Final

from .._states import Address
from ..utils._logs import shared_log
from ..utils._networks import AddressCounts, client_network
from ..utils._system import explain_os_error

__all__ = ["Admission", "Listening", "Place"]

# Connections that may wait to be accepted, as far as the kernel allows.
_BACKLOG: Final = 2048
# Connections that are accepted in one turn of the event loop: each begins a TLS handshake.
_AT_A_TIME: Final = 16
# Seconds of a pause when no descriptor or no memory is left.
_PAUSE: Final = 1.0
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
# What tells that a client is gone without a word: probes of the kernel, after 30 idle seconds. The
# connections that a socket accepts have its options.
_KEEP_ALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)

_logger = logging.getLogger("pywebtransport.server")


class Admission:
    """Limits how many TCP connections there are, together and from each client address.

    Args:
        limit: Connections at a time.
        per_address: Connections at a time from one address, by ``client_network``; None: no limit.

    Attributes:
        open_count: How many connections are open, with those whose handshake is under way.
        refused: How many were refused.
    """

    def __init__(self, limit: int, per_address: int | None) -> None:
        self._limit = limit
        self._counts = AddressCounts(per_address)
        self.open_count = 0
        self.refused = 0

    def enter(self, host: str) -> Place | None:
        """Count a new connection; None if it has to be cut because a limit is reached.

        Args:
            host: Address of the client.
        """
        network = client_network(host)
        full = self.open_count >= self._limit
        if full or self._counts.is_full(network):
            self.refused += 1
            shared_log(_logger).tell(
                "tcp limit",
                logging.WARNING,
                "a TCP connection was refused: %s is reached",
                "max_connections" if full else "max_connections_per_address",
            )
            return None
        self._counts.add(network)
        self.open_count += 1
        return Place(self, network)

    def _left(self, network: str) -> None:
        self._counts.remove(network)
        self.open_count -= 1


class Place:
    """The place of one TCP connection within the limits.

    Attributes:
        network: Of the client, see ``client_network``.
    """

    __slots__ = ("_admission", "network")

    def __init__(self, admission: Admission, network: str) -> None:
        self._admission: Admission | None = admission
        self.network = network

    def leave(self) -> None:
        """The connection has ended. Idempotent."""
        admission, self._admission = self._admission, None
        if admission is not None:
            admission._left(self.network)


class Listening:
    """Lets sockets listen until ``stop``.

    The event loop's own servers would count a connection only when its TLS handshake is complete,
    and accept all that wait in one turn.

    Args:
        sockets: The sockets, bound.
        accept: Takes a connection, non-blocking, and the address of its client.
        patience: Seconds that a client may acknowledge nothing; None: as the system has it.
        has_successor: Whether another process accepts connections on the same sockets.
        is_passed: Whether the sockets belong to another program, which keeps them open.
    """

    def __init__(
        self,
        sockets: list[socket.socket],
        accept: Callable[[socket.socket, Address], object],
        *,
        patience: float | None,
        has_successor: Callable[[], bool] = bool,
        is_passed: bool = False,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._sockets = sockets
        self._accept = accept
        self._patience = patience
        self._has_successor = has_successor
        self._is_passed = is_passed
        self._pauses: dict[socket.socket, asyncio.TimerHandle] = {}
        self._is_open = True

    def start(self) -> None:
        """Let them listen.

        Raises:
            OSError: One cannot listen; all are closed.
        """
        patience = math.ceil((self._patience or 0) * 1000)  # 0: that of the system
        try:
            for sock in self._sockets:
                sock.setblocking(False)
                for level, option, value in _KEEP_ALIVE:
                    sock.setsockopt(level, option, value)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, patience)
                sock.listen(_BACKLOG)
                self._loop.add_reader(sock.fileno(), self._ready, sock)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Accept no more connections, and close the sockets. Idempotent.

        Connections that wait are left to the successor, or accepted if there is none.
        """
        if not self._is_open:
            return
        self._is_open = False
        for timer in self._pauses.values():
            timer.cancel()
        for sock in self._sockets:
            self._loop.remove_reader(sock.fileno())
            if not (self._is_passed or self._has_successor()):
                with contextlib.suppress(OSError):  # none waits, or it did not listen
                    while True:
                        self._take(sock)
                # The supervisor of workers has it open, so to close it would not be enough.
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        self.abandon()

    def abandon(self) -> None:
        """Close the sockets without an event loop."""
        for sock in self._sockets:
            sock.close()

    def _ready(self, sock: socket.socket) -> None:
        """Connections wait."""
        for _ in range(_AT_A_TIME):
            try:
                self._take(sock)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._pause(sock, error)
                    return
                # The connection has failed already; others may wait behind it.

    def _take(self, sock: socket.socket) -> None:
        connection, address = sock.accept()
        connection.setblocking(False)
        self._accept(connection, address[:2])

    def _pause(self, sock: socket.socket, error: OSError) -> None:
        shared_log(_logger).tell(
            "tcp accept",
            logging.WARNING,
            "TCP connections wait %s s: %s",
            _PAUSE,
            explain_os_error(error),
        )
        self._loop.remove_reader(sock.fileno())
        self._pauses[sock] = self._loop.call_later(_PAUSE, self._resume, sock)

    def _resume(self, sock: socket.socket) -> None:
        del self._pauses[sock]
        self._loop.add_reader(sock.fileno(), self._ready, sock)
