"""One QUIC endpoint on an event loop: sockets, one timer, one flush per loop turn."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import logging
import select
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .._quic import EagerTurn, QuicConnection, QuicEndpoint, QuicSocket, QuicTls
from ..exceptions import ConnectionError, ServerError, UnreachableError, WebTransportError
from ..utils._clock import clock_of
from ..utils._failures import error_kind
from ..utils._logs import shared_log
from ..utils._system import explain_os_error
from ..utils._waiters import running_loop, wrong_loop
from .polling import BusyPoll
from .resolve import RemoteAddress, resolve
from .shared import WorkerSockets
from .sockets import BindAddress, bind_addresses, bind_udp_sockets, open_udp_socket
from .steering import Steering

if TYPE_CHECKING:
    from .._transport import CloseInfo, ConnectionHandler, SockAddr, Transport

__all__ = ["Endpoint", "UdpSocket"]

_logger = logging.getLogger("pywebtransport.quic")
_FEATURES = ("gso", "gro", "ecn", "pktinfo")
_NS = 1_000_000_000
_MIN_DELAY = 0.001


class UdpSocket:
    """A UDP socket of an endpoint: the Python socket and its side in the engine.

    The loop watches an epoll descriptor that holds the socket, not the socket
    itself. After an ICMP error, a UDP descriptor reports an error condition until
    the error queue is read. libuv takes that for a bad descriptor and never
    polls it again; an epoll descriptor is only ever readable.
    """

    __slots__ = ("address", "family", "is_full", "poller", "quic", "sock")

    def __init__(self, sock: socket.socket, quic: QuicSocket) -> None:
        self.sock = sock
        self.quic = quic
        self.family = sock.family
        self.is_full = False
        host, port = sock.getsockname()[:2]
        self.address: tuple[str, int] = (host, port)
        self.poller = select.epoll()
        self.poller.register(sock.fileno(), select.EPOLLIN)

    def watch_writable(self) -> None:
        """Also report writability, if the socket is full now."""
        fd = self.sock.fileno()
        self.poller.modify(fd, select.EPOLLIN | select.EPOLLOUT)
        self.is_full = not self.ready() & select.EPOLLOUT
        if not self.is_full:
            self.poller.modify(fd, select.EPOLLIN)

    def unwatch_writable(self) -> None:
        """Report readability only."""
        self.is_full = False
        self.poller.modify(self.sock.fileno(), select.EPOLLIN)

    def ready(self) -> int:
        """What the socket is ready for now (EPOLL*)."""
        return sum(mask for _, mask in self.poller.poll(0))

    def close(self) -> None:
        """Close both descriptors; the caller has already removed them from engine and loop."""
        self.poller.close()
        self.sock.close()


class Endpoint:
    """A ``QuicEndpoint`` driven by the running event loop, asyncio's or uvloop's.

    Every turn is bounded: a full receive batch leaves the rest in the kernel
    and the loop calls again, work left by ``process()`` continues through
    ``call_soon``. Writers of one turn share one flush; many small writes do not
    wait for it (see ``QuicEndpoint``).

    Args:
        is_server: Accept connections.
        settings: Members of the engine's settings by name.
        tls: TLS configuration; required for a server.
        accept: Server: called with each connection whose handshake completed,
            returns its handler.
        on_error: Called with exceptions from handlers and sinks; default: the loop's
            exception handler.
        socket_buffer_size: Requested kernel buffers in bytes; 0 is the engine's default.
        socket_features: Subset of ``gso``, ``gro``, ``ecn``, ``pktinfo`` to try.
        keylog: Called with lines for an NSS key log file.
        qlog: Called with (number, bytes, is_last): the number stands for one connection.
        log: Called with lines of the library's own debug log.
        packets_out: Receives packets instead of sockets; see ``TunnelEndpoint``.
        routed: Packets are sent and received with their addresses; see ``MemoryEndpoint``.
        seat: The sockets of one worker of a server; see ``adopt``.
        handshake_failed: Called for clients that get no connection.
        busy_poll: Microseconds for which the loop does not sleep after a turn; 0: none.

    Raises:
        ConfigurationError: A setting is unknown or out of range.
        RuntimeError: No event loop is running.
    """

    def __init__(
        self,
        *,
        is_server: bool,
        settings: dict[str, Any] | None = None,
        tls: QuicTls | None = None,
        accept: Callable[[QuicConnection], ConnectionHandler | None] | None = None,
        on_error: Callable[[BaseException], object] | None = None,
        socket_buffer_size: int = 0,
        socket_features: tuple[str, ...] = _FEATURES,
        keylog: Callable[[str], object] | None = None,
        qlog: Callable[[int, bytes, bool], object] | None = None,
        log: Callable[[str], object] | None = None,
        packets_out: Callable[[list[Any]], object] | None = None,
        routed: bool = False,
        seat: WorkerSockets | None = None,
        handshake_failed: Callable[[SockAddr, CloseInfo], object] | None = None,
        busy_poll: int = 0,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._now = clock_of(self._loop)
        self._thread = threading.get_ident()
        self._is_server = is_server
        self._sockets: list[UdpSocket] = []
        self._flush_handle: asyncio.Handle | None = None
        self._retry_handle: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_tick = 0
        self._unblocked: asyncio.Future[None] | None = None
        self._closed = False
        self._poll = BusyPoll(self._loop, busy_poll) if busy_poll else None
        self._seat = seat
        self._has_mailbox = False
        self._socket_buffer_size = socket_buffer_size
        self._socket_features = socket_features
        self._on_error = on_error
        self._quic = QuicEndpoint(
            is_server=is_server,
            settings=(settings or {}) | ({} if seat is None else seat.settings),
            tls=tls,
            accept=accept,
            schedule_flush=self._schedule_flush,
            on_error=self._report,
            keylog=keylog,
            qlog=qlog,
            log=log,
            packets_out=packets_out,
            routed=routed,
            forward=None if seat is None else seat.forward,
            handshake_failed=handshake_failed,
            eager=EagerTurn.of(self._loop),
            early_clock=self._now,
        )

    # ------------------------------------------------------------- public face

    @property
    def quic(self) -> QuicEndpoint:
        """The engine's endpoint: statistics, TLS reload, stop accepting."""
        return self._quic

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop that this endpoint belongs to."""
        return self._loop

    @property
    def sockets(self) -> tuple[UdpSocket, ...]:
        """The sockets in the order in which they were added."""
        return tuple(self._sockets)

    @property
    def local_addresses(self) -> list[tuple[str, int]]:
        """(host, port) of every socket."""
        return [udp.address for udp in self._sockets]

    @property
    def is_closed(self) -> bool:
        """True once ``close()`` was called."""
        return self._closed

    async def resolve(
        self, host: str, port: int, *, family: int = socket.AF_UNSPEC
    ) -> list[RemoteAddress]:
        """The addresses of a host, see ``resolve``."""
        return await resolve(host, port, family=family)

    async def bind(
        self,
        host: str | None,
        port: int,
        *,
        family: int = socket.AF_UNSPEC,
        tcp: list[socket.socket] | None = None,
    ) -> list[tuple[str, int]]:
        """Bind and serve a host: an address, a name, ``localhost`` (both families) or a wildcard.

        Args:
            host: ``""``, None or ``::`` is every address of both families.
            port: 0 lets the kernel choose one port for all addresses.
            family: ``socket.AF_INET`` or ``socket.AF_INET6``: only addresses of this family.
            tcp: A list that gets TCP sockets bound to the same addresses and port. None: no TCP.

        Returns:
            The bound addresses, as (host, port).

        Raises:
            ServerError: An address cannot be bound; nothing stays open.
            UnreachableError: The name does not resolve.

        Cancellation:
            Safe; nothing stays open.
        """
        addresses = bind_addresses(host, port, family=family)
        if addresses is None:
            assert host is not None
            found = await self.resolve(host, port, family=family)
            addresses = [BindAddress(kind, sockaddr) for kind, sockaddr in found]
        self._check_open("bind")
        sockets = bind_udp_sockets(addresses, tcp)
        try:
            return self._add_all(sockets)
        except BaseException:
            for sock in tcp or ():
                sock.close()
            raise

    def take(self, sockets: list[socket.socket]) -> list[tuple[str, int]]:
        """Serve sockets that were bound elsewhere; they are closed with the endpoint.

        Returns:
            Their addresses, as (host, port).

        Raises:
            ServerError: The endpoint is closed.
            WebTransportError: The engine cannot use one; all of them are closed.
        """
        return self._add_all(sockets)

    def adopt(self) -> list[tuple[str, int]]:
        """Serve this worker's sockets of the shared port, and packets from other workers.

        Returns:
            The addresses, as (host, port).

        Raises:
            ServerError: Another endpoint of this worker serves them.
        """
        self._check_open("adopt a shared port")
        seat = self._seat
        assert seat is not None
        sockets, seat.sockets = seat.sockets, []
        if not sockets:
            raise ServerError("the shared port is served by another server of this worker")
        bound = self._add_all(sockets)
        self._has_mailbox = True
        seat.follow(self._steer)
        self._loop.add_reader(seat.mailbox.fileno(), self._on_mail)
        return bound

    def open_socket(self, family: int, local: tuple[Any, ...] | None = None) -> UdpSocket:
        """Open one more UDP socket, for instance to migrate a connection to it.

        Args:
            family: ``socket.AF_INET`` or ``socket.AF_INET6``.
            local: Address to bind; None is any address, any port.

        Raises:
            UnreachableError: The address is not available.
        """
        self._check_open("open a socket")
        return self.add_socket(open_udp_socket(family, local))

    def add_socket(self, sock: socket.socket) -> UdpSocket:
        """Take over a bound UDP socket; it is closed with the endpoint.

        Raises:
            ServerError: The endpoint is closed, or a server cannot watch the socket.
            UnreachableError: A client cannot watch it: no file descriptor is left.
            WebTransportError: The engine cannot use the socket; it is closed.
        """
        quic = None
        try:
            self._check_open("add a socket")
            sock.setblocking(False)
            quic = self._quic.add_socket(
                sock.fileno(),
                buffer_size=self._socket_buffer_size,
                features=self._socket_features,
            )
            udp = UdpSocket(sock, quic)
        except BaseException as error:
            if quic is not None:
                quic.close()
            sock.close()
            if isinstance(error, OSError) and not isinstance(error, WebTransportError):
                raise self._unusable(error) from error
            raise
        self._sockets.append(udp)
        self._loop.add_reader(udp.poller.fileno(), self._on_ready, udp)
        return udp

    def _unusable(self, error: OSError) -> WebTransportError:
        kind = ServerError if self._is_server else UnreachableError
        return kind(
            f"cannot use a UDP socket: {explain_os_error(error)}", details={"errno": error.errno}
        )

    def close_socket(self, udp: UdpSocket) -> None:
        """Close one socket; connections whose path uses it must migrate. Idempotent."""
        if udp in self._sockets:
            self._sockets.remove(udp)
            self._release_socket(udp)

    def socket_for(self, family: int) -> UdpSocket:
        """Return the first socket for addresses of ``family``; open one if there is none.

        Raises:
            UnreachableError: The family is not available.
        """
        for udp in self._sockets:
            if udp.family == family:
                return udp
        return self.open_socket(family)

    def connect(
        self,
        remote: RemoteAddress,
        *,
        server_name: str,
        handler: ConnectionHandler,
        udp: UdpSocket | None = None,
        tls: QuicTls | None = None,
        ticket: bytes | None = None,
        token: bytes | None = None,
    ) -> QuicConnection:
        """Start a connection; ``handler`` gets ``handshake_completed`` or ``connection_closed``.

        Args:
            remote: The server's address.
            server_name: Name to send and to verify.
            handler: Gets the events of the connection.
            udp: Socket to use; by default one of the right family.
            tls: TLS configuration; by default the endpoint's.
            ticket: Session ticket of an earlier connection.
            token: Address-validation token of an earlier connection.

        Raises:
            UnreachableError: No socket of the address's family can be opened.
            ConnectionError: The endpoint is closed.
            ConfigurationError: A parameter cannot be used.
        """
        if self._closed:
            raise ConnectionError("the endpoint is closed; open a new one to connect")
        sock, local = self._origin(remote, udp)
        return self._quic.connect(
            sock,
            remote.sockaddr,
            server_name=server_name,
            handler=handler,
            now=self._now(),
            tls=tls,
            ticket=ticket,
            token=token,
            local=local,
        )

    def _origin(
        self, remote: RemoteAddress, udp: UdpSocket | None
    ) -> tuple[QuicSocket | None, tuple[str, int] | None]:
        """Where a connection starts: a socket, or the local address where there are no sockets."""
        return (self.socket_for(remote.family) if udp is None else udp).quic, None

    def migrate(self, connection: Transport, udp: UdpSocket) -> None:
        """Move a client connection to another socket of this endpoint.

        ``path_changed`` of its handler reports the outcome.

        Raises:
            ConnectionError: The peer forbids it, or the connection is closed.
        """
        connection.migrate(udp.quic, udp.address, self._now())

    def flush(self) -> None:
        """Send queued data now, instead of at the end of this loop turn.

        Raises:
            ConfigurationError: The caller runs in another event loop or thread.
        """
        if running_loop() is not self._loop:
            self._check_thread()
        if not self._closed:
            self._run()

    def close(self) -> None:
        """Release everything at once: handlers get ``connection_closed``, no packet is sent.

        Idempotent; may be called from a handler.
        """
        if self._closed:
            return
        self._closed = True
        if self._seat is not None and self._has_mailbox:
            self._has_mailbox = False
            self._seat.unfollow()
            self._loop.remove_reader(self._seat.mailbox.fileno())
        if self._flush_handle is not None:
            self._flush_handle.cancel()
            self._flush_handle = None
        if self._retry_handle is not None:
            self._retry_handle.cancel()
            self._retry_handle = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._poll is not None:
            self._poll.close()
        try:
            self._quic.close()
        finally:
            for udp in self._sockets:
                self._release_socket(udp)
            self._sockets.clear()
            if self._unblocked is not None and not self._unblocked.done():
                self._unblocked.set_result(None)

    async def aclose(self, timeout: float = 1.0) -> None:
        """Send the last packets of connections that were closed in this turn, then ``close()``.

        Args:
            timeout: Seconds to wait for a socket that takes no packets, limited to 0.1 to 1.

        Cancellation:
            Safe; the endpoint is closed at once.
        """
        try:
            if not self._closed:
                async with asyncio.timeout(min(max(timeout, 0.1), 1.0)):
                    await self.wait_sent()
        except builtins.TimeoutError:
            pass
        finally:
            self.close()

    async def wait_sent(self) -> None:
        """Pass all packets that may be sent now to the kernel.

        Cancellation:
            Safe.
        """
        self.flush()
        while not self._closed and (self._quic.is_blocked or self._flush_handle is not None):
            if self._quic.is_blocked:
                if self._unblocked is None:
                    self._unblocked = self._loop.create_future()
                await asyncio.shield(self._unblocked)
            else:
                await asyncio.sleep(0)

    # ---------------------------------------------------------------- the loop

    def _on_ready(self, udp: UdpSocket) -> None:
        if udp.is_full:
            mask = udp.ready()
            if mask & (select.EPOLLOUT | select.EPOLLERR):
                self._on_writable()
            if self._closed or not mask & ~select.EPOLLOUT:
                return
        # If packets are left in the kernel after a full batch, the descriptor is
        # readable again: the loop calls back after all others had a turn.
        clock = self._now  # calling a local variable is faster than calling an attribute
        quic = self._quic
        quic.receive(udp.quic, clock())
        # As ``_settle``; the first part is inlined, because nearly always there is nothing to do.
        idle = self._flush_handle is None and self._timer is not None
        if self._closed:
            return
        if not (idle and quic.is_settled(self._timer_tick)):
            self._settle()
        if self._poll is not None:
            self._poll.received()

    def _steer(self, steering: Steering) -> None:
        if not self._closed:
            self._quic.set_steering(steering.homes, steering.alive_table, steering.ends)

    def _on_mail(self) -> None:
        assert self._seat is not None
        self._quic.receive_foreign(self._seat.take(), self._now())
        if not self._closed:
            self._settle()
            if self._poll is not None:
                self._poll.received()

    def _schedule_flush(self) -> None:
        """Called by the engine, once per turn, when there is something to send."""
        try:
            if asyncio.get_running_loop() is not self._loop:
                self._check_thread()
        except RuntimeError:  # no loop is running
            self._check_thread()
        if self._flush_handle is None and not self._closed:
            self._flush_handle = self._loop.call_soon(self._on_flush)

    def _check_thread(self) -> None:
        """Refuse callers from another event loop or thread; what they queued is still sent."""
        running = running_loop()
        if running is None and threading.get_ident() == self._thread and not self._loop.is_closed():
            return  # between two runs of the loop
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._on_flush)
        raise wrong_loop(self._loop)

    def _on_flush(self) -> None:
        self._flush_handle = None
        if not self._closed:
            self._run()
            if self._poll is not None and not self._closed:
                self._poll.sent()

    def _on_timer(self) -> None:
        self._timer = None
        # A flush that is due does the same, and arms the timer again: one slice in each turn.
        if self._flush_handle is None:
            self._run()

    def _run(self) -> None:
        clock = self._now
        more = self._quic.process(clock())
        if self._closed:
            return
        if more:
            self._schedule_flush()
        self._settle()

    def _settle(self) -> None:
        """After each turn: wait for writability if blocked, and arm the timer."""
        quic = self._quic
        if quic.is_blocked:
            self._watch_writable()
        if self._flush_handle is not None:
            return  # the flush runs first and then settles again
        tick = quic.next_tick()
        if tick is None:
            return
        timer = self._timer
        if timer is not None:
            # A timer that fires too early costs one idle turn; re-arming at
            # each packet would cost more.
            if self._timer_tick <= tick:
                return
            timer.cancel()
        self._timer_tick = tick
        clock = self._now
        delay = (tick - clock()) / _NS
        # uvloop rounds to milliseconds, so that less than half of one would
        # spin; asyncio rounds up. Both wait one millisecond.
        delay = 0.0 if delay <= 0.0 else max(delay, _MIN_DELAY)
        self._timer = self._loop.call_later(delay, self._on_timer)

    def _watch_writable(self) -> None:
        """Watch the sockets that are full; if none is, continue in the next turn."""
        if self._retry_handle is not None or any(udp.is_full for udp in self._sockets):
            return
        for udp in self._sockets:
            udp.watch_writable()
        if not any(udp.is_full for udp in self._sockets):
            self._retry_handle = self._loop.call_soon(self._on_writable)

    def _on_writable(self) -> None:
        self._retry_handle = None
        if self._closed:
            return
        for udp in self._sockets:
            if udp.is_full:
                udp.unwatch_writable()
        self._quic.unblock()
        self._run()
        waiter = self._unblocked
        if waiter is not None and (self._closed or not self._quic.is_blocked):
            self._unblocked = None
            if not waiter.done():
                waiter.set_result(None)

    def _add_all(self, sockets: list[socket.socket]) -> list[tuple[str, int]]:
        """Take over bound sockets, all of them or none."""
        added: list[UdpSocket] = []
        try:
            for sock in sockets:
                added.append(self.add_socket(sock))
        except BaseException:
            for udp in added:
                self.close_socket(udp)
            for sock in sockets:
                sock.close()
            raise
        return [udp.address for udp in added]

    def _release_socket(self, udp: UdpSocket) -> None:
        if not self._loop.is_closed():  # it may be closed before its sockets are released
            self._loop.remove_reader(udp.poller.fileno())
        udp.quic.close()
        udp.close()
        if udp.is_full and not self._closed and self._retry_handle is None:
            # Packets may have been waiting for this socket.
            self._retry_handle = self._loop.call_soon(self._on_writable)

    def _report(self, exc: BaseException) -> None:
        if self._on_error is not None:
            self._on_error(exc)
            return
        if self._loop.is_closed() and isinstance(exc, RuntimeError):
            return  # all waiting callers ended with the loop: nobody is left to report to
        # A peer can repeat a packet that triggers a bug here.
        note = shared_log(_logger).admit(error_kind(exc))
        if note is None:
            return
        self._loop.call_exception_handler(
            {"message": f"exception in a QUIC connection handler{note}", "exception": exc}
        )

    def _check_open(self, what: str) -> None:
        if self._closed:
            raise ServerError(f"cannot {what}: the endpoint is closed; open a new one")
