"""What serves HTTP over TCP beside sessions: one small interface, and what its drivers share."""

from __future__ import annotations

import asyncio
import fcntl
import termios
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from ..utils._tcp import abort

if TYPE_CHECKING:
    from ..config import ServerConfig
    from ._accepting import Place

__all__ = ["FrontOptions", "TcpApplication", "TcpFront", "end_connections"]

# Seconds between two checks of the connections that are left, while a server stops.
_LOOK: Final = 0.02


class TcpFront(Protocol):
    """A server for HTTP over TCP that runs in our event loop, on connections that we accept."""

    def make_protocol(self, place: Place) -> asyncio.Protocol:
        """The protocol of a connection that is to come; its TLS handshake may be under way.

        Args:
            place: Its place, which the protocol leaves when the connection is lost.
        """

    async def stop(self, timeout: float, are_coming: Callable[[], bool]) -> None:
        """Close idle connections, and let requests finish. Idempotent.

        Args:
            timeout: Seconds that requests have. Then their connections are cut, and the tasks of
                the application are cancelled.
            are_coming: Whether connections that were accepted before will still be handed over.

        Cancellation: connections are cut without the wait.
        """


@dataclass(kw_only=True, frozen=True)
class FrontOptions:
    """What drivers need.

    Attributes:
        handshake_timeout: Seconds for the head of a request.
        max_head: Bytes that the head of a request may have.
        take_upgrade: Called with the place of a connection and the head of a request for a
            WebSocket that is not its first request. It returns the protocol that the connection
            gets, and the head, if that is not a matter of the application.
    """

    handshake_timeout: float
    max_head: int
    take_upgrade: Callable[[Place, bytes], asyncio.Protocol | None]


class TcpApplication(Protocol):
    """The application that a front serves; ``asgi`` has the one of ``ServerApp.mount``."""

    def choose(self, *, tcp: bool | None, http2: bool) -> None:
        """Replace what ``mount`` was told, before the server listens; ``http2`` is only added."""

    def is_wanted(self, config: ServerConfig) -> bool:
        """Whether it is to be served over TCP; if a package is missing, the log says so.

        Raises:
            ConfigurationError: It has to be, and cannot.
        """

    @property
    def is_required(self) -> bool:
        """Whether the server must not start without it."""

    @property
    def protocols(self) -> str:
        """What it speaks, for people."""

    @property
    def alpn(self) -> list[str]:
        """What it speaks, as identifiers for the TLS handshake."""

    def make_front(self, options: FrontOptions) -> TcpFront:
        """A front that serves it, in the running event loop."""

    def stopping(self) -> list[asyncio.Task[None]]:
        """The server stops: close the WebSockets of the application. Idempotent.

        Returns:
            The tasks that do it, for those that are not closed at once.
        """


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
