"""Protocols between the layers: a transport, and the sessions that it carries.

``h3`` and ``_core`` use a transport only by ``Transport``, ``Stream`` and ``Group``. The compiled
classes ``QuicConnection``, ``QuicStream``, ``QuicGroup`` and ``CloseInfo`` implement them, and so
do the classes of ``_qmux``. ``_core`` uses the sessions of a connection only by ``SessionLayer``
and ``LayerSession``, which ``H3Connection`` with ``H3Session`` and ``QMuxSessions`` with
``QMuxSession`` implement. Times are integers, nanoseconds of ``time.monotonic_ns()``, unless
stated otherwise.

The transport calls handlers, sinks, waiters and owners only in its deliver phase, after it has
processed everything that arrived. Such a call may do anything, including closing the connection.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from ._header_map import HeaderMap
from ._states import HeadersToSend
from .exceptions import WebTransportError

if TYPE_CHECKING:
    import asyncio

__all__ = [
    "CallLater",
    "CloseInfo",
    "ConnectionHandler",
    "Dialect",
    "Group",
    "GroupOwner",
    "LayerSession",
    "Packet",
    "PacketNetwork",
    "SessionEvents",
    "SessionLayer",
    "SessionStream",
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


class SessionEvents(Protocol):
    """Events of one WebTransport session (set ``LayerSession.events``)."""

    def session_established(self) -> None:
        """Client: 2xx received, ``response_headers`` and ``application_protocol`` are set."""

    def session_rejected(
        self, status: int | None, headers: Mapping[str, str], error: Exception | None
    ) -> None:
        """Client: a final status other than 2xx, or no usable answer at all (status ``None``)."""

    def stream_received(self, stream: Any, unidirectional: bool) -> None:
        """The peer opened a stream; its header is consumed and its ``sink`` is ``None``."""

    def datagrams_received(self, datagrams: list[bytes]) -> None:
        """Datagrams in the order of arrival, at least one."""

    def streams_available(self, unidirectional: bool) -> None:
        """Session or connection credit grew: try ``open_stream`` again."""

    def datagram_writable(self) -> None: ...

    def session_draining(self) -> None:
        """DRAIN capsule or GOAWAY (once)."""

    def credit_updated(self, kind: str, limit: int) -> None:
        """WT_MAX_DATA / WT_MAX_STREAMS: kind is "data", "streams_bidi" or "streams_uni"."""

    def capsule_received(self, capsule_type: int, value: bytes) -> None:
        """A well-formed known capsule (for observers; already handled)."""

    def session_closed(
        self, code: int | None, reason: str, remote: bool, error: Exception | None
    ) -> None:
        """Last call. ``code`` None: abrupt end (CONNECT stream reset, connection lost)."""


class Dialect(Protocol):
    """A generation of the drafts of WebTransport over HTTP/3."""

    @property
    def draft(self) -> int: ...


class SessionStream(Protocol):
    """What the end of a session is told by: its CONNECT stream, or what stands for it."""

    @property
    def is_closed(self) -> bool: ...
    @property
    def is_acked(self) -> bool:
        """The peer's transport has received the end."""

    @property
    def is_stopped(self) -> bool: ...
    @property
    def is_reset(self) -> bool: ...
    @property
    def buffered(self) -> int: ...
    @property
    def fin_received(self) -> bool: ...
    def set_acked_waiter(self, waiter: Waiter | None) -> None: ...
    def set_read_waiter(self, waiter: Waiter | None) -> None: ...


class LayerSession(Protocol):
    """One session, as the layer below ``_core`` knows it.

    Attributes:
        events: Receives the events of the session; a server sets it before ``accept``.
        datagram_limit: Datagrams of the session that may wait in the outgoing queue; None: no
            limit.
    """

    events: SessionEvents
    datagram_limit: int | None

    @property
    def is_client(self) -> bool: ...
    @property
    def session_id(self) -> int:
        """The protocol's ID of the session; negative until the request is sent."""

    @property
    def authority(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def origin(self) -> str | None: ...
    @property
    def request_headers(self) -> HeaderMap: ...
    @property
    def response_headers(self) -> HeaderMap:
        """Empty until there is a response."""

    @property
    def status(self) -> int | None:
        """Status of the response; 200 if the session was accepted, on any transport."""

    @property
    def offered_protocols(self) -> Sequence[str]: ...
    @property
    def application_protocol(self) -> str | None: ...
    @property
    def dialect(self) -> Dialect | None:
        """None if it is not known yet, and on a transport without HTTP/3."""

    @property
    def draining(self) -> bool: ...
    @property
    def is_live(self) -> bool:
        """The session is established and has not ended."""

    @property
    def stream(self) -> SessionStream | None:
        """What ends with the session, such as its CONNECT stream; None if there is nothing yet."""

    # Answering.

    def accept(
        self, headers: HeadersToSend | None = None, application_protocol: str | None = None
    ) -> None:
        """Server: accept the session.

        Raises:
            SessionError: The session does not wait for an answer (any more).
            ConfigurationError: A header cannot be sent, or the protocol was not offered.
        """

    def reject(self, status: int, headers: HeadersToSend | None = None) -> None:
        """Server: answer with a status of 300 to 599. Raises as ``accept``."""

    # Streams.

    def open_stream(self, unidirectional: bool) -> Stream | None:
        """Open a stream; None: no credit now, ``streams_available`` follows.

        Raises:
            SessionError: The session is closed.
            ConnectionError: The connection is closed.
        """

    def stream_finished(self, stream: Any, unidirectional: bool) -> None:
        """The application is done with a stream; called once for each."""

    def code_to_wire(self, code: int) -> int:
        """Map an application's code of a stream, 0 to 2**32 - 1, to the one on the wire."""

    def code_from_wire(self, wire: int | None) -> int | None:
        """Map a received stream code to the application's; None if there is none."""

    def code_passed(self, wire: int | None, origin: LayerSession) -> int:
        """Return the wire code that passes on a stream code of the session ``origin``."""

    # Datagrams.

    @property
    def group(self) -> Group: ...
    @property
    def max_datagram_size(self) -> int: ...
    def send_datagram(self, data: _Buffer, priority: int = 0, deadline: int | None = None) -> bool:
        """Queue one datagram; False: no room, ``datagram_writable`` follows.

        Raises:
            DatagramTooLargeError: It does not fit.
            SessionError: The session is closed.
        """

    def route_datagrams(self, receive: Callable[[list[bytes]], object]) -> None:
        """Give received datagrams straight to ``receive``, once the session takes them."""

    # The rest.

    def stats(self) -> dict[str, int | None]:
        """Counters of streams, bytes and datagrams, and the limits in force."""

    def export_keying_material(self, label: bytes | str, context: bytes, length: int) -> bytes: ...
    def drain(self) -> None:
        """Ask the peer to end the session soon."""

    def close(self, code: int = 0, reason: str = "") -> None: ...
    def abort(self, code: int = ..., /) -> None:
        """End the session without an application code; does nothing if it has ended.

        Args:
            code: An HTTP/3 code that says why, on transports with HTTP/3.
        """

    def tell_loss(self) -> None:
        """Report the loss of the connection now, if that was left to a later turn."""


class SessionLayer(Protocol):
    """The sessions of one connection: what joins a transport with ``_core``.

    Besides, it has the events of ``ConnectionHandler`` about streams and datagrams.
    """

    @property
    def quic(self) -> Transport: ...
    @property
    def transport(self) -> str:
        """``quic`` or ``websocket``."""

    @property
    def dialect(self) -> Dialect | None: ...
    @property
    def settings_known(self) -> bool:
        """What the peer has to say before a session can be requested has arrived."""

    @property
    def peer_settings(self) -> Mapping[int, int]: ...
    @property
    def goaway_received(self) -> bool: ...
    @property
    def webtransport_error(self) -> Exception | None:
        """Why no session can be opened on this connection; None if one can, or not known yet."""

    @property
    def loss(self) -> Exception | None:
        """Why the connection is closed; None if it is open, or this end closed it."""

    @property
    def failure(self) -> WebTransportError | None:
        """What ended the transport, if that is known better than ``CloseInfo`` tells."""

    @property
    def has_requests(self) -> bool:
        """Something besides open sessions has to be told of the end of the connection."""

    @property
    def early_dropped(self) -> int:
        """Streams and datagrams that came before their session and were dropped."""

    def streams_opened(self, unidirectional: bool) -> int:
        """Return how many streams of a kind were opened here, those of the layer included."""

    def is_expected(self, info: CloseInfo) -> bool:
        """Return whether an end of the connection is an ordinary one."""

    def start(self) -> None:
        """The handshake is done."""

    def stream_ready(self, stream: Any) -> None: ...
    def datagrams_received(self, datagrams: list[bytes]) -> None: ...
    def streams_available(self, unidirectional: bool) -> None: ...
    def datagram_writable(self) -> None: ...
    def connection_closed(self, error: Exception | None, then: Callable[[], object] = ...) -> None:
        """The transport is gone: end every session, and then call ``then``."""

    def open_session(
        self,
        *,
        authority: str,
        path: str,
        headers: HeadersToSend,
        origin: str | None = None,
        application_protocols: Sequence[str] = (),
        require_application_protocol: bool = False,
        events: SessionEvents,
    ) -> LayerSession:
        """Client: request a session.

        Raises:
            ConfigurationError: An argument cannot be sent.
            ConnectionError: The connection is closed or closing.
            ClientError: The server takes no new sessions.
            SessionError: No more sessions are allowed on this connection now.
        """

    def closing_sessions(self) -> Sequence[LayerSession]:
        """Return ended sessions whose end the peer may not know yet."""

    def send_goaway(self) -> None:
        """Announce the end of the connection."""

    def finish_goaway(self) -> None:
        """Server: serve no further requests from now on."""

    def close(self, *, reason: str = "") -> None:
        """End all sessions with code 0 and close the connection, at once."""

    def release(self) -> None:
        """Close a socket of the connection alone, after the event loop was closed."""

    def shed(self, reason: str) -> None:
        """Close the connection, because it takes more than its share."""


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
