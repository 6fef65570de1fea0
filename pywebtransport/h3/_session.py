"""One WebTransport session: its state machine, its streams, datagrams and capsules."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from .._header_map import HeaderMap
from .._states import HeadersToSend
from .._transport import Group, LayerSession, SessionEvents, Stream, TimerHandle, Transport
from ..exceptions import (
    ConfigurationError,
    DatagramTooLargeError,
    SessionClosedError,
    SessionError,
    SessionRejectedError,
)
from ..utils._text import printable
from ..utils._turns import for_each
from . import _error_codes as error_codes
from ._arrivals import abort_stream, refuse_stream
from ._capsules import (
    FLOW_CONTROL_CAPSULES,
    PROHIBITED_CAPSULES,
    SESSION_CAPSULES,
    SKIPPED,
    Capsule,
    CapsuleParser,
    cut_reason,
    encode_capsule,
    encode_close,
    parse_close,
    parse_number,
)
from ._constants import (
    AVAILABLE_PROTOCOLS_FIELD,
    DRAFT02_REQUEST_FIELD,
    DRAFT02_RESPONSE_FIELD,
    DRAFT02_RESPONSE_VALUE,
    EXPORTER_LABEL,
    PROTOCOL_FIELD,
    CapsuleType,
    H3Error,
)
from ._credit import SessionCredit
from ._dialects import DIALECTS, Dialect, never_asks_for_credit
from ._errors import CapsuleError, LimitError, SessionAbort
from ._fields import Response, check_fields, check_rejection
from ._nothing import NO_HEADERS, NO_SESSION_EVENTS, NoGroup
from ._parts import Connection
from ._protocols import format_offer, format_protocol, parse_offer, parse_protocol
from ._request import RequestStream
from ._session_state import CLOSED, LIVE, H3SessionState, prefixes

__all__ = ["H3Session", "H3SessionState"]

_SWEEP_AT = 64


_SESSION_AND_PROHIBITED = SESSION_CAPSULES | PROHIBITED_CAPSULES
_ALL_CAPSULES = _SESSION_AND_PROHIBITED | FLOW_CONTROL_CAPSULES


class H3Session:
    """A session on its CONNECT stream; created by :class:`H3Connection`.

    Attributes:
        session_id: ID of the CONNECT stream; on a client a unique negative number until it is
            sent. A retry with the older token changes it.
        state: See :class:`H3SessionState`.
        request_headers: Regular fields of the request.
        response_headers: Regular fields of the response, once there is one.
        status: Its HTTP status.
        datagram_way: Transport, prefix and group of ordinary datagrams, once one was sent.
        stream_way: What compiled code needs for ordinary streams; see :meth:`_find_stream_way`.
        offered_protocols: What the client offers, in its order.
        application_protocol: What the server chose.
        flow_control: Session flow control is on.
        dialect: The dialect of the session; None on a client until SETTINGS arrive.
        sweep_at: Ended streams are forgotten when there are as many streams.
        takes_arrivals: Streams and datagrams of the peer go straight to ``events``.
    """

    __slots__ = (
        "_capsules",
        "_connection",
        "_credit",
        "_datagram_limit",
        "_datagram_refused",
        "_drain_sent",
        "_events",
        "_headers",
        "_offers_tokens",
        "_prefix",
        "_quic",
        "_request",
        "_require_protocol",
        "_streams",
        "_timer",
        "_unsent",
        "_used",
        "application_protocol",
        "authority",
        "datagram_way",
        "dialect",
        "draining",
        "flow_control",
        "is_client",
        "offered_protocols",
        "origin",
        "path",
        "protocol_token",
        "request_headers",
        "response_headers",
        "scheme",
        "session_id",
        "state",
        "status",
        "stream_way",
        "sweep_at",
        "takes_arrivals",
    )

    def __init__(
        self,
        connection: Connection,
        *,
        authority: str,
        path: str,
        scheme: str,
        origin: str | None,
        request_headers: HeaderMap,
        protocol_token: str,
        offered_protocols: Sequence[str] = (),
        require_protocol: bool = False,
        events: SessionEvents | None = None,
    ) -> None:
        self._connection = connection
        self._quic = connection.quic
        self.is_client = connection.is_client
        self.session_id = -1
        self.state = H3SessionState.CONNECTING
        self.authority = authority
        self.path = path
        self.scheme = scheme
        self.origin = origin
        self.request_headers = request_headers  # not changed from here on
        self.protocol_token = protocol_token
        self.response_headers = NO_HEADERS
        self.status: int | None = None
        self.offered_protocols: Sequence[str] = tuple(offered_protocols)
        self.application_protocol: str | None = None
        self.flow_control = False
        self.dialect: Dialect | None = None
        self.draining = False
        self._events: SessionEvents = events if events is not None else NO_SESSION_EVENTS
        self._require_protocol = require_protocol
        self._offers_tokens = False
        self._request: RequestStream | None = None
        self._credit: SessionCredit | None = None
        self._timer: TimerHandle | None = None
        self._prefix = b""
        self._headers = (b"", b"")
        self._capsules: CapsuleParser | None = None  # created with the first capsule
        self._unsent = b""  # capsules from before the response could be sent
        self._streams: dict[int, Stream] = {}
        self.sweep_at = _SWEEP_AT
        self._used = False  # a stream was opened or a datagram sent
        self._datagram_refused = False
        self.datagram_way: tuple[Transport, bytes, Group] | None = None
        self.stream_way: tuple[Any, ...] | None = None
        self._datagram_limit: int | None = None
        self._drain_sent = False
        self.takes_arrivals = False

    # Facts.

    @property
    def events(self) -> SessionEvents:
        """Receives the events of this session; a server sets it before :meth:`accept`."""
        return self._events

    @events.setter
    def events(self, events: SessionEvents) -> None:
        self._events = events
        self.route_datagrams(events.datagrams_received)
        self._find_stream_way()

    def route_datagrams(self, receive: Callable[[list[bytes]], object]) -> None:
        """Send datagrams straight to ``receive``, once the session takes them."""
        if self.takes_arrivals and self.is_live:
            self._connection.route_datagrams(self.session_id, receive)

    @property
    def is_live(self) -> bool:
        """The session is established and has not ended."""
        return self.state in LIVE

    @property
    def max_datagram_size(self) -> int:
        """Bytes that fit into one datagram now; it changes with the path."""
        return max(0, self._quic.max_datagram_size - len(self._prefix))

    def stats(self) -> dict[str, int | None]:
        """Counters of streams, bytes and datagrams, and the limits in force."""
        return NoGroup().stats() if self._credit is None else self._credit.stats()

    @property
    def group(self) -> Group:
        """The session's streams and datagrams in the engine; only statistics after its end."""
        return NoGroup() if self._credit is None else self._credit.group

    @property
    def datagram_limit(self) -> int | None:
        """Datagrams of the session that may wait in the outgoing queue; None: no limit."""
        return self._datagram_limit

    @datagram_limit.setter
    def datagram_limit(self, limit: int | None) -> None:
        self._datagram_limit = limit
        self.group.datagram_limit = limit

    @property
    def stream(self) -> Any | None:
        """The CONNECT stream; None on a client until it is open."""
        return None if self._request is None else self._request.stream

    def code_to_wire(self, code: int) -> int:
        """Map an application code of a stream to its code on the wire; see ``error_codes``."""
        return error_codes.code_to_wire(code)

    def code_from_wire(self, wire: int | None) -> int | None:
        """Map a received stream code to the application's; None if there is none."""
        return error_codes.code_from_wire(wire)

    def code_passed(self, wire: int | None, origin: LayerSession) -> int:
        """Return the wire code that passes on a stream code of the session ``origin``."""
        if wire is not None and isinstance(origin, H3Session):
            return wire
        code = origin.code_from_wire(wire)
        return int(H3Error.REQUEST_CANCELLED) if code is None else error_codes.code_to_wire(code)

    def export_keying_material(self, label: bytes | str, context: bytes, length: int) -> bytes:
        """Keying material bound to this session (draft-16 section 4.8).

        Args:
            label: At most 255 bytes.
            context: At most 255 bytes.
            length: Bytes wanted.

        Raises:
            ConfigurationError: an argument is too long.
            SessionError: the session has no ID yet.
        """
        raw = label.encode() if isinstance(label, str) else bytes(label)
        for name, value in (("label", raw), ("context", context)):
            if len(value) > 255:
                raise ConfigurationError(
                    f"{name} has {len(value)} bytes: 0 to 255 are accepted",
                    config_key=name,
                    config_value=value,
                )
        if self.session_id < 0:
            raise self._error("no keying material before the request is sent")
        bound = self.session_id.to_bytes(8, "big")
        bound += bytes([len(raw)]) + raw + bytes([len(context)]) + context
        return self._quic.export_keying_material(EXPORTER_LABEL, bound, length)

    # Establishment.

    def bind(self, request: RequestStream, dialect: Dialect, *, flow_control: bool) -> None:
        """Set the session's CONNECT stream; a client may do so again for a retry."""
        if self._credit is not None:
            self._credit.end()
            self._credit.close()
        self.datagram_way = None
        self._request = request
        self.session_id = request.stream_id
        self.dialect = dialect
        self.flow_control = flow_control
        bidirectional, unidirectional, self._prefix = prefixes(self.session_id)
        self._headers = (bidirectional, unidirectional)
        self._credit = SessionCredit(
            self._quic,
            self._connection.options,
            self._connection.peer_settings,
            enabled=flow_control,
            strict=dialect.equal_limit_is_error,
            send=self._send,
            events=self,
        )
        if self._datagram_limit is not None:
            self._credit.group.datagram_limit = self._datagram_limit
        self._capsules = None
        peer_settings = self._connection.peer_settings
        if flow_control and not self.is_client and never_asks_for_credit(dialect, peer_settings):
            self._credit.give_all()  # sent after the answer
        request.send_first()

    def _capsule_parser(self) -> CapsuleParser:
        known: Collection[int] = SESSION_CAPSULES
        if self.flow_control:
            known = _ALL_CAPSULES
        elif self.dialect is not None and self.dialect.flow_control != "never":
            known = _SESSION_AND_PROHIBITED
        return CapsuleParser(known, self._connection.options.max_capsule_size)

    def request_fields(self, dialect: Dialect) -> tuple[dict[str, str], HeaderMap]:
        """Client: return pseudo-fields and fields of the request in ``dialect``."""
        headers = self.request_headers.copy()
        if self.origin is not None:
            headers["origin"] = self.origin
        offer = format_offer(self.offered_protocols)
        if offer is not None:
            headers[AVAILABLE_PROTOCOLS_FIELD] = offer
        if dialect.version_header:
            headers[DRAFT02_REQUEST_FIELD] = "1"
        pseudo = {
            ":method": "CONNECT",
            ":scheme": self.scheme,
            ":authority": self.authority,
            ":path": self.path,
            ":protocol": dialect.token,
        }
        return pseudo, headers

    def send_request(self) -> None:
        """Client: send the CONNECT request on the bound stream."""
        if self._request is None or self.dialect is None:
            return
        self.protocol_token = self.dialect.token
        self._request.send_headers(*self.request_fields(self.dialect))

    def read_offer(self) -> None:
        """Server: read the protocols that the client offers."""
        text = self.request_headers.get(AVAILABLE_PROTOCOLS_FIELD)
        if text is not None and self.dialect is not None:
            self.offered_protocols, self._offers_tokens = parse_offer(text, self.dialect)

    def accept(
        self, headers: HeadersToSend | None = None, application_protocol: str | None = None
    ) -> None:
        """Server: answer 200, then deliver waiting streams, datagrams and capsules.

        Args:
            headers: Extra fields of the response.
            application_protocol: One of ``offered_protocols``.

        Raises:
            SessionError: the session does not wait for an answer (any more).
            ConfigurationError: a header cannot be sent, or the protocol was not offered. The
                session still waits for an answer.
        """
        request = self._answerable()
        fields = check_fields(headers or {})
        if application_protocol is not None:
            if application_protocol not in self.offered_protocols:
                raise ConfigurationError(
                    f"application protocol '{printable(application_protocol)}' was not offered by "
                    f"the client, which offers {printable(list(self.offered_protocols))}",
                    config_key="application_protocol",
                    config_value=application_protocol,
                )
            fields[PROTOCOL_FIELD] = format_protocol(
                application_protocol, as_token=self._offers_tokens
            )
        if DRAFT02_REQUEST_FIELD in self.request_headers:
            fields[DRAFT02_RESPONSE_FIELD] = DRAFT02_RESPONSE_VALUE
        if not request.send_headers({":status": "200"}, fields):
            raise self._client_left("the client has given up the request")
        self.status = 200
        self.response_headers = fields
        self.application_protocol = application_protocol
        self._established()
        connection = self._connection
        if request.is_quiet and not connection.arrivals.holds(self.session_id):
            self._take_arrivals()  # it raises nothing, so it need not wait
        else:
            self._timer = connection.call_later(0, connection.guard, self._take_arrivals)

    def reject(self, status: int, headers: HeadersToSend | None = None) -> None:
        """Server: answer with a status other than 2xx; the session ends without an event.

        If the client accepts no header at all, its request is reset.

        Args:
            status: 300 to 599.
            headers: Extra fields of the response.

        Raises:
            SessionError: the session does not wait for an answer (any more).
            ConfigurationError: the status or a header cannot be sent. The session still waits
                for an answer.
        """
        request = self._answerable()
        check_rejection(status)
        fields = check_fields(headers or {})
        request.respond(int(status), fields)
        self.status = status
        self.response_headers = fields
        self._end()
        self._events = NO_SESSION_EVENTS

    def response_received(self, response: Response) -> None:
        """Client: the final response has arrived."""
        self.status = response.status
        self.response_headers = response.headers
        if 200 <= response.status < 300:
            self.application_protocol = self._chosen_protocol(response.headers)
            self._established()
            self._events.session_established()
            self._take_arrivals()
            return
        may_retry = response.status in (400, 405, 501) and not self._used
        if may_retry and self._connection.retry_with_older_token(self):
            return
        self._finish_request()
        error = SessionRejectedError(
            status_code=response.status,
            headers=response.headers,
            target_url=f"{self.scheme}://{self.authority}{self.path}",
            remote=True,
        )
        self._refused(response.status, response.headers, error)

    def _chosen_protocol(self, headers: Mapping[str, str]) -> str | None:
        dialect = self.dialect or DIALECTS[16]
        text = headers.get(PROTOCOL_FIELD)
        chosen = None if text is None else parse_protocol(text, dialect)
        if chosen is not None and self.offered_protocols and chosen not in self.offered_protocols:
            if dialect.strict_protocols or self._require_protocol:
                raise SessionAbort(
                    self, H3Error.WT_ALPN_ERROR, f"the server chose {chosen!r}: not offered"
                )
            return None
        if chosen is None and self._require_protocol:
            raise SessionAbort(
                self,
                H3Error.WT_ALPN_ERROR,
                f"the server chose no application protocol for {self.authority}"
                f"{printable(self.path)}, and require_application_protocol is set; its route has "
                f"to accept one of {', '.join(map(printable, self.offered_protocols))}",
            )
        return chosen if self.offered_protocols else None

    def _established(self) -> None:
        self.state = H3SessionState.DRAINING if self.draining else H3SessionState.OPEN
        self._connection.session_established(self)
        if self._unsent:
            capsules, self._unsent = self._unsent, b""
            self._send(capsules)

    def _take_arrivals(self) -> None:
        """Deliver waiting data now, and new data directly from now on."""
        self._timer = None
        connection = self._connection
        if self._request is None or not self.is_live:
            return
        if not connection.arrivals.deliver(self):
            connection.later(self._take_arrivals)
        elif self.is_live:
            self.takes_arrivals = True
            connection.route_datagrams(self.session_id, self._events.datagrams_received)
            self._find_stream_way()
            self._request.open()

    def _find_stream_way(self) -> None:
        """Let compiled code open, take and finish streams, as the methods below do.

        It leaves everything unusual to them. There is a way while the session takes arrivals.
        """
        credit, connection = self._credit, self._connection
        self.stream_way = None
        if credit is not None and self.takes_arrivals and self.is_live:
            ids = None if self.is_client else connection.arrivals.ids
            self.stream_way = (
                *(self._quic, credit.group, self._headers, credit.local, credit.peer),
                *(self._streams, connection.newest_stream, ids, self._events),
            )

    def _answerable(self) -> RequestStream:
        request = self._request
        if self.is_client or self.state is not H3SessionState.CONNECTING:
            raise self._error(f"a session that is {self.state.value} cannot be answered")
        if request is None:  # its connection has many sessions, and this one is told later
            raise self._client_left("the connection has ended")
        return request

    def _client_left(self, how: str) -> SessionClosedError:
        """Server: return the error for an answer to a client that is gone.

        What became of the stream is told later. The session is over now, so that nobody takes a
        client that left for a mistake of the application.
        """
        error = SessionClosedError(f"session {self.session_id}: {how}", remote=True)
        self._lost(error, remote=True)
        return error

    # Streams.

    def open_stream(self, unidirectional: bool) -> Any | None:
        """Open a stream of this session.

        A client may do so before the server answers.

        Args:
            unidirectional: Which kind.

        Returns:
            The stream, with its header written, or None if there is no credit
            now: ``streams_available`` tells when to try again.

        Raises:
            SessionError: the session is closed.
            ConnectionError: the connection is closed.
        """
        if self.state is CLOSED:
            raise self._error("the session is closed")
        credit = self._credit
        stream: Stream | None = None
        if credit is not None and credit.may_open(unidirectional):
            stream = self._connection.open_stream(unidirectional)
        if credit is None or stream is None:
            self._connection.wait_for_streams(self, unidirectional)
            return None
        credit.local[unidirectional].opened += 1
        self._used = True
        stream.open_in(credit.group, self._headers[unidirectional])
        if len(self._streams) >= self.sweep_at:
            self._sweep()
        self._streams[stream.stream_id] = stream
        return stream

    def stream_arrived(self, stream: Stream, header_size: int) -> None:
        """The peer opened a stream; its header of ``header_size`` bytes is not consumed yet."""
        credit = self._credit
        if credit is None:
            return
        unidirectional = stream.is_unidirectional
        stream.sink = None
        try:
            credit.stream_arrived(unidirectional)
        except LimitError as error:
            refuse_stream(stream, H3Error.WT_SESSION_GONE, self.stream)
            raise SessionAbort(self, H3Error.WT_FLOW_CONTROL_ERROR, str(error)) from None
        stream.accept_in(credit.group, header_size)
        if self.state in LIVE:  # joining counts the buffered bytes, which may exceed the limit
            if len(self._streams) >= self.sweep_at:
                self._sweep()
            self._streams[stream.stream_id] = stream
            self._events.stream_received(stream, unidirectional)
        else:
            refuse_stream(stream, H3Error.WT_SESSION_GONE, self.stream)

    def stream_finished(self, stream: Any, unidirectional: bool) -> None:
        """The application is done with a stream; the peer gets credit if it opened it.

        Args:
            stream: Any stream of the session, once.
            unidirectional: Its kind.
        """
        if self._streams.pop(stream.stream_id, None) is None or stream.is_local:
            return
        if self._credit is not None:
            self._credit.stream_finished(unidirectional)

    def _sweep(self) -> None:
        """Forget our own ended streams that the application did not report.

        Streams of the peer stay until :meth:`stream_finished`, which gives credit for them.
        """
        over = [k for k, v in self._streams.items() if v.is_closed and v.is_local]
        for key in over:
            del self._streams[key]
        self.sweep_at = max(_SWEEP_AT, 2 * len(self._streams))

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
            False if the queue is full; ``datagram_writable`` tells when to try again.

        Raises:
            DatagramTooLargeError: nothing was sent; ``max_size`` is the current limit.
            SessionError: the session is closed.
        """
        credit = self._credit
        if self.state is CLOSED:
            raise self._error("the session is closed")
        if credit is None:
            self._datagram_refused = True
            return False
        try:
            queued = self._quic.send_datagram(self._prefix, data, credit.group, priority, deadline)
        except DatagramTooLargeError:
            raise DatagramTooLargeError(
                datagram_size=memoryview(data).nbytes, max_size=self.max_datagram_size
            ) from None
        self._used = True
        if queued:
            self.datagram_way = (self._quic, self._prefix, credit.group)
        else:
            self._datagram_refused = True
        return queued

    def datagrams_arrived(self, datagrams: list[bytes]) -> None:
        """Datagrams that waited, or did not take the fast path."""
        if self.is_live:
            self._events.datagrams_received(datagrams)

    def tell_datagram_writable(self) -> None:
        """The outgoing queue has room: tell callers that were refused."""
        if self._datagram_refused:
            self._datagram_refused = False
            self._events.datagram_writable()

    # Credit (CreditEvents).

    def credit_raised(self, kind: str, limit: int) -> None:
        """The peer raised a limit."""
        self._events.credit_updated(kind, limit)
        if kind != "data":
            unidirectional = kind == "streams_uni"
            self._connection.stop_waiting(self, unidirectional)
            self._events.streams_available(unidirectional)

    def credit_violated(self, received: int, limit: int) -> None:
        """The peer sent more than the session allows."""
        self._connection.guard(self._violated, received, limit)

    def _violated(self, received: int, limit: int) -> None:
        raise SessionAbort(
            self,
            H3Error.WT_FLOW_CONTROL_ERROR,
            f"the peer sent {received} bytes, but only {limit} are allowed",
        )

    # Capsules.

    def receive_capsules(self, data: bytes) -> bool:
        """Handle the payload of a DATA frame on the CONNECT stream.

        Returns:
            False if there is more to handle in a later turn; call again then, before new data.
        """
        parser = self._capsules
        if parser is None:
            parser = self._capsules = self._capsule_parser()
        try:
            parser.feed(data)
            done, load = 0, self._connection.load
            while self.is_live and (capsule := parser.next()) is not None:
                self._handle(capsule)
                done += 1
                if load.is_over(done):
                    return not self.is_live
        except CapsuleError as error:
            raise SessionAbort(self, H3Error.MESSAGE_ERROR, str(error)) from None
        except LimitError as error:
            raise SessionAbort(self, H3Error.WT_FLOW_CONTROL_ERROR, str(error)) from None
        return True

    def _handle(self, capsule: Capsule) -> None:
        kind, value = capsule
        load = self._connection.load
        if capsule is SKIPPED:
            load.idle("capsules of unknown types")
            return
        if kind == CapsuleType.WT_CLOSE_SESSION:
            code, reason = parse_close(value)
            self._events.capsule_received(kind, value)
            self._closed_by_peer(code, reason)
            return
        is_useful = False
        if kind == CapsuleType.DATAGRAM:
            is_useful = bool(value)
            self._events.datagrams_received([value])
        elif kind == CapsuleType.WT_DRAIN_SESSION:
            is_useful = not self.draining
            self.tell_draining()
        elif self._credit is not None:
            is_useful = self._credit.received(kind, parse_number(kind, value))
        if is_useful:
            load.useful()
        else:
            load.idle("capsules that change nothing")
        if self.is_live:  # a callback may have closed the session
            self._events.capsule_received(kind, value)

    def _send(self, capsules: bytes) -> bool:
        """Send capsules; a server keeps them until its response is sent.

        Returns:
            False if the peer does not read them, and the session was aborted for it.
        """
        request = self._request
        if request is None:
            return True
        if not self.is_client and self.state is H3SessionState.CONNECTING:
            self._unsent += capsules
        else:
            self._connection.guard(request.send_capsules, capsules)
        return self.state is not H3SessionState.CLOSED

    # The end.

    def drain(self) -> None:
        """Ask the peer to end the session soon (WT_DRAIN_SESSION); sent once.

        Raises:
            SessionError: the session is closed.
        """
        if self.state is H3SessionState.CLOSED:
            raise self._error("the session is closed")
        if not self._drain_sent:
            self._drain_sent = True
            self._send(encode_capsule(CapsuleType.WT_DRAIN_SESSION, b""))

    def close(self, code: int = 0, reason: str = "") -> None:
        """End the session; does nothing if it has ended.

        Before the session is established, the code cannot be sent: the CONNECT
        stream is reset.

        Args:
            code: 0 to 2**32 - 1.
            reason: Cut to 1024 bytes of UTF-8.

        Raises:
            ConfigurationError: the code is outside its range.
        """
        error_codes.check_code(code)
        self.tell_loss()
        if self.state is H3SessionState.CLOSED:
            return
        reason = cut_reason(reason).decode()
        request = self._request
        if request is not None and self.is_live:
            if not self._send(encode_close(code, reason)):
                return
            self._end()
            request.end(by_peer=False)
        else:
            self._end()
            if request is not None:
                request.fail(H3Error.REQUEST_CANCELLED)
        self._last_events().session_closed(code, reason, False, None)

    def abort(self, h3_code: int = H3Error.REQUEST_CANCELLED) -> None:
        """End the session without a code or reason; does nothing if it has ended.

        The CONNECT stream is reset and stopped, then the streams of the session. Either end
        may do so, before the answer and after it.

        Args:
            h3_code: HTTP/3 code for the CONNECT stream. The default is the code of RFC 9114
                section 4.1.1 both for a client that cancels a request and for a server that
                abandons an answer.
        """
        self.tell_loss()
        if self.state is H3SessionState.CLOSED:
            return
        if self._request is not None:
            self._request.fail(h3_code)
        self._end()
        error = SessionError("the session was aborted", error_code=h3_code, remote=False)
        self._last_events().session_closed(None, "", False, error)

    def tell_draining(self) -> None:
        """WT_DRAIN_SESSION or GOAWAY arrived; reported once."""
        if self.state is H3SessionState.CLOSED or self.draining:
            return
        self.draining = True
        if self.state is H3SessionState.OPEN:
            self.state = H3SessionState.DRAINING
        self._events.session_draining()

    def connect_finished(self) -> None:
        """The peer finished the CONNECT stream without WT_CLOSE_SESSION: code 0, no reason."""
        if self._capsules is not None and not self._capsules.at_boundary:
            raise SessionAbort(self, H3Error.MESSAGE_ERROR, "the stream ended inside a capsule")
        self._closed_by_peer(0, "")

    def connect_lost(self, code: int | None, how: str) -> None:
        """The CONNECT stream was reset or stopped by the peer."""
        error = SessionError(f"the peer {how} the CONNECT stream", error_code=code, remote=True)
        self._lost(error, remote=True)

    def aborted(self, error: Exception) -> None:
        """This end aborts the session; ``error.error_code`` is sent to the peer."""
        if self.state is H3SessionState.CLOSED:
            return
        code = getattr(error, "error_code", None)
        if self._request is not None:
            self._request.fail(H3Error.INTERNAL_ERROR if code is None else code)
        self._lost(error, remote=False)

    def detach(self) -> None:
        """The QUIC connection is gone; :meth:`connection_lost` follows, maybe in a later turn."""
        self._request = None
        self.takes_arrivals = False
        self.stream_way = None

    def connection_lost(self, error: Exception | None) -> None:
        """The QUIC connection is gone."""
        if error is None:
            error = SessionError("the connection was closed")
        self._lost(error, remote=bool(getattr(error, "remote", None)))

    def tell_loss(self) -> None:
        """Report the loss of the connection now, if that was left to a later turn."""
        if self._connection.loss is not None:
            self.connection_lost(self._connection.loss)

    def _closed_by_peer(self, code: int, reason: str) -> None:
        request = self._request
        trailing = self._capsules is not None and not self._capsules.at_boundary
        was_live = self.is_live
        self._end()
        if request is not None:
            if not was_live:
                request.fail(H3Error.REQUEST_CANCELLED)
            elif trailing:
                request.fail(H3Error.MESSAGE_ERROR)
            else:
                request.end(by_peer=True)
        self._last_events().session_closed(code, reason, True, None)

    def _lost(self, error: Exception, *, remote: bool) -> None:
        if self.state is H3SessionState.CLOSED:
            return
        if self.is_client and self.state is H3SessionState.CONNECTING:
            self._refused(None, self.response_headers, error)
            return
        self._end()
        # The reason that the peer gave for closing the whole connection, if it did.
        reason = str(getattr(error, "reason", "")) if remote else ""
        self._last_events().session_closed(None, reason, remote, error)

    def refuse(self, error: Exception) -> None:
        """Client: the request was not or cannot be sent."""
        if self._request is not None:
            self._request.fail(H3Error.REQUEST_CANCELLED)
        if self.state is not H3SessionState.CLOSED:
            self._refused(None, {}, error)

    def _refused(self, status: int | None, headers: Mapping[str, str], error: Exception) -> None:
        self._end()
        self._last_events().session_rejected(status, headers, error)

    def _last_events(self) -> SessionEvents:
        """Return ``events`` for the last call, and drop them, so that no cycle is left."""
        events, self._events = self._events, NO_SESSION_EVENTS
        return events

    def _finish_request(self) -> None:
        """Client: the response is final; nothing more is sent."""
        request = self._request
        if request is not None:
            request.give_up()

    def _end(self) -> None:
        """Enter CLOSED: end all streams, datagrams and timers of the session."""
        self.state = H3SessionState.CLOSED
        self.takes_arrivals = False
        self.datagram_way = self.stream_way = None
        connection, credit = self._connection, self._credit
        connection.session_over(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if credit is not None:
            credit.end()
        streams, self._streams = self._streams, {}
        # Until all of them have been aborted, they stay within the limits of the session.
        end = None if credit is None else credit.close
        for_each(connection.load.turns, streams.values(), self._cut_off, end)

    def _cut_off(self, stream: Stream) -> None:
        if not self._connection.is_closed:
            abort_stream(stream, H3Error.WT_SESSION_GONE, self.stream)

    def _error(self, message: str) -> SessionError:
        return SessionError(f"session {self.session_id}: {message}")
