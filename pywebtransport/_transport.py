"""Protocols of a transport for the layers above: a connection, a stream and a group.

``h3`` and ``_core`` use a transport only by these protocols. The compiled classes
``QuicConnection``, ``QuicStream``, ``QuicGroup`` and ``CloseInfo`` implement them, and so can
another transport that follows the rules of QUIC; tests use a connection in memory instead. Times
are integers, nanoseconds of ``time.monotonic_ns()``, unless stated otherwise.

The transport calls handlers, sinks, waiters and owners only in its deliver phase, after it has
processed everything that arrived. Such a call may do anything, including closing the connection.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    import asyncio

__all__ = [
    "CallLater",
    "CloseInfo",
    "ConnectionHandler",
    "Group",
    "GroupOwner",
    "Packet",
    "PacketNetwork",
    "SockAddr",
    "Stream",
    "TimerHandle",
    "Transport",
    "Turns",
    "Waiter",
]

SockAddr: TypeAlias = tuple[str, int]
Packet: TypeAlias = tuple[SockAddr, SockAddr, bytes]
"""Address of this end, address of the other end, UDP payload."""
_Buffer: TypeAlias = bytes | bytearray | memoryview


class TimerHandle(Protocol):
    def cancel(self) -> None: ...


class CallLater(Protocol):
    """``call_later(seconds, callback, *args)`` -> handle; the shape of ``loop.call_later``."""

    def __call__(
        self, delay: float, callback: Callable[..., object], /, *args: Any
    ) -> TimerHandle: ...


class Turns(Protocol):
    """Shares the time of the event loop; the shape of ``utils._turns.Turns``."""

    @property
    def is_over(self) -> bool:
        """Whether other tasks must get a turn now."""

    def later(self, work: Callable[[], object]) -> None:
        """Continue with ``work`` in a later turn."""


class Waiter(Protocol):
    """What a stream wakes: an ``asyncio.Future`` or a similar object."""

    def done(self) -> bool: ...
    def set_result(self, result: None, /) -> None: ...


class CloseInfo(Protocol):
    """Why a connection ended."""

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
        """Description of a verification failure at this end; empty if there was none."""

    @property
    def errno(self) -> int:
        """Error of the socket; 0 if there was none."""


class ConnectionHandler(Protocol):
    """Events of one connection.

    Exceptions of a handler go to ``on_error`` of its endpoint and affect no other connection.
    """

    def handshake_completed(self) -> None: ...

    def connection_closed(self, info: CloseInfo) -> None:
        """The last call; ``connection.handler`` is None from now on."""

    def stream_ready(self, stream: Any) -> None:
        """Default sink of streams that the peer opened, until ``stream.sink`` is set."""

    def datagrams_received(self, datagrams: list[bytes]) -> None:
        """All datagrams of one turn, in order of arrival."""

    def streams_available(self, unidirectional: bool) -> None:
        """The peer allows more streams of this kind."""

    def datagram_writable(self) -> None:
        """The queue fell to half after ``send_datagram`` returned False."""

    def path_changed(self, validated: bool) -> None:
        """The path changed; False: a migration that this end started has failed."""

    def session_ticket(self, ticket: bytes) -> None: ...
    def new_token(self, token: bytes) -> None: ...


class GroupOwner(Protocol):
    """Receives events about the credit of a group (one WebTransport session)."""

    def group_blocked(self, limit: int) -> None:
        """Bytes wait for ``send_limit``; once per limit."""

    def group_violated(self, received: int, limit: int) -> None:
        """The peer sent more than ``recv_limit``; once per limit."""

    def group_credit_due(self) -> None:
        """At least ``credit_threshold`` bytes were consumed since ``recv_limit`` was set."""


class Group(Protocol):
    """Streams and datagrams of one session that share credit; ``None`` is no limit.

    Attributes:
        send_limit: Bytes that its streams may send in total.
        recv_limit: Bytes that they may receive in total.
        datagram_limit: Datagrams that may be queued.
        credit_threshold: Bytes; 0: ``group_credit_due`` is never called.
    """

    send_limit: int | None
    recv_limit: int | None
    datagram_limit: int | None
    credit_threshold: int

    def stats(self) -> dict[str, int | None]: ...
    def clear_datagrams(self) -> int: ...
    def close(self) -> None: ...


class Stream(Protocol):
    """One stream. It owns the received bytes; the transport owns the bytes to send.

    Attributes:
        sink: Called in each turn with an event of the stream; None: only waiters are woken.
        on_closed: Called once, when ``is_closed`` became True.
        tag: Free for the layer above.
    """

    sink: Callable[[Any], object] | None
    on_closed: Callable[[Any], object] | None
    tag: Any

    @property
    def stream_id(self) -> int: ...
    @property
    def is_unidirectional(self) -> bool: ...
    @property
    def is_local(self) -> bool: ...
    @property
    def is_closed(self) -> bool:
        """Both directions are done, or the connection ended."""

    # Receiving.

    @property
    def buffered(self) -> int: ...
    @property
    def fin_received(self) -> bool: ...
    @property
    def at_eof(self) -> bool:
        """FIN received and nothing buffered."""

    @property
    def is_reset(self) -> bool:
        """The peer reset the stream."""

    @property
    def reset_code(self) -> int | None: ...
    @property
    def bytes_received(self) -> int: ...
    def peek(self, n: int) -> bytes:
        """Up to ``n`` buffered bytes, not consumed; also after a reset."""

    def skip(self, n: int) -> None:
        """Consume ``n`` buffered bytes."""

    def read(self, n: int = -1) -> bytes | None:
        """Up to ``n`` buffered bytes (-1: one piece); None: nothing yet; ``b""`` at the end.

        Credit goes back to the peer.

        Raises:
            StreamResetError: The peer reset the stream (``details["code"]``).
            StreamError: The connection ended before the FIN (``details["connection_closed"]``).
        """

    def readinto(self, buffer: bytearray | memoryview) -> int | None: ...
    def unread(self, data: bytes) -> None:
        """Put bytes back at the front; credit was returned for them already."""

    def set_read_waiter(self, waiter: Waiter | None) -> None:
        """Woken once when there is something to read, EOF, a reset, or the connection ended."""

    # Sending.

    @property
    def queued(self) -> int:
        """Bytes accepted but not in a packet yet."""

    @property
    def is_crowded(self) -> bool:
        """All streams together have so much queued that each should be at its low-water mark."""

    @property
    def unacked(self) -> int: ...
    @property
    def bytes_written(self) -> int: ...
    @property
    def fin_written(self) -> bool: ...
    @property
    def is_stopped(self) -> bool:
        """The peer sent STOP_SENDING."""

    @property
    def stop_code(self) -> int | None: ...
    @property
    def can_write(self) -> bool:
        """Whether bytes or a FIN can be written: it is open, and not finished, reset or stopped."""

    @property
    def is_acked(self) -> bool:
        """The peer's transport has all bytes and the FIN."""

    def write(self, data: _Buffer, fin: bool = False) -> int:
        """Queue bytes; returns ``queued`` after it.

        Raises:
            StreamStoppedError: The peer does not want them.
            StreamError: Finished, reset or closed.
        """

    def set_write_waiter(self, waiter: Waiter | None) -> None:
        """Woken once when ``queued`` falls to the low-water mark, on a stop, or at the end."""

    def set_acked_waiter(self, waiter: Waiter | None) -> None: ...
    def set_reliable_size(self, n: int) -> None:
        """A reset from now on still delivers the first ``n`` bytes, if the peer can."""

    def set_send_order(self, order: int) -> None: ...

    # Ends.

    def hold_for(self, until: Any) -> None:  # Stream
        """Send a reset or a stop only when the end of the stream ``until`` was sent."""

    def reset(self, code: int) -> None: ...
    def stop_sending(self, code: int) -> None: ...
    def join_group(self, group: Any, send_header: int, recv_header: int) -> None: ...
    def open_in(self, group: Any, header: bytes) -> None:
        """``join_group`` for a new stream of this end: writes the header, and a reset from now on
        still delivers it, if the peer can."""

    def accept_in(self, group: Any, header_size: int) -> None:
        """``join_group`` for a new stream of the peer: consumes the header."""

    def release(self) -> None:
        """The layer above no longer uses it: drop buffered bytes, and return their credit."""


class Transport(Protocol):
    """One connection.

    Attributes:
        handler: Receives its events; None once it is closed.
    """

    handler: ConnectionHandler | None

    @property
    def is_closed(self) -> bool: ...
    @property
    def close_info(self) -> CloseInfo | None: ...
    @property
    def local_address(self) -> SockAddr | None: ...
    @property
    def remote_address(self) -> SockAddr | None: ...
    @property
    def peer_certificate(self) -> bytes | None:
        """The certificate in DER form."""

    @property
    def alpn(self) -> str: ...
    @property
    def server_name(self) -> str: ...
    @property
    def resumed(self) -> bool: ...
    def stats(self) -> dict[str, int | None]:
        """Counters by name; None: not available from this transport."""

    def open_stream(self, unidirectional: bool) -> Stream | None:
        """Open a stream; None: the peer allows none until ``streams_available`` is called."""

    def take_greeting(self) -> Stream | None:
        """Server: the stream that was opened with our SETTINGS during the handshake (see
        ``h3.settings.greeting``), once; None: there is none."""

    def streams_left(self, unidirectional: bool) -> int: ...
    def new_group(self, owner: GroupOwner) -> Group: ...

    @property
    def max_datagram_size(self) -> int: ...
    @property
    def peer_max_datagram_frame_size(self) -> int: ...
    @property
    def datagrams_queued(self) -> int: ...
    def send_datagram(
        self,
        prefix: bytes,
        data: _Buffer,
        group: Any = None,
        priority: int = 0,
        deadline: int | None = None,
    ) -> bool:
        """Queue one datagram; False: no room, ``datagram_writable`` follows.

        Raises:
            DatagramTooLargeError: It does not fit into a packet.
            DatagramError: The peer accepts no datagrams.
            ConnectionError: The connection is closed.
        """

    def export_keying_material(self, label: bytes, context: bytes, length: int) -> bytes: ...
    def initiate_key_update(self, now: int) -> None: ...
    def migrate(self, sock: Any, local: tuple[Any, ...], now: int) -> None:
        """Client: move to another socket; ``path_changed`` reports the result."""

    def close(self, code: int, reason: str = "", *, application: bool = True) -> None: ...
    def abandon(self) -> None:
        """Drop the connection without telling the peer."""


class PacketNetwork(Protocol):
    """A network for endpoints, such as ``pywebtransport.testing.Network``."""

    def resolve(self, host: str) -> list[str]:
        """Return the IP addresses of a host; empty if the name is unknown."""

    def name(self, host: str) -> list[str]:
        """As ``resolve``, but assigns an address to an unknown name."""

    def attach(
        self,
        address: SockAddr,
        receive: Callable[[list[Packet]], object],
        loop: asyncio.AbstractEventLoop,
    ) -> SockAddr:
        """Register the receiver of an address; port 0 is replaced by a free one.

        Raises:
            OSError: The address is taken.
        """

    def detach(self, address: SockAddr) -> None:
        """Deliver nothing more to an address."""

    def send(self, packets: Sequence[Packet]) -> None:
        """Take packets of an attached address."""
