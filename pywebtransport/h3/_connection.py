"""One HTTP/3 connection: settings, routing by session ID, shutdown. Sans-I/O.

Commands come down as method calls on :class:`H3Connection` and its sessions;
events go up through the callbacks of ``events``. Time comes from ``call_later``.
Handlers report a broken rule by raising one of the private exceptions of
``errors``; :meth:`H3Connection.guard` is the one place where they are caught.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from types import MappingProxyType
from typing import Any, Final, Protocol

from .._states import HeadersToSend
from .._transport import (
    CallLater,
    CloseInfo,
    SessionEvents,
    Stream,
    TimerHandle,
    Transport,
    Turns,
)
from ..exceptions import (
    ClientError,
    ConfigurationError,
    ConnectionError,
    HandshakeError,
    ProtocolError,
    SessionError,
    StreamError,
    WebTransportNotSupportedError,
)
from ..utils._turns import for_each
from ._admission import Admission
from ._arrivals import Arrivals
from ._constants import (
    FIRST_GOAWAY_ID,
    WEBTRANSPORT_H3_TOKEN,
    FrameType,
    H3Error,
    Setting,
    StreamType,
)
from ._critical import LocalCritical
from ._dialects import Dialect, announced, dialect_of_request, flow_control_on, select_dialect
from ._errors import H3ConnectionError, H3StreamError, SessionAbort, abort_error
from ._exchange import H3Exchange
from ._fields import check_fields, check_section_size, check_target, encode_fields
from ._frames import encode_frame
from ._load import Load
from ._nothing import NO_CONNECTION_EVENTS
from ._options import H3Options
from ._protocols import check_protocols
from ._qpack import Qpack
from ._request import Phase, RequestStream
from ._session import H3Session
from ._settings import check_settings, local_settings
from ._tunnel import H3Tunnel
from ._varint import encode_varint

__all__ = ["ConnectionEvents", "H3Connection"]

_SEND_FIRST = 2**63 - 1
# Exceptions that handlers raise when the peer breaks a rule.
_ENDINGS = (H3ConnectionError, SessionAbort, H3StreamError, ConnectionError)
# An end without dynamic table opens no QPACK streams (RFC 9204 section 4.2).
_CRITICAL = (StreamType.CONTROL, StreamType.QPACK_ENCODER, StreamType.QPACK_DECODER)
_NO_SETTINGS: Final[Mapping[int, int]] = MappingProxyType({})


class ConnectionEvents(Protocol):
    """Events of one HTTP/3 connection."""

    def settings_received(self, settings: Mapping[int, int]) -> None:
        """The peer's SETTINGS have arrived; ``H3Connection.dialect`` is set."""

    def session_requested(self, session: H3Session) -> None:
        """Server: a valid CONNECT. Answer with ``accept`` or ``reject``, now or later."""

    def goaway_received(self, last_id: int) -> None:
        """No new session can be opened on this connection."""

    def early_dropped(self, what: str) -> None:
        """A ``"stream"`` or ``"datagram"`` that arrived before its session was dropped: there
        was no room, or the session was not requested in time."""

    def connection_failed(self, error: Exception) -> None:
        """The peer broke a rule: the connection is being closed with ``error.error_code``."""


class H3Connection:
    """HTTP/3 and WebTransport on one QUIC connection.

    Args:
        quic: The QUIC connection.
        events: Receives the events of the connection.
        call_later: Timers.
        turns: Shares the time of the event loop.
        options: Limits and choices.
        is_client: This end is the client.

    Attributes:
        dialect: The dialect of new sessions; None before SETTINGS arrive, or if there is none
            in common.
        settings: Our SETTINGS.
        peer_settings: The peer's SETTINGS.
        sessions: Sessions that have an ID and have not ended.
        newest_stream: ID of the last stream that was opened here, by ``bool(unidirectional)``.
        accepts_websockets: Server: requests for a WebSocket (RFC 9220) become exchanges.
        datagram_routes: What gets the datagrams of a session or tunnel, by quarter stream ID.
        exchange_requested: Server: called with each HTTP request that is no extended CONNECT;
            answers it, now or later. If None, the status is 404 or 405.
        exchanges: HTTP exchanges that are not over, by the ID of their stream.
        goaway_received: No new session may be opened.
        settings_known: The peer's SETTINGS have arrived.
        tunnel_requested: Server: called with each request for a UDP tunnel (RFC 9298); answers
            it with ``accept`` or ``reject``, now or later. If None, the status is 501.
        tunnels: UDP tunnels by the ID of their request stream.
        webtransport_error: Why no session can be opened on this connection; None if one can,
            or before SETTINGS arrive.
        when_quiet: Called when the last exchange is over; None: nobody waits for it.
    """

    __slots__ = (
        "_closed",
        "_control",
        "_control_backlog",
        "_goaway_id",
        "_goaway_sent",
        "_held_ids",
        "_opened",
        "_settings_timer",
        "_started",
        "_telling",
        "_to_send",
        "_waiting",
        "_was_idle",
        "_when_told",
        "accepts_websockets",
        "admission",
        "arrivals",
        "call_later",
        "datagram_routes",
        "dialect",
        "events",
        "exchange_requested",
        "exchanges",
        "goaway_received",
        "is_client",
        "load",
        "loss",
        "newest_stream",
        "options",
        "peer_settings",
        "qpack",
        "quic",
        "requests",
        "sessions",
        "settings",
        "settings_known",
        "tunnel_requested",
        "tunnels",
        "webtransport_error",
        "when_quiet",
    )

    def __init__(
        self,
        quic: Transport,
        events: ConnectionEvents,
        call_later: CallLater,
        turns: Turns,
        options: H3Options,
        *,
        is_client: bool,
    ) -> None:
        self.quic = quic
        self.events = events
        self.call_later = call_later
        self.load = Load(options, call_later, turns)
        self.options = options
        self.is_client = is_client
        self.settings = local_settings(options, is_client=is_client).values
        self.dialect: Dialect | None = None
        self.peer_settings = _NO_SETTINGS
        self.sessions: dict[int, H3Session] = {}
        self.newest_stream = [-4, -4]
        self.goaway_received = False
        self.settings_known = False
        self.webtransport_error: Exception | None = None
        self.qpack = Qpack(
            options.qpack_max_table_capacity,
            options.qpack_blocked_streams,
            options.max_field_section_size,
        )
        self.requests: dict[int, RequestStream] = {}
        self.tunnel_requested: Callable[[H3Tunnel], object] | None = None
        self.tunnels: dict[int, H3Tunnel] = {}
        self.exchange_requested: Callable[[H3Exchange], object] | None = None
        self.exchanges: dict[int, H3Exchange] = {}
        self.accepts_websockets = False
        self.when_quiet: Callable[[], object] | None = None
        self.arrivals = Arrivals(self)
        self.admission: Any = None if is_client else Admission(self)
        self._closed = self._was_idle = False
        self.loss: Exception | None = None  # why it is closed; None: this end closed it
        self._started = False
        self._to_send: dict[H3Session, None] = {}  # client: until SETTINGS and a stream are there
        # Sessions that wait for a stream of a kind; most connections never have one.
        self._waiting: tuple[dict[H3Session, None], dict[H3Session, None]] | None = None
        self.datagram_routes: dict[int, Callable[[list[bytes]], object]] = {}
        self._held_ids = 0
        self._control: Stream | None = None
        self._control_backlog = b""
        self._opened = 0  # of our critical streams
        self._goaway_sent: int | None = None
        self._goaway_id: int | None = None
        self._settings_timer: TimerHandle | None = None
        self._telling = False  # sessions that the connection is gone
        self._when_told: Callable[[], object] | None = None

    # The catch point.

    def guard(self, handler: Callable[..., object], *args: Any) -> None:
        """Run a handler. If it raises because of the peer, close only what must be closed."""
        if self._closed:
            return
        try:
            handler(*args)
        except _ENDINGS as error:
            self.end_of(error)

    def later(self, work: Callable[[], object]) -> None:
        """Continue with ``work`` in a later turn, as :meth:`guard`."""
        self.load.later(partial(self.guard, work))

    def end_of(self, error: Exception) -> None:
        """Close the connection, session or stream that an exception of ``_ENDINGS`` names."""
        if isinstance(error, H3ConnectionError):
            self._fail(error.code, error.reason, error.frame_type)
        elif isinstance(error, SessionAbort):
            error.session.aborted(abort_error(error))
        elif isinstance(error, H3StreamError):
            request = error.request
            carried = request.session or request.exchange
            request.fail(error.code)
            if carried is not None:
                carried.aborted(ProtocolError(error.reason, error_code=error.code, remote=True))
        # Else the QUIC connection has begun to end: ``connection_closed`` follows.

    # From the QUIC connection.

    def start(self) -> None:
        """The handshake is done: open our streams, send SETTINGS, wait for the peer's."""
        if self._started or self._closed:
            return
        self._started = True
        early = None if self.is_client else self.quic.take_greeting()
        if early is None:
            opening = local_settings(self.options, is_client=self.is_client).opening
            self._control_backlog = opening + self._control_backlog
        else:
            self.guard(self._set_critical, early)
        self.guard(self._open_critical)
        if not self.settings_known:
            self._settings_timer = self.call_later(
                self.options.settings_timeout, self.guard, self._settings_late
            )

    def stream_ready(self, stream: Any) -> None:
        """A stream of the peer has its first bytes, or more while it is not classified."""
        # As ``guard``; inlined, because this runs for each stream of the peer.
        if self._closed:
            return
        try:
            self.arrivals.classify(stream)
        except _ENDINGS as error:
            self.end_of(error)

    def datagrams_received(self, datagrams: list[bytes]) -> None:
        """DATAGRAM frames, in order."""
        routes = self.datagram_routes
        current = -1  # quarter stream ID of the run, datagrams in a row of one session
        receive: Callable[[list[bytes]], object] | None = None
        run: list[bytes] = []
        for datagram in datagrams:
            quarter, size = -2, 0
            if len(datagram) > 1:
                first = datagram[0]
                if first < 0x40:
                    quarter, size = first, 1
                elif first < 0x80:
                    quarter, size = (first & 0x3F) << 8 | datagram[1], 2
            if quarter != current:
                if receive is not None:
                    receive(run)
                    run = []
                current, receive = quarter, routes.get(quarter)
            if receive is not None:
                run.append(datagram[size:])
            else:
                self.guard(self.arrivals.datagram, datagram)
        if receive is not None:
            receive(run)

    def streams_available(self, unidirectional: bool) -> None:
        """The peer allows more streams of this kind."""
        if unidirectional:
            self.guard(self._open_critical)
        else:
            self.guard(self._send_connects)
        if self._waiting is None:
            return
        waiting = self._waiting[unidirectional]
        for session in list(waiting):
            if waiting.pop(session, self) is None:
                session.events.streams_available(unidirectional)

    def datagram_writable(self) -> None:
        """The outgoing datagram queue has room again."""
        for session in list(self.sessions.values()):
            session.tell_datagram_writable()
        for tunnel in list(self.tunnels.values()):
            tunnel.tell_writable()

    def connection_closed(
        self, error: Exception | None, then: Callable[[], object] = lambda: None
    ) -> None:
        """The QUIC connection is gone: every session ends, every timer is cancelled.

        Args:
            error: How it ended; None: this end closed it.
            then: Called once all sessions have been told; with many, this takes several turns.
        """
        if not self._closed:
            # The last data, such as the end of a session, may still wait for its turn.
            self.load.hurry()
            for request in list(self.requests.values()):
                self.guard(request.go_on)
        if not self._closed:
            self._shut(error)
        # Nothing comes from below any more. Events refer back to this object: without them,
        # no cycle is left for the garbage collector.
        self.events = NO_CONNECTION_EVENTS
        if self._telling:
            self._when_told = then
        else:
            then()

    # Facts for the layer above.

    @property
    def transport(self) -> str:
        """What carries the connection."""
        return "quic"

    @property
    def failure(self) -> None:
        """QUIC tells all there is to know."""

    @property
    def has_requests(self) -> bool:
        """Requests or tunnels have to be told of the end of the connection."""
        return bool(self.requests or self.tunnels)

    @property
    def early_dropped(self) -> int:
        """Streams and datagrams that came before their session and were dropped."""
        return self.arrivals.early_dropped

    def streams_opened(self, unidirectional: bool) -> int:
        """Return how many streams of a kind were opened here, with those of HTTP/3."""
        return self.newest_stream[unidirectional] // 4 + 1

    def is_expected(self, info: CloseInfo) -> bool:
        """Return whether an end of the connection is an ordinary one."""
        if info.kind == "application":
            return info.code in (0, H3Error.NO_ERROR)
        # libcurl and others end their connections with NO_ERROR of QUIC.
        return info.kind == "transport" and info.code == 0 and self._was_idle

    # Sessions of a client.

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
    ) -> H3Session:
        """Request a session; the request is sent as soon as the peer's SETTINGS allow it.

        Args:
            authority: Host and port of the URL.
            path: Path and query; begins with a slash.
            headers: Extra request fields; a list of values is sent as several field lines.
            origin: The ``origin`` field.
            application_protocols: Names to offer, best first.
            require_application_protocol: Close the session if the server selects none of them.
            events: Receives the events of the session.

        Raises:
            ConfigurationError: an argument cannot be sent.
            ConnectionError: the connection is closed or closing.
            ClientError: the server sent GOAWAY, or does not speak WebTransport.
            SessionError: no more sessions are allowed on this connection now.
        """
        if not self.is_client:
            raise ClientError("only clients can open sessions")
        check_target("authority", authority)
        check_target("path", path)
        fields = check_fields(headers)
        check_protocols(application_protocols)
        if origin is not None:
            fields.pop("origin", None)
            origin = check_fields({"origin": origin})["origin"]
        self._check_can_open()
        session = H3Session(
            self,
            authority=authority,
            path=path,
            scheme="https",
            origin=origin,
            request_headers=fields,
            protocol_token=WEBTRANSPORT_H3_TOKEN,
            offered_protocols=application_protocols,
            require_protocol=require_application_protocol,
            events=events,
        )
        self._held_ids -= 1
        session.session_id = self._held_ids
        self._to_send[session] = None
        self.guard(self._send_connects)
        return session

    def check_can_request(self) -> None:
        """Client: raise an error if no more requests can be sent."""
        if self._closed:
            raise self.loss or ConnectionError("the connection is closed")
        if self.goaway_received:
            raise ClientError(
                "the server accepts no new session on this connection (GOAWAY)",
                error_code=H3Error.REQUEST_REJECTED,
                remote=True,
            )

    def check_header(self, pseudo: Mapping[str, str], headers: Mapping[str, str]) -> None:
        """Check a header against the size that the peer accepts.

        Raises:
            ConfigurationError: it is larger.
        """
        limit = self.peer_settings.get(Setting.MAX_FIELD_SECTION_SIZE)
        if limit is not None:
            check_section_size(encode_fields(pseudo, headers), limit)

    def _check_can_open(self) -> None:
        self.check_can_request()
        if self.webtransport_error is not None:
            raise self.webtransport_error
        limit = self._session_limit()
        if limit is not None and len(self.sessions) + len(self._to_send) >= limit:
            raise SessionError(f"the connection allows at most {limit} sessions at a time")

    def _session_limit(self) -> int | None:
        """How many sessions a client may have on this connection; None: no known limit."""
        dialect = self.dialect
        if dialect is None:
            return None
        if dialect.one_session_without_flow_control and not flow_control_on(
            dialect, self.settings, self.peer_settings
        ):
            return 1
        return announced(dialect, self.peer_settings) if dialect.counts_sessions else None

    def _send_connects(self) -> None:
        """Send the requests that waited for SETTINGS or for a stream."""
        while self._to_send and self.settings_known:
            session = next(iter(self._to_send))
            dialect = session.dialect or self.dialect
            limit = self._session_limit()
            error = self.webtransport_error
            if error is None and limit is not None and len(self.sessions) >= limit:
                error = SessionError(f"the connection allows at most {limit} sessions at a time")
            if error is None and dialect is not None:
                try:
                    self.check_header(*session.request_fields(dialect))
                except ConfigurationError as unfit:
                    error = unfit
            if error is not None or dialect is None:
                del self._to_send[session]
                session.refuse(error or SessionError("no dialect in common"))
                continue
            stream = self.open_stream(False)
            if stream is None:
                return
            del self._to_send[session]
            self._connect(session, stream, dialect)

    def _connect(self, session: H3Session, stream: Stream, dialect: Dialect) -> None:
        request = RequestStream(self, stream, session)
        self.requests[request.stream_id] = request
        flow_control = flow_control_on(dialect, self.settings, self.peer_settings)
        session.bind(request, dialect, flow_control=flow_control)
        self.sessions[session.session_id] = session
        session.send_request()
        if self._waiting is not None:
            for unidirectional, waiting in enumerate(self._waiting):
                if waiting.pop(session, self) is None:
                    session.events.streams_available(bool(unidirectional))
        session.tell_datagram_writable()

    def retry_with_older_token(self, session: H3Session) -> bool:
        """Ask again as an older client, if the server also shows an older generation.

        Returns:
            False: no retry is possible.
        """
        dialect = session.dialect
        if dialect is None or dialect.token != WEBTRANSPORT_H3_TOKEN:
            return False
        older = select_dialect(self.options.offered, self.peer_settings, below=dialect.draft)
        if older is None or not self.options.legacy_token_retry or self.goaway_received:
            return False
        request = self.requests.get(session.session_id)
        if request is not None:
            request.give_up()
        self.sessions.pop(session.session_id, None)
        self.arrivals.discard(session)
        session.dialect = older
        self._to_send[session] = None
        self._send_connects()
        return True

    def session_established(self, session: H3Session) -> None:
        """A session is established; later ones use the same dialect."""
        self.arrivals.established(session.session_id)
        if self.is_client:
            self.dialect = session.dialect

    # Requests of a client.

    def may_serve(self, stream_id: int) -> bool:
        """Server: return False for requests that GOAWAY excludes."""
        return self._goaway_sent is None or stream_id < self._goaway_sent

    # Called by sessions and request streams.

    def open_stream(self, unidirectional: bool) -> Any | None:
        """Open a stream; return None while the peer allows no more on the connection."""
        stream = self.quic.open_stream(unidirectional)
        if stream is not None:
            self.newest_stream[unidirectional] = stream.stream_id
        return stream

    def route_datagrams(self, session_id: int, receive: Callable[[list[bytes]], object]) -> None:
        """Send the datagrams of a session straight to ``receive``."""
        self.datagram_routes[session_id // 4] = receive

    def wait_for_streams(self, session: H3Session, unidirectional: bool) -> None:
        """Tell the session when a stream can be opened."""
        if self._waiting is None:
            self._waiting = ({}, {})
        self._waiting[unidirectional][session] = None

    def stop_waiting(self, session: H3Session, unidirectional: bool) -> None:
        """The session need not be told any more."""
        if self._waiting is not None:
            self._waiting[unidirectional].pop(session, None)

    def session_over(self, session: H3Session) -> None:
        """A session ended: forget it, and refuse the data that waited for it."""
        self._to_send.pop(session, None)
        for waiting in self._waiting or ():
            waiting.pop(session, None)
        if self.sessions.pop(session.session_id, None) is not None:
            self.datagram_routes.pop(session.session_id // 4, None)
            self.arrivals.discard(session)

    def tunnel_over(self, stream_id: int) -> None:
        """A tunnel ended: forget it."""
        self.datagram_routes.pop(stream_id // 4, None)
        self.tunnels.pop(stream_id, None)

    def exchange_over(self, stream_id: int) -> None:
        """An exchange ended: forget it."""
        self.exchanges.pop(stream_id, None)
        if self.when_quiet is not None and not self.exchanges:
            self.when_quiet()

    def new_request(self, stream: Stream) -> None:
        """Server: a stream that begins with a frame of HTTP/3."""
        request = RequestStream(self, stream)
        self.requests[stream.stream_id] = request
        request.begin()

    def request_done(self, request: RequestStream) -> None:
        """A request stream is done."""
        self.requests.pop(request.stream_id, None)
        if request.session is None and request.exchange is None:
            self.arrivals.settle(request.stream_id)
            if self.admission is not None:
                self.admission.request_done(request)

    def unacknowledged_responses(self) -> list[Stream]:
        """Return streams of complete HTTP responses that the client may not have yet."""
        return [] if self.admission is None else self.admission.unacknowledged()

    def closing_sessions(self) -> list[H3Session]:
        """Return ended sessions whose CONNECT stream is not finished by both ends yet."""
        return [
            request.session
            for request in self.requests.values()
            if request.phase is Phase.LINGER and isinstance(request.session, H3Session)
        ]

    # Control stream, both ways.

    def on_settings(self, settings: Mapping[int, int]) -> None:
        """The peer's SETTINGS have arrived: choose the dialect and handle waiting requests."""
        check_settings(settings, is_client=self.is_client)
        self.peer_settings = settings
        self.settings_known = True
        if self._settings_timer is not None:
            self._settings_timer.cancel()
            self._settings_timer = None
        self.qpack.apply_peer_settings(
            settings.get(Setting.QPACK_MAX_TABLE_CAPACITY, 0),
            settings.get(Setting.QPACK_BLOCKED_STREAMS, 0),
        )
        offered = self.options.offered
        if self.is_client:
            dialect = select_dialect(offered, settings)
        else:
            dialect = dialect_of_request(offered, settings, None)
        self.webtransport_error = self._unmet(dialect)
        if self.webtransport_error is None:
            self.dialect = dialect
        else:
            self.arrivals.discard_all()
        self.events.settings_received(settings)
        if self.admission is not None:
            self.admission.settings_arrived()
        self._send_connects()

    def _unmet(self, dialect: Dialect | None) -> Exception | None:
        """Return an error that names what is missing for WebTransport; None if nothing is."""
        settings, missing = self.peer_settings, []
        if dialect is None:
            offered = ", ".join(dialect.drafts for dialect in reversed(self.options.offered))
            missing.append(f"a setting for WebTransport ({offered})")
        datagrams = dialect.datagram_settings if dialect else (Setting.H3_DATAGRAM,)
        if not any(settings.get(name) == 1 for name in datagrams):
            missing.append("the setting H3_DATAGRAM")
        if self.quic.peer_max_datagram_frame_size == 0:
            missing.append("the transport parameter max_datagram_frame_size")
        implied = dialect is not None and dialect.connect_setting_implied
        if self.is_client and not implied and settings.get(Setting.ENABLE_CONNECT_PROTOCOL) != 1:
            missing.append("the setting ENABLE_CONNECT_PROTOCOL")
        if not missing:
            return None
        peer = "server" if self.is_client else "client"
        return WebTransportNotSupportedError(
            f"the {peer} does not offer WebTransport: it did not send {', '.join(missing)}",
            error_code=H3Error.WT_REQUIREMENTS_NOT_MET,
            remote=True,
        )

    def on_priority(self, stream_id: int, value: bytes) -> None:
        """Server: the client changed the priority of a request."""
        self.admission.prioritize(stream_id, value)

    def on_goaway(self, last_id: int) -> None:
        """The peer will not serve requests from this ID on."""
        if self.is_client and last_id % 4:
            raise H3ConnectionError(H3Error.ID_ERROR, f"GOAWAY with ID {last_id}")
        if self._goaway_id is not None and last_id > self._goaway_id:
            raise H3ConnectionError(
                H3Error.ID_ERROR, f"GOAWAY went from {self._goaway_id} to {last_id}"
            )
        self._goaway_id = last_id
        self.goaway_received = True
        error = ClientError(
            "the server accepts no new session on this connection (GOAWAY)",
            error_code=H3Error.REQUEST_REJECTED,
            remote=True,
        )
        for session in list(self._to_send):
            session.refuse(error)
        for session in list(self.sessions.values()):
            if self.is_client and not session.is_live and session.session_id >= last_id:
                session.refuse(error)
            else:
                session.tell_draining()
        for tunnel in list(self.tunnels.values()):
            if self.is_client and not tunnel.is_open and tunnel.stream_id >= last_id:
                tunnel.aborted(error)
        self.events.goaway_received(last_id)

    def send_goaway(self) -> None:
        """Announce the end of the connection.

        A server names the last request later (:meth:`finish_goaway`); a client says that it
        wants no pushes.
        """
        if self._goaway_sent is None:
            self._goaway(0 if self.is_client else FIRST_GOAWAY_ID)

    def finish_goaway(self) -> None:
        """Server: name the first request that is not served, about a round trip later."""
        self.send_goaway()
        if not self.is_client and self._goaway_sent == FIRST_GOAWAY_ID:
            self._goaway(self.arrivals.next_request_id)

    def _goaway(self, last_id: int) -> None:
        self._goaway_sent = last_id
        self._write_control(encode_frame(FrameType.GOAWAY, encode_varint(last_id)))

    def _write_control(self, data: bytes) -> None:
        if self._control is None:
            self._control_backlog += data
        elif not self._closed:
            with suppress(StreamError):  # stopped, or the connection ended: news of it follows
                self._control.write(data)

    def _open_critical(self) -> None:
        """Open our control and QPACK streams, as far as the peer allows now."""
        wanted = len(_CRITICAL) if self.options.qpack_max_table_capacity else 1
        while self._started and self._opened < wanted:
            stream = self.open_stream(True)
            if stream is None:
                return
            self._set_critical(stream, encode_varint(_CRITICAL[self._opened]))

    def _set_critical(self, stream: Stream, begin: bytes = b"") -> None:
        """Use a stream as our next critical stream.

        Args:
            stream: A unidirectional stream of this end.
            begin: What begins it; empty if that was sent before.
        """
        kind = _CRITICAL[self._opened]
        self._opened += 1
        critical = LocalCritical(self, stream)
        stream.sink = critical.ready
        stream.set_send_order(_SEND_FIRST)
        if kind == StreamType.CONTROL:
            self._control = stream
            begin += self._control_backlog
            self._control_backlog = b""
        elif kind == StreamType.QPACK_ENCODER:
            self.qpack.send_encoder = critical.write
        else:
            self.qpack.send_decoder = critical.write
        if begin:
            with suppress(StreamError):  # stopped already: news of it follows
                stream.write(begin)

    # The end.

    @property
    def lacks_webtransport(self) -> bool:
        """SETTINGS have arrived, and no session is possible."""
        return self.settings_known and self.dialect is None

    @property
    def is_closed(self) -> bool:
        """The connection is closed, or being closed by the QUIC connection."""
        return self._closed

    def close(self, code: int = H3Error.NO_ERROR, reason: str = "") -> None:
        """End all sessions with code 0 and close the QUIC connection, at once.

        To avoid losing a WT_CLOSE_SESSION, end the sessions first and wait for a
        limited time, until :meth:`closing_sessions` is empty or their streams are
        acknowledged.

        Args:
            code: Application error code of CONNECTION_CLOSE.
            reason: A reason for the peer's log.
        """
        if self._closed:
            return
        for session in [*self._to_send, *self.sessions.values()]:
            session.close()
        for tunnel in list(self.tunnels.values()):
            tunnel.close()
        if not self._closed:  # the callbacks of a session may close it, too
            self._shut(None)
            self.quic.close(code, reason)

    def release(self) -> None:
        """Do nothing: the sockets are those of an endpoint."""

    def shed(self, reason: str) -> None:
        """Close the connection, because it takes more than its share."""
        self.quic.close(H3Error.EXCESSIVE_LOAD, reason)

    def _fail(self, code: int, reason: str, frame_type: int | None) -> None:
        """The peer broke a rule: close the connection."""
        error = ProtocolError(reason, error_code=code, frame_type=frame_type, remote=True)
        self.quic.close(code, reason)
        self._shut(error)
        self.events.connection_failed(error)

    def _shut(self, error: Exception | None) -> None:
        """Nothing is sent or received any more: end sessions, release streams and timers."""
        self._closed = True
        self._was_idle = not (self._to_send or self.sessions or self.tunnels or self.exchanges)
        self.loss = error
        self.load.close()
        if self._settings_timer is not None:
            self._settings_timer.cancel()
        self.datagram_routes.clear()
        self.exchange_requested = None  # it may refer to the connection above
        requests, self.requests = self.requests, {}
        for request in requests.values():
            request.abandon()
            request.session = request.exchange = None
        if self._control is not None:
            self._control.sink = None
        if self.admission is not None:
            self.admission.shut()
        self.arrivals.shut()
        ended: list[H3Session | H3Tunnel | H3Exchange]
        ended = [*self._to_send, *self.sessions.values(), *self.tunnels.values()]
        ended += self.exchanges.values()
        for one in ended:
            one.detach()
        self._telling = True
        for_each(self.load.turns, ended, lambda one: one.connection_lost(error), self._all_told)

    def _all_told(self) -> None:
        self._telling = False
        then, self._when_told = self._when_told, None
        if then is not None:
            then()

    def _settings_late(self) -> None:
        self._settings_timer = None
        seconds = self.options.settings_timeout
        if self.admission is not None:
            self.admission.settings_late()
        reason = f"no SETTINGS within {seconds:g} seconds"
        error = HandshakeError(
            reason, error_code=H3Error.MISSING_SETTINGS, handshake_stage="settings", remote=True
        )
        self.quic.close(H3Error.MISSING_SETTINGS, reason)
        self._shut(error)
        self.events.connection_failed(error)
