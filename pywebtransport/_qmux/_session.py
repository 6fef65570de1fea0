"""The session of a QMux connection: its state, its streams and datagrams. Sans-I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from .._header_map import HeaderMap
from .._states import HeadersToSend
from .._transport import (
    CloseInfo,
    Group,
    LayerSession,
    SessionEvents,
    Stream,
    Transport,
    Waiter,
)
from ..constants import MAX_APPLICATION_CODE
from ..exceptions import (
    ConfigurationError,
    DatagramTooLargeError,
    ProtocolError,
    SessionClosedError,
    SessionError,
    SessionRejectedError,
)
from ..h3._capsules import cut_reason
from ..h3._error_codes import check_code
from ..h3._fields import CONNECTION_FIELDS, check_fields, check_rejection
from ..h3._nothing import NO_HEADERS, NO_OWNER, NO_SESSION_EVENTS
from ..h3._session_state import CLOSED, LIVE, H3SessionState
from ..utils._text import printable
from ._names import Subprotocol, choose, protocols_of

__all__ = ["ClientUpgrade", "QMuxSession", "ServerUpgrade", "SessionTransport"]

_OF_WEBSOCKET: Final = "sec-websocket-"
_OF_THE_CONNECTION: Final = {name.decode() for name in CONNECTION_FIELDS} | {"content-length"}
_SWITCHING: Final = 101
_ACCEPTED: Final = 200
_BAD_REQUEST: Final = 400
_UNAVAILABLE: Final = 503
# The error codes of QUIC (RFC 9000 section 20.1).
_PROTOCOL_VIOLATION: Final = 0x0A
_APPLICATION_ERROR: Final = 0x0C
# Before the parameters of the peer have arrived: what fits into a record of the default size, as
# a DATAGRAM frame with a length of two bytes.
_USUAL_DATAGRAM: Final = 16382 - 3


class SessionTransport(Transport, Protocol):
    """What a session needs of a QMux connection besides ``Transport``.

    Attributes:
        on_ready: Called once when the peer's parameters are in.
        on_drain: Called when the peer asks this end to finish.
        on_gone: Called once the link is gone, after this end has closed the connection.
    """

    on_ready: Callable[[], object] | None
    on_drain: Callable[[], object] | None
    on_gone: Callable[[], object] | None

    @property
    def failure(self) -> BaseException | None:
        """What ended the link, if it is known."""

    def start(self, draft: int) -> None:
        """The link is a WebSocket with this draft of QMux: our parameters go out at once."""

    def release(self) -> None:
        """Close the socket, after the event loop was closed."""

    def send_drain(self) -> bool:
        """Ask the peer to finish; False: it would not understand."""


class ServerUpgrade(Protocol):
    """A request to upgrade to WebSocket that waits for its answer."""

    @property
    def path(self) -> str:
        """Path and query."""

    @property
    def authority(self) -> str: ...
    @property
    def origin(self) -> str | None: ...
    @property
    def headers(self) -> HeaderMap:
        """The other fields, without those of the upgrade."""

    @property
    def offered(self) -> tuple[str, ...]:
        """The names in ``Sec-WebSocket-Protocol``."""

    def accept(self, subprotocol: str | None, headers: HeaderMap) -> bool:
        """Answer 101; False: the client has left."""

    def reject(self, status: int, headers: HeaderMap) -> bool:
        """Answer with another status, and close; False: the client has left."""


class ClientUpgrade(Protocol):
    """A link that can ask for an upgrade to WebSocket, once."""

    def request(
        self,
        *,
        path: str,
        authority: str,
        headers: HeaderMap,
        subprotocols: Sequence[str],
        on_answer: Callable[[int, HeaderMap, str | None], None],
    ) -> None:
        """Send the request.

        Args:
            path: Path and query.
            authority: The field ``host``.
            headers: Other fields, among them ``origin``.
            subprotocols: The offer, best first.
            on_answer: Gets the status, the fields and the chosen subprotocol; with status 101,
                the link is a WebSocket now.
        """


class SessionEnd:
    """The end of a session that this end closed, in the shape of a CONNECT stream.

    The peer knows of it once the WebSocket is closed at both ends.
    """

    is_stopped = is_reset = False
    buffered = 0

    __slots__ = ("_acked_waiter", "_read_waiter", "is_closed")

    def __init__(self) -> None:
        self.is_closed = False
        self._acked_waiter: Waiter | None = None
        self._read_waiter: Waiter | None = None

    @property
    def is_acked(self) -> bool:
        """The peer knows of the end, or is gone."""
        return self.is_closed

    @property
    def fin_received(self) -> bool:
        """The peer has ended its side."""
        return self.is_closed

    def set_acked_waiter(self, waiter: Waiter | None) -> None:
        self._acked_waiter = waiter

    def set_read_waiter(self, waiter: Waiter | None) -> None:
        self._read_waiter = waiter

    def reached(self) -> None:
        """The WebSocket is closed."""
        self.is_closed = True
        for waiter in (self._acked_waiter, self._read_waiter):
            if waiter is not None and not waiter.done():
                waiter.set_result(None)
        self._acked_waiter = self._read_waiter = None


class QMuxSession:
    """The session of a connection; created by ``QMuxSessions``.

    Args:
        quic: The QMux connection.
        upgrade: Server: the request; None at a client.
        authority: Host and port of the URL.
        path: Path and query.
        origin: The field ``origin``.
        request_headers: The other fields of the request; not changed from here on.
        offered: The subprotocols of the offer that this end speaks.
        require_protocol: Client: close the session if the server selects no application protocol.
        events: Receives the events.

    Attributes:
        session_id: 0 once the request is sent, and negative before.
        state: See ``H3SessionState``.
        response_headers: Fields of the response, once there is one.
        status: Its status; 200 in place of 101.
        offered_protocols: The application protocols that the client offers, in its order.
        application_protocol: What the server chose.
        draining: The peer asked this end to finish.
        stream: What tells whether the peer knows of the end; None before this end closes.
    """

    # The compiled code asks for these shortcuts of HTTP/3, and takes the methods without them.
    stream_way = None
    datagram_way = None
    dialect = None

    __slots__ = (
        "_datagram_limit",
        "_datagram_refused",
        "_drain_sent",
        "_is_ready",
        "_offered",
        "_opened",
        "_over",
        "_quic",
        "_received",
        "_require_protocol",
        "_upgrade",
        "_waiting",
        "application_protocol",
        "authority",
        "draining",
        "events",
        "group",
        "is_client",
        "offered_protocols",
        "origin",
        "path",
        "receive_datagrams",
        "request_headers",
        "response_headers",
        "session_id",
        "state",
        "status",
        "stream",
    )

    def __init__(
        self,
        quic: SessionTransport,
        upgrade: ServerUpgrade | None,
        *,
        authority: str,
        path: str,
        origin: str | None,
        request_headers: HeaderMap,
        offered: Sequence[Subprotocol],
        require_protocol: bool = False,
        events: SessionEvents = NO_SESSION_EVENTS,
        over: Callable[[], object],
    ) -> None:
        self._quic = quic
        self._upgrade = upgrade
        self.is_client = upgrade is None
        self.authority = authority
        self.path = path
        self.origin = origin
        self.request_headers = request_headers
        self.response_headers = NO_HEADERS
        self.status: int | None = None
        self._offered = tuple(offered)
        self.offered_protocols = protocols_of(offered)
        self.application_protocol: str | None = None
        self._require_protocol = require_protocol
        self.events = events
        self._over = over
        self.state = H3SessionState.CONNECTING
        self.session_id = -1 if self.is_client else 0
        self.draining = False
        self._drain_sent = False
        self.stream: SessionEnd | None = None
        self._is_ready = False  # the peer's parameters are in
        self._opened = [0, 0]  # streams, by bool(unidirectional)
        self._received = [0, 0]
        self._waiting = [False, False]  # for streams of a kind
        self.group: Group = quic.new_group(NO_OWNER)
        self._datagram_limit: int | None = None
        self._datagram_refused = False
        self.receive_datagrams: Callable[[list[bytes]], object] | None = None

    # Facts.

    @property
    def is_live(self) -> bool:
        """The session is established and has not ended."""
        return self.state in LIVE

    @property
    def max_datagram_size(self) -> int:
        """Bytes that fit into one datagram."""
        return self._quic.max_datagram_size if self._is_ready else _USUAL_DATAGRAM

    @property
    def datagram_limit(self) -> int | None:
        """Datagrams of the session that may wait in the outgoing queue; None: no limit."""
        return self._datagram_limit

    @datagram_limit.setter
    def datagram_limit(self, limit: int | None) -> None:
        self._datagram_limit = limit
        self.group.datagram_limit = limit

    def stats(self) -> dict[str, int | None]:
        """Counters of streams, bytes and datagrams: those of the connection."""
        figures = self._quic.stats()
        facts = {name: figures[name] for name in _DATAGRAM_FIGURES}
        facts["bytes_sent"] = figures["stream_bytes_sent"]
        facts["bytes_received"] = figures["stream_bytes_received"]
        for name, unidirectional in (("bidi", False), ("uni", True)):
            facts[f"streams_opened_{name}"] = self._opened[unidirectional]
            facts[f"streams_received_{name}"] = self._received[unidirectional]
            facts[f"send_limit_streams_{name}"] = None  # that of the connection is told apart
        return facts

    def code_to_wire(self, code: int) -> int:
        """Return the code itself: QMux sends the codes of the application.

        Raises:
            ConfigurationError: it is not in 0 to 2**32 - 1.
        """
        check_code(code)
        return code

    def code_from_wire(self, wire: int | None) -> int | None:
        """Return the code of a received reset or stop; None if no application has such a code."""
        return wire if wire is not None and wire <= MAX_APPLICATION_CODE else None

    def code_passed(self, wire: int | None, origin: LayerSession) -> int:
        """Return the wire code that passes on a stream code of the session ``origin``."""
        if wire is not None and isinstance(origin, QMuxSession):
            return wire
        return origin.code_from_wire(wire) or 0

    def export_keying_material(self, label: bytes | str, context: bytes, length: int) -> bytes:
        """Never possible: both ends would need the TLS connection, which a browser hides.

        Raises:
            SessionError: always.
        """
        raise self._error("there is no keying material over WebSocket, only over QUIC")

    # Establishment.

    def answered(self, status: int, headers: HeaderMap, chosen: str | None) -> None:
        """Client: the answer to the upgrade request has arrived."""
        if self.state is CLOSED:
            return
        self.response_headers = headers = _without_upgrade(headers)
        if status != _SWITCHING:
            self.status = status
            self._refused(
                status,
                headers,
                SessionRejectedError(
                    status_code=status,
                    headers=headers,
                    target_url=f"https://{self.authority}{self.path}",
                    remote=True,
                ),
            )
            self._quic.close(0)
            return
        self.status = _ACCEPTED
        found = next((one for one in self._offered if one.name == chosen), None)
        problem = ""
        if found is None:
            shown = "none" if chosen is None else f"'{printable(chosen)}'"
            names = ", ".join(one.name for one in self._offered)
            problem = f"the server chose the subprotocol {shown}; this end offered {names}"
        elif self._require_protocol and found.protocol is None:
            protocols = ", ".join(map(printable, self.offered_protocols))
            problem = (
                f"the server chose no application protocol for {self.authority}"
                f"{printable(self.path)}, and require_application_protocol is set; its route has "
                f"to accept one of {protocols}"
            )
        if found is None or problem:
            error = ProtocolError(problem, error_code=_PROTOCOL_VIOLATION, remote=True)
            self._refused(status, headers, error)
            self._quic.close(_PROTOCOL_VIOLATION, problem, application=False)
            return
        self.application_protocol = found.protocol
        self._quic.start(found.draft)

    def parameters_received(self) -> None:
        """The peer's parameters are in: streams can be opened, and datagrams sent."""
        self._is_ready = True
        if self.is_client and self.state is H3SessionState.CONNECTING:
            self.state = H3SessionState.DRAINING if self.draining else H3SessionState.OPEN
            self.events.session_established()
        if self._drain_sent and self.is_live:
            self._quic.send_drain()
        for unidirectional in (False, True):
            self.tell_streams_available(unidirectional)
        self.tell_datagram_writable()

    def accept(
        self, headers: HeadersToSend | None = None, application_protocol: str | None = None
    ) -> None:
        """Server: answer 101.

        Args:
            headers: Extra fields of the response.
            application_protocol: One of ``offered_protocols``.

        Raises:
            SessionError: the session does not wait for an answer (any more).
            ConfigurationError: a header cannot be sent, or the protocol was not offered. The
                session still waits for an answer.
        """
        upgrade = self._answerable()
        fields = check_upgrade_fields(headers or {})
        chosen = choose(self._offered, application_protocol)
        if chosen is None and application_protocol is not None:
            raise ConfigurationError(
                f"application protocol '{printable(application_protocol)}' was not offered by "
                f"the client, which offers {printable(list(self.offered_protocols))}",
                config_key="application_protocol",
                config_value=application_protocol,
            )
        if chosen is None:
            # No answer without one of its names would be valid.
            self.reject(_BAD_REQUEST)
            raise SessionClosedError(
                "the session was refused: the client offers no subprotocol without an "
                f"application protocol, only {printable(list(self.offered_protocols))}",
                remote=True,
            )
        if not upgrade.accept(chosen.name, fields):
            raise self._client_left()
        self.status = _ACCEPTED
        self.response_headers = fields
        self.application_protocol = application_protocol
        self.state = H3SessionState.OPEN
        self._quic.start(chosen.draft)

    def reject(self, status: int, headers: HeadersToSend | None = None) -> None:
        """Server: answer with a status other than 101; the session ends without an event.

        Args:
            status: 300 to 599.
            headers: Extra fields of the response.

        Raises:
            SessionError: the session does not wait for an answer (any more).
            ConfigurationError: the status or a header cannot be sent. The session still waits
                for an answer.
        """
        upgrade = self._answerable()
        check_rejection(status)
        fields = check_upgrade_fields(headers or {})
        upgrade.reject(int(status), fields)
        self.status = status
        self.response_headers = fields
        self._end()
        self.events = NO_SESSION_EVENTS

    def _answerable(self) -> ServerUpgrade:
        upgrade = self._upgrade
        if upgrade is None or self.state is not H3SessionState.CONNECTING:
            raise self._error(f"a session that is {self.state.value} cannot be answered")
        if self._quic.is_closed:
            raise self._client_left()
        return upgrade

    def _client_left(self) -> SessionClosedError:
        """Server: return the error for an answer to a client that is gone."""
        error = SessionClosedError("the client has given up the request", remote=True)
        self._lost(error, remote=True)
        return error

    # Streams.

    def open_stream(self, unidirectional: bool) -> Stream | None:
        """Open a stream; None: no credit now, ``streams_available`` tells when to try again.

        Args:
            unidirectional: Which kind.

        Raises:
            SessionError: the session is closed.
            ConnectionError: the connection is closed.
        """
        if self.state is CLOSED:
            raise self._error("the session is closed")
        stream = self._quic.open_stream(unidirectional) if self._is_ready else None
        if stream is None:
            self._waiting[unidirectional] = True
        else:
            self._opened[unidirectional] += 1
            stream.open_in(self.group, b"")  # the peer hears of it, even before its first bytes
        return stream

    def stream_arrived(self, stream: Stream) -> None:
        """The peer opened a stream."""
        stream.sink = None
        if not self.is_live:
            stream.release()
            return
        unidirectional = stream.is_unidirectional
        self._received[unidirectional] += 1
        self.events.stream_received(stream, unidirectional)

    def stream_finished(self, stream: Any, unidirectional: bool) -> None:
        """The application is done with a stream: the peer may open another one."""
        if stream.is_reset:  # the error that says so was not read
            stream.release()

    def tell_streams_available(self, unidirectional: bool) -> None:
        """The peer allows more streams: tell a caller that was refused."""
        if self._waiting[unidirectional]:
            self._waiting[unidirectional] = False
            self.events.streams_available(unidirectional)

    def streams_opened(self, unidirectional: bool) -> int:
        """Return how many streams of a kind were opened here."""
        return self._opened[unidirectional]

    # Datagrams.

    def send_datagram(
        self,
        data: bytes | bytearray | memoryview,
        priority: int = 0,
        deadline: int | None = None,
    ) -> bool:
        """Queue one datagram.

        Args:
            data: Copied; may be empty.
            priority: 0 to 2, higher first.
            deadline: ``time.monotonic_ns()`` after which it is dropped.

        Returns:
            False if there is no room; ``datagram_writable`` tells when to try again.

        Raises:
            DatagramTooLargeError: nothing was sent; ``max_size`` is the limit.
            SessionError: the session is closed.
        """
        if self.state is CLOSED:
            raise self._error("the session is closed")
        try:
            queued = self._quic.send_datagram(b"", data, self.group, priority, deadline)
        except DatagramTooLargeError:
            raise DatagramTooLargeError(
                datagram_size=memoryview(data).nbytes, max_size=self.max_datagram_size
            ) from None
        if not queued:
            self._datagram_refused = True
        return queued

    def route_datagrams(self, receive: Callable[[list[bytes]], object]) -> None:
        """Give received datagrams straight to ``receive``."""
        self.receive_datagrams = receive

    def datagrams_arrived(self, datagrams: list[bytes]) -> None:
        """Datagrams in the order of arrival."""
        if self.is_live:
            (self.receive_datagrams or self.events.datagrams_received)(datagrams)

    def tell_datagram_writable(self) -> None:
        """The outgoing queue has room: tell callers that were refused."""
        if self._datagram_refused:
            self._datagram_refused = False
            self.events.datagram_writable()

    # The end.

    def drain(self) -> None:
        """Ask the peer to end the session soon, if it understands that; sent once.

        Raises:
            SessionError: the session is closed.
        """
        if self.state is CLOSED:
            raise self._error("the session is closed")
        if not self._drain_sent:
            self._drain_sent = True
            if self._is_ready:  # otherwise it is not known whether the peer understands it
                self._quic.send_drain()

    def tell_draining(self) -> None:
        """The peer asks this end to finish; reported once."""
        if self.state is CLOSED or self.draining:
            return
        self.draining = True
        if self.state is H3SessionState.OPEN:
            self.state = H3SessionState.DRAINING
        self.events.session_draining()

    def close(self, code: int = 0, reason: str = "") -> None:
        """End the session and its connection; does nothing if it has ended.

        Before the session is established, the code cannot be sent.

        Args:
            code: 0 to 2**32 - 1.
            reason: Cut to 1024 bytes of UTF-8.

        Raises:
            ConfigurationError: the code is outside its range.
        """
        check_code(code)
        self.tell_loss()
        if self.state is CLOSED:
            return
        reason = cut_reason(reason).decode()
        if self.is_live:
            self.stream = end = SessionEnd()
            self._end()
            self._quic.on_gone = end.reached
            self._quic.close(code, reason)
        else:
            self._withdraw()
        self._last_events().session_closed(code, reason, False, None)

    def abort(self, code: int = 0, /) -> None:
        """End the session and its connection without a code; does nothing if it has ended."""
        self.tell_loss()
        if self.state is CLOSED:
            return
        if self.is_live:
            self._end()
            self._quic.close(_APPLICATION_ERROR, application=False)
        else:
            self._withdraw()
        error = SessionError("the session was aborted", remote=False)
        self._last_events().session_closed(None, "", False, error)

    def _withdraw(self) -> None:
        """End a session that is not established."""
        upgrade = self._upgrade
        self._end()
        if upgrade is None:
            self._quic.close(0)
        elif self.status is None:
            upgrade.reject(_UNAVAILABLE, NO_HEADERS)

    def tell_loss(self) -> None:
        """Report the loss of the connection now, if that was left to a later turn."""
        info = self._quic.close_info
        if info is not None and self.state is not CLOSED:
            self.connection_lost(info, SessionError("the connection was closed"))

    def connection_lost(self, info: CloseInfo | None, error: Exception | None) -> None:
        """The connection is gone: with the code of the session, if the peer sent one.

        Args:
            info: How it ended.
            error: The same for callers; None: this end closed it.
        """
        if info is None or info.kind != "application" or not self.is_live:
            lost = SessionError("the connection was closed") if error is None else error
            self._lost(lost, remote=bool(getattr(lost, "remote", None)))
        elif info.code > MAX_APPLICATION_CODE:
            self._end()
            self._last_events().session_closed(None, info.reason, info.remote, error)
        else:
            self._end()
            self._last_events().session_closed(info.code, info.reason, info.remote, None)

    def _lost(self, error: Exception, *, remote: bool) -> None:
        if self.state is CLOSED:
            return
        if self.is_client and self.state is H3SessionState.CONNECTING:
            self._refused(None, self.response_headers, error)
            return
        self._end()
        reason = str(getattr(error, "reason", "")) if remote else ""
        self._last_events().session_closed(None, reason, remote, error)

    def _refused(self, status: int | None, headers: Mapping[str, str], error: Exception) -> None:
        self._end()
        self._last_events().session_rejected(status, headers, error)

    def _last_events(self) -> SessionEvents:
        """Return ``events`` for the last call, and drop them, so that no cycle is left."""
        events, self.events = self.events, NO_SESSION_EVENTS
        return events

    def _end(self) -> None:
        """Enter CLOSED; the streams end with the connection."""
        self.state = CLOSED
        self._upgrade = None
        self.receive_datagrams = None
        self.group.clear_datagrams()
        over, self._over = self._over, _nothing
        over()

    def _error(self, message: str) -> SessionError:
        return SessionError(f"session {self.session_id}: {message}")


def check_upgrade_fields(headers: HeadersToSend) -> HeaderMap:
    """Check fields that an application adds to the upgrade request or its answer.

    Raises:
        ConfigurationError: a field cannot be sent, or belongs to WebSocket itself.
    """
    fields = check_fields(headers)
    for name in fields:
        if name.startswith(_OF_WEBSOCKET):
            raise ConfigurationError(
                f'header "{printable(name)}": cannot be set on a session over WebSocket',
                config_key="headers",
                config_value=name,
            )
    return fields


def _without_upgrade(headers: HeaderMap) -> HeaderMap:
    """Return the fields of an answer that are not about the connection itself."""
    return HeaderMap(
        (name, value)
        for name, value in headers.lines
        if name not in _OF_THE_CONNECTION and not name.startswith(_OF_WEBSOCKET)
    )


def _nothing() -> None:
    """The layer was told before that the session is over."""


_DATAGRAM_FIGURES: Final = (
    "datagrams_queued",
    "datagrams_sent",
    "datagrams_acked",
    "datagrams_lost",
    "datagrams_dropped",
    "datagrams_expired",
)
