"""Type stubs of the compiled binding: the only module that touches the C engine.

Objects here are thin: ownership, copies, and code -> exception. They know neither HTTP/3 nor
asyncio beyond ``future.set_result(None)``, except for ``EagerTurn``.
Times are integers, nanoseconds of ``time.monotonic_ns()``.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, Protocol, TypeVar, final

from .._transport import ConnectionHandler, GroupOwner, SockAddr, Waiter

NGTCP2_BUILD_VERSION: Final[str]
NGTCP2_VERSION: Final[str]
GNUTLS_VERSION: Final[str]
QLOG_SUPPORTED: Final[bool]

_Buffer = bytes | bytearray | memoryview
_T = TypeVar("_T")

@final
class CloseInfo:
    """Why a QUIC connection ended (immutable)."""

    def __init__(
        self,
        *,
        kind: str,
        remote: bool = False,
        code: int = 0,
        reason: str = "",
        handshake_done: bool = False,
        tls_error: str = "",
        errno: int = 0,
    ) -> None: ...
    @property
    def kind(self) -> str:
        """One of: application, transport, idle, handshake_timeout, stateless_reset, version,
        refused, internal."""
    @property
    def remote(self) -> bool: ...
    @property
    def code(self) -> int: ...
    @property
    def reason(self) -> str: ...
    @property
    def handshake_done(self) -> bool: ...
    @property
    def tls_error(self) -> str:
        """Our own verification failure in words, "" if none."""
    @property
    def errno(self) -> int: ...

@final
class EagerTurn:
    """The tasks of one event loop that continue in the turn in which a peer's data woke them."""

    def __init__(self, enabled: bool = True) -> None: ...
    @staticmethod
    def of(loop: asyncio.AbstractEventLoop) -> EagerTurn:
        """The one of a loop; it collects nothing if the loop is in debug mode now."""
    def create_future(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[Any]:
        """A future of ``loop``: a task that awaits it continues within ``QuicEndpoint.receive()``
        if it is done there, and otherwise as if it were an ``asyncio.Future``.

        It is shaped like one, but no subclass.
        """
    def run(self, work: Callable[[_T], object], argument: _T) -> None:
        """Call ``work(argument)``, for a transport in Python; then tasks continue whose futures
        are done because of it, as within ``QuicEndpoint.receive()``.

        At least one of them does; those for which there is no time here continue in the next turn
        of the event loop.
        """

@final
class QuicTls:
    """A TLS configuration; shared, immutable once in use except for added SNI certificates."""

    def __init__(
        self,
        *,
        is_server: bool,
        alpn: Sequence[str],
        certfile: str | None = None,
        keyfile: str | None = None,
        ca_certs: str | None = None,
        ca_data: bytes | None = None,  # these roots; ca_certs then names them in messages
        verify: int = 0,  # 0 none, 1 optional (server), 2 required
        certificate_hashes: Sequence[bytes] = (),
        keylog: bool = False,
        tickets: bool = True,
        ticket_key: bytes | None = None,  # 64 bytes that several servers share; None: random
    ) -> None: ...
    @property
    def has_roots(self) -> bool:
        """False if GnuTLS's trust store was asked for and holds nothing."""
    def add_sni(self, name: str, certfile: str, keyfile: str) -> None: ...

@final
class QuicSocket:
    """One UDP socket of an endpoint. The Python socket object stays with the caller."""

    @property
    def fd(self) -> int: ...
    @property
    def features(self) -> frozenset[str]: ...  # of {"gso", "gro", "ecn", "pktinfo"}
    def close(self) -> None: ...  # detaches from the engine; does not close the descriptor

@final
class QuicEndpoint:
    """One engine: any number of sockets and connections, one thread, one loop."""

    def __init__(
        self,
        *,
        is_server: bool,
        # Names and units of qe_settings; "cc" and "retry" are strings.
        settings: dict[str, Any],
        tls: QuicTls | None,
        # Server: called at handshake completion; None refuses the connection.
        accept: Callable[[QuicConnection], ConnectionHandler | None] | None,
        schedule_flush: Callable[[], object],  # at most one call until the next process()/receive()
        on_error: Callable[[BaseException], object],  # an exception out of a handler or sink
        keylog: Callable[[str], object] | None = None,
        # Gets a number that no other open connection has, a record, and whether it is the last.
        qlog: Callable[[int, bytes, bool], object] | None = None,
        log: Callable[[str], object] | None = None,
        # Gets the packets of each turn, instead of a socket; see receive_packets().
        packets_out: Callable[[list[Any]], object] | None = None,
        # With packets_out: any number of connections; a packet is (local, remote, bytes), and
        # what a turn does depends on no clock.
        routed: bool = False,
        # Hears (worker, packet) for receive_foreign() of another worker's endpoint.
        forward: Callable[[int, bytes], object] | None = None,
        # Server: hears of clients that get no connection; of a flood only of some.
        handshake_failed: Callable[[SockAddr, CloseInfo], object] | None = None,
        # Tasks that receive() wakes continue in it; None: in the next turn of the event loop.
        eager: EagerTurn | None = None,
        # The time for packets of small writes, which leave within a turn of the event loop when
        # there are enough of them. None, or packets_out: all wait for process().
        early_clock: Callable[[], int] | None = None,
    ) -> None: ...
    def add_socket(
        self,
        fd: int,
        *,
        buffer_size: int = 0,
        features: Sequence[str] = ("gso", "gro", "ecn", "pktinfo"),
    ) -> QuicSocket: ...
    def receive(self, sock: QuicSocket, now: int) -> bool:
        """Read (GIL released), collect, deliver, transmit. True: the kernel probably holds more.

        Woken tasks continue before it transmits, if there are ``eager`` ones: what they write and
        the acknowledgements leave together. If others were woken, or the slice of this turn ends
        before all have continued, ``schedule_flush`` is called instead of transmitting.
        """
    def receive_packets(self, packets: list[Any], now: int) -> bool:
        """With ``packets_out``: as receive(), for packets that came some other way."""
    def receive_foreign(self, packets: Sequence[bytes], now: int) -> None:
        """Packets that another worker's endpoint gave to its ``forward``; a turn like receive()."""
    def process(self, now: int) -> bool:
        """Expired timers, transmit, deliver. True: work is left, call again soon."""
    def woke(self) -> None:
        """For handlers: a task that runs next will write, and packets of this turn wait for it."""

    def next_tick(self) -> int | None:
        """When process() must run next at the latest; None: nothing is scheduled."""
    def is_settled(self, tick: int) -> bool:
        """Whether nothing has to be done if there is a timer for ``tick``: it is not blocked, and
        process() need not run before."""
    @property
    def is_blocked(self) -> bool: ...
    def block(self) -> None:
        """With ``packets_out``: no packets for now; the engine keeps them until unblock()."""
    def unblock(self) -> None: ...
    def connect(
        self,
        sock: QuicSocket | None,  # None with packets_out
        remote: tuple[Any, ...],  # as socket.getaddrinfo gives it
        *,
        server_name: str,
        handler: ConnectionHandler,
        now: int,
        tls: QuicTls | None = None,
        ticket: bytes | None = None,
        token: bytes | None = None,
        local: tuple[Any, ...] | None = None,  # with packets_out: what local_address shows
    ) -> QuicConnection: ...
    def set_tls(self, tls: QuicTls) -> None: ...
    def set_secrets(self, secrets: Sequence[bytes]) -> None:
        """Keys of what is given out are derived from the first, of 32 bytes, from now on.

        What comes back may be from any of the up to four.
        """

    def set_greeting(self, greeting: bytes) -> None:
        """Server: bytes that begin the first unidirectional stream of each new connection.

        They leave before the client has finished the handshake, so they must not be secret.
        """

    def stop_accepting(self) -> None: ...
    # homes: by place, the worker that takes its new clients or None; alive: one byte a worker.
    def set_steering(
        self, homes: Sequence[int | None], alive: bytes, ends: bool = False
    ) -> None: ...
    def stats(self) -> dict[str, int]: ...  # members of qe_engine_stats
    def close(self) -> None:
        """Abandon every connection (handlers hear it) and free the engine. Idempotent."""
    @property
    def is_closed(self) -> bool: ...

@final
class QuicGroup:
    """Streams and datagrams of one session that share credit (qe_group)."""

    send_limit: int | None  # None = no limit; settable
    recv_limit: int | None
    datagram_limit: int | None  # queued datagrams; beyond, send_datagram() gives False
    credit_threshold: int  # bytes; 0 = never report group_credit_due
    def stats(self) -> dict[str, int | None]: ...
    def clear_datagrams(self) -> int: ...
    def close(self) -> None: ...

@final
class QuicConnection:
    handler: ConnectionHandler | None
    @property
    def is_closed(self) -> bool: ...
    @property
    def close_info(self) -> CloseInfo | None: ...
    def open_stream(self, unidirectional: bool) -> QuicStream | None:
        """None: the peer's stream limit is reached; streams_available() tells when to try again."""
    def take_greeting(self) -> QuicStream | None:
        """Server: the stream that began with the greeting of the endpoint, once; None: none."""
    def streams_left(self, unidirectional: bool) -> int: ...
    @property
    def max_datagram_size(self) -> int: ...
    @property
    def datagrams_queued(self) -> int: ...
    def send_datagram(
        self,
        prefix: bytes,
        data: _Buffer,
        group: QuicGroup | None = None,
        priority: int = 0,
        deadline: int | None = None,
    ) -> bool:
        """Queue one datagram (copied). False: the queue is full, datagram_writable() follows.

        Raises DatagramTooLargeError, DatagramError (peer accepts none), ConnectionError (closed).
        """
    def close(self, code: int, reason: str = "", *, application: bool = True) -> None: ...
    def abandon(self) -> None: ...
    def new_group(self, owner: GroupOwner) -> QuicGroup: ...
    def migrate(self, sock: QuicSocket | None, local: tuple[Any, ...], now: int) -> None: ...
    def initiate_key_update(self, now: int) -> None: ...
    def export_keying_material(self, label: bytes, context: bytes, length: int) -> bytes: ...
    def stats(self) -> dict[str, int | None]: ...  # members of qe_conn_stats; None: unknown
    @property
    def local_address(self) -> SockAddr | None: ...
    @property
    def remote_address(self) -> SockAddr | None: ...
    @property
    def peer_certificate(self) -> bytes | None: ...
    @property
    def alpn(self) -> str: ...
    @property
    def server_name(self) -> str: ...
    @property
    def resumed(self) -> bool: ...
    @property
    def peer_max_datagram_frame_size(self) -> int: ...

class TransportStream:
    """A stream of any transport: what it has received, its state, and who waits for it."""

    on_closed: (
        Callable[[Any], object] | None
    )  # once, in the deliver phase, when is_closed became True
    tag: Any  # free slot for the layer above
    # Called at each ready turn; None: only waiters are woken.
    @property
    def sink(self) -> Callable[[Any], object] | None: ...
    @sink.setter
    def sink(self, value: Callable[[Any], object] | None) -> None: ...
    @property
    def stream_id(self) -> int: ...
    @property
    def is_unidirectional(self) -> bool: ...
    @property
    def is_local(self) -> bool: ...
    @property
    def is_closed(self) -> bool: ...  # both directions done, or the connection ended

    # receiving side
    @property
    def buffered(self) -> int: ...
    @property
    def fin_received(self) -> bool: ...
    @property
    def at_eof(self) -> bool: ...  # fin_received and nothing buffered
    @property
    def is_reset(self) -> bool: ...  # RESET_STREAM received
    @property
    def reset_code(self) -> int | None: ...
    @property
    def bytes_received(self) -> int: ...
    def peek(self, n: int) -> bytes:
        """Up to n buffered bytes, not consumed (also after a reset)."""
    def skip(self, n: int) -> None:
        """Consume n buffered bytes (n <= buffered)."""
    def read(self, n: int = -1) -> bytes | None:
        """Up to n buffered bytes (-1: one piece); None: nothing yet; b"" at the end.

        Credit goes back to the peer. Raises StreamResetError (raw code in details["code"]) after a
        reset, StreamError when the connection ended before FIN (details["connection_closed"]).
        """
    def readinto(self, buffer: bytearray | memoryview) -> int | None: ...
    def unread(self, data: bytes) -> None:
        """Put bytes back at the front (credit was already returned for them)."""
    def set_read_waiter(self, waiter: Waiter | None) -> None:
        """Woken once when there is something to read, EOF, reset, or the end of the connection."""

    # sending side
    @property
    def bytes_written(self) -> int: ...
    @property
    def fin_written(self) -> bool: ...
    @property
    def is_stopped(self) -> bool: ...  # STOP_SENDING received
    @property
    def stop_code(self) -> int | None: ...  # None also when the code is unknown
    @property
    def can_write(self) -> bool:
        """Bytes or a FIN can be written: alive, not finished, reset or stopped."""
    @property
    def is_acked(self) -> bool: ...  # all bytes and FIN acknowledged
    def set_acked_waiter(self, waiter: Waiter | None) -> None: ...
    def release(self) -> None:
        """The application is done: buffered bytes are dropped and credited. The peer gets credit
        for a new stream once both the transport and the application are done with this one."""

@final
class QuicStream(TransportStream):
    """One QUIC stream: received bytes are owned here, bytes to send by the engine."""

    @property
    def connection(self) -> QuicConnection: ...
    @property
    def queued(self) -> int: ...  # accepted, not yet in a packet
    @property
    def is_crowded(self) -> bool: ...  # the connection, or the endpoint, has too much queued
    @property
    def unacked(self) -> int: ...
    def write(self, data: _Buffer, fin: bool = False) -> int:
        """Queue bytes; returns ``queued`` after. Large ``bytes`` are pinned, others copied.

        Raises StreamStoppedError, StreamError (finished, reset, closed).
        """
    def set_write_waiter(self, waiter: Waiter | None) -> None:
        """Woken once when queued falls to the low-water mark, on STOP_SENDING, or at the end."""
    def hold_for(self, until: QuicStream) -> None:
        """A reset or stop asked for from now on is sent only when the end of ``until``, FIN or
        reset, was sent; or a probe timeout later, if the peer gives no credit for that end."""
    def set_reliable_size(self, n: int) -> None: ...
    def set_send_order(self, order: int) -> None: ...
    def reset(
        self, code: int
    ) -> None: ...  # no-op when already finished and acked, reset or closed
    def stop_sending(
        self, code: int
    ) -> None: ...  # drops what is buffered; no-op when the end was received
    def join_group(self, group: QuicGroup, send_header: int, recv_header: int) -> None: ...
    def open_in(self, group: QuicGroup, header: bytes) -> None: ...
    def accept_in(self, group: QuicGroup, header_size: int) -> None: ...

class PlainStream(TransportStream):
    """The stream of a transport in Python, which subclasses this.

    The transport calls the first group of methods. It delivers in two steps, as QUIC does: while
    it processes what arrived, each stream with news calls its ``has_news()``; afterwards, the
    transport calls ``deliver()`` of these streams.
    """

    def __init__(self, stream_id: int, *, is_local: bool, is_unidirectional: bool) -> None: ...

    # What the transport calls.
    def feed(self, data: _Buffer, fin: bool) -> None:
        """Bytes arrived, in order (copied); after ``release()`` or a stop, they are consumed."""
    def peer_reset(self, code: int) -> None:
        """The peer reset the stream. Ignored after a FIN: everything has arrived before it."""
    def peer_stopped(self, code: int) -> None:
        """The peer does not want what is written."""
    def finish_written(self, n: int, fin: bool) -> None:
        """n bytes were queued by ``write()``, and the end of the stream if ``fin``."""
    def mark_reset_sent(self) -> None: ...
    def mark_stop_sent(self) -> None:
        """Reading was stopped: drops what is buffered."""
    def mark_acked(self) -> None:
        """The peer has all bytes and the FIN, as far as the transport can know."""
    def close_stream(self) -> None:
        """Both directions are done, or the connection ended."""
    def deliver(self) -> None:
        """Call the sink, wake waiters, and call ``on_closed`` once the stream is closed.

        Everything is delivered, whatever a callback raises; then its exception is raised.
        """
    def check_writable(self) -> None:
        """For ``write()``: raise StreamStoppedError or StreamError if nothing can be written."""
    def set_write_waiter(self, waiter: Waiter | None) -> None:
        """Woken by ``deliver()`` when there is ``write_room()``, or nothing to wait for."""

    # What the subclass has.
    def consumed(self, n: int) -> None:
        """n more bytes do not need room any more: give credit for them."""
    def input_done(self) -> None:
        """The application has seen the end of the receiving side, or wants nothing more (once)."""
    def has_news(self) -> None:
        """Call ``deliver()`` in this turn, or soon. Called once until it is."""
    def write(self, data: _Buffer, fin: bool = False) -> int: ...
    def write_room(self) -> bool:
        """Whether ``queued`` is at most the low-water mark."""
    def connection_error(self, what: str) -> dict[str, Any]:
        """Details of the StreamError when ``what`` is not possible because the connection ended.

        ``reason`` and ``remote`` among them go to its attributes.
        """

class ConnectionPort:
    """What sessions need of their connection: the base of the connection class in ``_core``."""

    _emitter: Any
    _datagram_gates: Any
    _stream_gates: Any
    _local_streams: int
    _local_uni: int
    _max_local_streams: int

class SessionPort:
    """State and hot paths of a session: the base of the session class in ``_core``.

    A subclass has what happens seldom: ``_open_other``, events, and the classes of streams.
    """

    _emitter: Any
    _close_info: Any
    _config: Any
    _loop: asyncio.AbstractEventLoop
    _eager: EagerTurn
    write_high_water: Any
    write_low_water: Any
    _connection: Any
    _h3: Any
    _state: Any
    _stats: Any
    _orphans: Any
    _acceptors: Any
    _incoming_bidi: Any
    _incoming_uni: Any
    @property
    def _streams(self) -> dict[int, Any]:
        """The streams that are not done, by ID, in the order in which they were opened.

        The session does not keep them: a stream is kept alive by its users, see ``orphans``.
        """
    @property
    def _open_count(self) -> int:
        """How many these are."""
    def _find_stream(self, stream_id: int) -> Any:
        """Return the one with this ID, or None."""
    def _forget_streams(self) -> list[Any]:
        """The session has ended: return them; from now on, there are none."""
    _arrivals: int
    _counted_local: int
    _counted_uni: int
    _max_streams: int

    def stream_received(self, stream: Any, unidirectional: bool) -> None:
        """The peer opened a stream (deliver phase)."""
    def _take_stream(self, bidirectional: bool, unidirectional: bool) -> Any:
        """Take the stream of these kinds that arrived first; return None if there is none."""
    def _create_bidirectional_stream(
        self, *, timeout: float | None = None, send_order: int = 0
    ) -> Coroutine[Any, Any, Any]: ...
    def _create_unidirectional_stream(
        self, *, timeout: float | None = None, send_order: int = 0
    ) -> Coroutine[Any, Any, Any]: ...
    def _add_stream(self, quic: Any) -> Any:
        """Create the object for a stream that this end opened."""
    def _try_open(self, unidirectional: bool) -> Any:
        """Open a stream now; return None if a limit of the peer or a local limit is reached."""
    def _remove_stream(self, stream: StreamPort) -> None:
        """A stream is completely done. If the peer opened it, the peer may open another one."""

STREAMS_AT_ONCE: int
"""How many streams an iterator takes per turn of the event loop: each may start a task."""

class IncomingPort:
    """State and hot path of an iterator over streams of the peer.

    A subclass has ``_next``: it waits, and lets others go first.
    """

    session: Any
    _bidirectional: bool
    _unidirectional: bool
    # The queues of callers for the wanted kinds; None before the first caller waits.
    _first: Any
    _second: Any
    _taken: int
    def __anext__(self) -> Coroutine[Any, Any, Any]: ...

class StreamPort:
    """State and hot paths of a stream: the base of the stream classes in ``_core``.

    A subclass has what happens seldom: ``_read_other``, ``_write_other``, ``_drain``, the errors.
    """

    _emitter: Any
    _session: Any
    _quic: Any
    _error: Any
    _stats: Any
    _closed_at: float | None
    _read_waiter: asyncio.Future[bool | None] | None
    _read_timer: asyncio.TimerHandle | None
    _writers: Any
    _send_end: Any
    # The rest of a mutable buffer that is not queued yet, and whether the stream ends after it.
    _rest: tuple[memoryview, bool] | None
    _send_order: int
    _done: bool
    _reset_sent: bool
    _receive_done: bool
    _arrival: int
    _reads: int
    _writes: int
    bytes_read: int
    bytes_sent: int
    _read_time: float
    _max_read_time: float
    _wait_started: float
    _created_at: float

    def _loosen(self) -> None:
        """The session has ended and keeps this stream: do not keep the session from now on."""
    def _read(self, size: int = 8192) -> Coroutine[Any, Any, bytes]: ...
    def _read_all(self, max_size: int | None = None) -> Coroutine[Any, Any, bytes]: ...
    def _readexactly(self, n: int) -> Coroutine[Any, Any, bytes]: ...
    def _write(
        self, data: Any, *, end_stream: bool = False, wait_flush: bool = True
    ) -> Coroutine[Any, Any, None]: ...
    def _write_all(self, data: Any, chunk_size: int = 8192) -> Coroutine[Any, Any, None]: ...
    def _finish(self) -> None: ...
    def _close(
        self, *, code: int | None = None, reason: str | None = None
    ) -> Coroutine[Any, Any, None]: ...
    def _begin_wait(self) -> asyncio.Future[bool | None]:
        """Return a future that is done when a read can proceed; raise if waiting is pointless.

        Callers must call ``_end_wait`` after awaiting it, whatever happened. The result is True
        if the read timeout has passed.
        """
    def _end_wait(self, waiter: asyncio.Future[bool | None]) -> None:
        """Clean up after a wait, whatever ended it, and update the statistics."""
    def _finish_receive(self) -> None:
        """The application is done with the receiving half."""
    def _check_done(self) -> None:
        """Detach from the session once both the engine and the application are done."""

@final
class StreamRoutes:
    """The ``stream_ready`` of a connection: reads the header of a stream, and finds its session.

    Args:
        sessions: HTTP/3 sessions by their ID.
        others: Gets streams that are not ordinary ones of a session.
    """

    def __init__(self, sessions: dict[int, Any], others: Callable[[Any], object]) -> None: ...
    def __call__(self, stream: Any) -> None: ...

@final
class DatagramRoutes:
    """The ``datagrams_received`` of a connection: cuts headers off, and finds the sessions.

    Args:
        routes: By quarter stream ID: gets the payloads of one turn that follow each other.
        others: Gets what has no route, as it came.
    """

    def __init__(
        self,
        routes: dict[int, Callable[[list[bytes]], object]],
        others: Callable[[list[bytes]], object],
    ) -> None: ...
    def __call__(self, datagrams: list[bytes]) -> None: ...

class DatagramQueuePort:
    """Datagrams that wait for the application. A subclass has ``_reserve`` and ``release``."""

    waiting: deque[bytes]
    # Arrival times: (number of the last datagram of a batch, seconds) of all batches but the last.
    _arrivals: deque[tuple[int, float]]
    _last_arrival: float
    _memory: Any
    limit: int
    held: int
    low: int
    _high: int
    _reserved: int
    _came: int

    def add(self, datagrams: list[bytes], total: int) -> int:
        """Add datagrams of ``total`` bytes; return how many were dropped to make room."""
    def pop(self) -> bytes:
        """Remove and return the oldest datagram; the queue must not be empty."""

class DatagramPort:
    """State and hot paths of datagrams: the base of the datagram transport in ``_core``.

    A subclass has what happens seldom: ``_receive_other``, ``_send_other``, the errors.
    """

    _emitter: Any
    _session: Any
    _h3: Any
    _queue: Any
    _receivers: Any
    _stats: Any
    _incoming_max_age: float | None
    _outgoing_max_age: float | None
    _min_size: float
    _closed: bool
    _max_size: int
    _receive_time: float
    _max_receive_time: float
    _receive_sequence: int
    _send_sequence: int
    _received_count: int
    _receive_drops: int
    _bytes_received: int
    _bytes_sent: int

    def _received(self, datagrams: list[bytes]) -> None:
        """The datagrams of one turn arrived (deliver phase); there is at least one."""
    def _serve_receivers(self, taken: int = 0) -> None:
        """Wake one waiting caller for each datagram, except for ``taken`` datagrams."""
    def _receive(self, *, timeout: float | None = None) -> Coroutine[Any, Any, bytes]: ...
    def _send(
        self, data: Any, *, priority: int = 0, ttl: float | None = None
    ) -> Coroutine[Any, Any, None]: ...
    def _send_many(self, payloads: list[bytes]) -> int:
        """Send as many in a row as ``send`` would without waiting; return how many."""

class MemoryBudget(Protocol):
    limit: int
    used: int

def watch_memory(budget: MemoryBudget | None, on_full: Callable[[], object] | None) -> None:
    """Set the memory of the process: unread bytes and pieces out of order share its limit with
    what is ``used``. Connections get credit for what is left. ``on_full`` is called after a turn,
    if nothing is left."""

def unread_bytes() -> int:
    """Bytes that all connections of the process received on streams and that nobody read yet."""

def library_bytes() -> int:
    """Bytes that the QUIC library holds for all connections beyond what each needs: mostly
    pieces that arrived out of order."""

def held_by_connections() -> list[tuple[QuicConnection, int]]:
    """The open connections of all endpoints, whose handshake is done or which are ours, and the
    bytes of both kinds that each holds."""

def live_objects() -> dict[str, int]:
    """How many endpoints, sockets, connections, streams, groups exist (leak checks)."""
