"""The TCP port of a server: sessions over WebSocket, and an application for HTTP beside them."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Final

from .._qmux._names import offers_qmux
from .._states import Address
from ..config import ServerConfig
from ..exceptions import ConfigurationError, ServerError
from ..utils._extras import require
from ..utils._logs import shared_log
from ..utils._stuck import end_tasks
from ..utils._text import printable
from ..utils._tls_contexts import TlsContexts
from ._accepting import Admission, Listening, Place
from ._doorman import Doorman, asks_for_session
from ._front import FrontOptions, TcpApplication, TcpFront
from ._worker import current_worker

if TYPE_CHECKING:
    from ._stats import ServerStats

__all__ = ["TcpPort", "alt_svc"]

# Seconds for the answer of a client to the end of a TLS connection.
_TLS_END: Final = 5.0
# Seconds in which a client that connected just before the end may still send its request.
_ARRIVAL: Final = 1.0

_logger = logging.getLogger("pywebtransport.server")


@lru_cache(64)
def alt_svc(port: int | None) -> tuple[bytes, bytes]:
    """The header that sends clients to HTTP/3 (RFC 7838).

    Args:
        port: The UDP port; None: there is no HTTP/3 any more.
    """
    return b"alt-svc", b"clear" if port is None else b'h3=":%d"; ma=86400' % port


class TcpPort:
    """The TCP sockets of a server, on the port numbers of its UDP sockets.

    A connection becomes a session if its first request asks for one, and ``config.websocket`` is
    set. Otherwise the application gets it.

    Args:
        config: Returns the configuration in force.
        stats: Statistics of the server.
        make_link: Makes the protocol of a connection that becomes a session.

    Attributes:
        application: What serves HTTP; None: nothing.
        stopping: ``stop`` was called.
    """

    def __init__(
        self,
        config: Callable[[], ServerConfig],
        stats: ServerStats,
        make_link: Callable[[Place], asyncio.Protocol],
    ) -> None:
        self._config = config
        self._stats = stats
        self._make_link = make_link
        self.application: TcpApplication | None = None
        self.front: TcpFront | None = None
        self.stopping = False
        self._listening: list[Listening] = []
        self._tls: TlsContexts | None = None
        self._admission: Admission | None = None
        # While it stops: clients that have just connected may still send their request.
        self._takes_newcomers = True
        # Handshakes that are under way, and connections whose first request is not complete.
        self._handshakes: set[asyncio.Task[None]] = set()
        self._doormen: set[Doorman] = set()
        self._changed = asyncio.Event()
        self._served: TcpApplication | None = None  # ``application``, if it is wanted

    # ------------------------------------------------------------------ what is asked

    @property
    def open_count(self) -> int:
        """How many TCP connections are open."""
        return 0 if self._admission is None else self._admission.open_count

    @property
    def arriving(self) -> int:
        """How many connections have not sent their first request yet."""
        return len(self._handshakes) + len(self._doormen)

    def protocols(self, config: ServerConfig) -> str:
        """What it speaks, for people; empty: nothing.

        Raises: as ``is_wanted``.
        """
        if not self.is_wanted(config):
            return ""
        spoken = [] if self._served is None else [self._served.protocols]
        if config.websocket:
            spoken.append("WebTransport in WebSockets")
        return ", ".join(spoken)

    def is_wanted(self, config: ServerConfig) -> bool:
        """Whether it is to listen.

        Raises:
            ConfigurationError: It has to, and cannot.
        """
        if config.websocket:
            if config.network is not None:
                raise ConfigurationError(
                    "websocket=True: a network in memory has no TCP",
                    config_key="websocket",
                    config_value=True,
                )
            require("websockets", extra="fallback")
        application = self.application
        wanted = application is not None and application.is_wanted(config)
        self._served = application if wanted else None
        return wanted or config.websocket

    def without_sockets(self) -> None:
        """The supervisor of this worker has no TCP sockets.

        Raises:
            ConfigurationError: They are needed.
        """
        text = "no TCP side: run_workers() has no TCP sockets for it, call it with tcp=True"
        application = self.application
        if self._config().websocket:
            raise ConfigurationError(text, config_key="websocket", config_value=True)
        if application is not None and application.is_required:
            raise ConfigurationError(text, config_key="tcp", config_value=True)
        _logger.warning("%s", text)

    def count(self, stats: ServerStats) -> None:
        """Write the counters into the statistics."""
        if self._admission is not None:
            stats.tcp_connections_rejected = self._admission.refused

    # ---------------------------------------------------------------------- life cycle

    def start(self, sockets: list[socket.socket], *, is_passed: bool) -> None:
        """Serve bound sockets, which belong to it from now on.

        Args:
            sockets: The sockets.
            is_passed: Whether another program keeps them open.

        Raises:
            CertificateError: A certificate cannot be used.
            OSError: A socket cannot listen.
            ServerError: ``stop`` was called. All sockets are closed in each case.
        """
        config = self._config()
        try:
            if self.stopping:
                raise ServerError("the server was closed while it began to listen")
            served = self._served
            if self._tls is None:
                self._tls = TlsContexts(config, ["http/1.1"] if served is None else served.alpn)
            if self._admission is None:
                self._admission = Admission(config.max_connections, config.address_connections)
            listening = Listening(
                sockets,
                self._accept,
                patience=config.write_timeout,
                has_successor=lambda: not self.all_ends,
                is_passed=is_passed,
            )
        except BaseException:
            for sock in sockets:
                sock.close()
            raise
        listening.start()
        try:
            if self.front is None and served is not None:
                self.front = served.make_front(
                    FrontOptions(
                        handshake_timeout=config.handshake_timeout,
                        max_head=config.max_field_section_size,
                        take_upgrade=self._take_upgrade,
                    )
                )
        except BaseException:
            listening.stop()
            raise
        self._listening.append(listening)
        spoken = self.protocols(config)
        level = logging.INFO if current_worker() is None else logging.DEBUG
        for sock in sockets:
            host, port = sock.getsockname()[:2]
            _logger.log(level, "%s over TCP on %s port %d", spoken, host, port)

    def reload(self, config: ServerConfig) -> None:
        """Use the certificates of a configuration for new connections.

        Raises:
            CertificateError: One cannot be used; nothing changes.
        """
        if self._tls is not None:
            self._tls.reload(config)

    def begin_stop(self, timeout: float) -> list[asyncio.Task[None]]:
        """As ``stop``, in a task; if nothing listens, only WebSockets over HTTP/3 are closed."""
        self.stopping = True
        if self._listening:
            return [asyncio.get_running_loop().create_task(self.stop(timeout))]
        return self._tell_application()

    def _tell_application(self) -> list[asyncio.Task[None]]:
        return [] if self.application is None else self.application.stopping()

    async def stop(self, timeout: float) -> None:
        """Accept no more connections; close idle ones, and let requests of the front finish.

        Idempotent. Sessions are not concerned: their connections belong to the server.

        Args:
            timeout: Seconds that requests have.

        Cancellation: connections are cut without the wait.
        """
        self.stopping = True
        if not self._listening:
            return
        loop = asyncio.get_running_loop()
        for listening in self._listening:
            listening.stop()
        tasks = self._tell_application()
        timer = loop.call_later(min(_ARRIVAL, timeout), self._take_no_newcomers)
        try:
            if self.front is not None:
                await self.front.stop(timeout, lambda: self._takes_newcomers and self.arriving > 0)
            else:
                while self._takes_newcomers and self.arriving:
                    self._changed.clear()
                    await self._changed.wait()
        finally:
            timer.cancel()
            self._take_no_newcomers()
            tasks += self._handshakes
            await end_tasks(tasks, timeout=0.0, logger=_logger, what="TCP connections")

    def abandon(self) -> None:
        """Release the sockets without an event loop."""
        for listening in self._listening:
            listening.abandon()

    # --------------------------------------------------------------------- connections

    @property
    def handshake_timeout(self) -> float:
        """Seconds for a TLS handshake, and then for the head of a request."""
        return self._config().handshake_timeout

    @property
    def all_ends(self) -> bool:
        """Whether nothing serves the port any more, once this server has ended."""
        worker = current_worker()
        return worker is None or worker.all_end

    def alt_svc(self, port: int) -> tuple[bytes, bytes]:
        """The header for a response, see ``alt_svc``.

        Args:
            port: Of the connection: TCP and UDP have one port number.
        """
        return alt_svc(None if self.stopping and self.all_ends else port)

    def accepts(self, offered: Sequence[str]) -> bool:
        """See ``Visits``."""
        return offers_qmux(offered, legacy=self._config().websocket_legacy)

    def make_link(self, place: Place) -> asyncio.Protocol:
        """See ``Visits``."""
        return self._make_link(place)

    def _take_upgrade(self, place: Place, head: bytes) -> asyncio.Protocol | None:
        """See ``FrontOptions``."""
        if not self._config().websocket or not asks_for_session(head, self.accepts):
            return None
        return self._make_link(place)

    def refused(self, host: str, port: int, status: int) -> list[tuple[str, str]]:
        """See ``Visits``."""
        self._stats.tcp_requests_refused += 1
        shared_log(_logger).tell(
            f"tcp request {status}",
            logging.INFO,
            "refused a request over TCP with status %d: it asks for no session (peer %s)",
            status,
            printable(host),
        )
        name, value = self.alt_svc(port)
        return [(name.decode(), value.decode())]

    def entered(self, doorman: Doorman) -> None:
        """See ``Visits``."""
        self._doormen.add(doorman)

    def gone(self, doorman: Doorman) -> None:
        """See ``Visits``."""
        self._doormen.discard(doorman)
        self._changed.set()

    def _accept(self, sock: socket.socket, address: Address) -> None:
        """A client has connected."""
        assert self._admission is not None
        place = self._admission.enter(address[0]) if self._takes_newcomers else None
        if place is None:
            sock.close()
            return
        arrival = _Arrival(sock, place)
        task = asyncio.get_running_loop().create_task(self._shake_hands(arrival))
        self._handshakes.add(task)
        task.add_done_callback(partial(self._shaken, arrival))

    async def _shake_hands(self, arrival: _Arrival) -> None:
        assert self._tls is not None
        sock, arrival.sock = arrival.sock, None
        assert sock is not None
        await asyncio.get_running_loop().connect_accepted_socket(
            partial(self._make_protocol, arrival.place),
            sock,
            ssl=self._tls.context,
            ssl_handshake_timeout=self.handshake_timeout,
            ssl_shutdown_timeout=_TLS_END,
        )

    def _make_protocol(self, place: Place) -> asyncio.Protocol:
        if self._config().websocket:
            return Doorman(place, self)
        assert self.front is not None
        return self.front.make_protocol(place)

    def _shaken(self, arrival: _Arrival, task: asyncio.Task[None]) -> None:
        """A TLS handshake is over."""
        self._handshakes.discard(task)
        self._changed.set()
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is None:
            self._stats.tcp_connections_accepted += 1
            return
        arrival.place.leave()
        if arrival.sock is not None:  # it had not begun
            arrival.sock.close()
        if isinstance(error, OSError):
            self._stats.tcp_handshakes_failed += 1
            shared_log(_logger).tell(
                "tcp handshake",
                logging.DEBUG,
                "a TLS handshake over TCP failed: %s",
                printable(error),
            )
        elif isinstance(error, Exception):
            raise error

    def _take_no_newcomers(self) -> None:
        self._takes_newcomers = False
        self._changed.set()
        for doorman in list(self._doormen):
            doorman.cut()
        for task in self._handshakes:
            task.cancel()


@dataclass
class _Arrival:
    """A connection that was accepted.

    Attributes:
        sock: Its socket, until the event loop has it.
        place: Its place within the limits.
    """

    sock: socket.socket | None
    place: Place
