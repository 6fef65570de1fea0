"""The one session of a QMux connection, in the shape of the sessions of HTTP/3. Sans-I/O.

A connection over WebSocket carries one session: the upgrade request asks for it, the answer
accepts it, and the end of the connection is its end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Protocol, cast

from .._states import HeadersToSend
from .._transport import CloseInfo, LayerSession, SessionEvents
from ..exceptions import ClientError, ConnectionError, SessionError, WebTransportError
from ..h3._fields import check_fields, check_target
from ..h3._nothing import NO_CONNECTION_EVENTS, NO_HEADERS
from ._names import check_protocols, format_offer, parse_offer
from ._session import (
    ClientUpgrade,
    QMuxSession,
    ServerUpgrade,
    SessionTransport,
    check_upgrade_fields,
)

__all__ = ["QMuxEvents", "QMuxSessions"]

_BAD_REQUEST: Final = 400
_INTERNAL_ERROR: Final = 0x01  # of QUIC
_NO_SETTINGS: Final[Mapping[int, int]] = MappingProxyType({})


class QMuxEvents(Protocol):
    """Events of the sessions of one connection."""

    def session_requested(self, session: LayerSession) -> None:
        """Server: answer with ``accept`` or ``reject``, now or later."""

    def goaway_received(self, last_id: int) -> None:
        """The peer asked for the end of the connection; the ID has no meaning here."""


class QMuxSessions:
    """What ``H3Connection`` is for HTTP/3: the ``SessionLayer`` of a QMux connection.

    Args:
        quic: The QMux connection.
        events: Receives the events.
        upgrade: Server: the upgrade request that waits for its answer. Client: sends one.
        is_client: This end is the client.
        legacy: Server: accept the older framing, too.

    Attributes:
        session: The session, while it has not ended; None before it is requested.
        loss: Why the connection is closed; None if it is open, or this end closed it.
        goaway_received: The peer asked this end to finish the session, and so the connection.
    """

    transport = "websocket"
    dialect = None
    settings_known = True
    peer_settings = _NO_SETTINGS
    webtransport_error: Exception | None = None
    has_requests = False
    early_dropped = 0

    __slots__ = (
        "_closed",
        "_ending",
        "_events",
        "_is_used",
        "_legacy",
        "_opened",
        "_request",
        "_upgrade",
        "_was_answered",
        "goaway_received",
        "loss",
        "quic",
        "session",
    )

    def __init__(
        self,
        quic: SessionTransport,
        events: QMuxEvents,
        upgrade: ServerUpgrade | ClientUpgrade,
        *,
        is_client: bool,
        legacy: bool = False,
    ) -> None:
        self.quic = quic
        self._events = events
        self._request = None if is_client else cast("ServerUpgrade", upgrade)
        self._upgrade = cast("ClientUpgrade", upgrade) if is_client else None
        self._legacy = legacy
        self.session: QMuxSession | None = None
        self.loss: Exception | None = None
        self.goaway_received = False
        self._ending: QMuxSession | None = None
        self._is_used = False  # a session was requested
        self._was_answered = False  # with something else than a session
        self._closed = False
        self._opened = (0, 0)  # streams of the session, once it is over
        quic.on_ready = self._ready
        quic.on_drain = self._drain

    # From the connection.

    def start(self) -> None:
        """Server: tell that a session is requested."""
        request, self._request = self._request, None
        if request is None or self._is_used or self._closed:
            return
        self._is_used = True
        offered = parse_offer(request.offered, legacy=self._legacy)
        if not offered:
            # No answer but a refusal would be valid.
            request.reject(_BAD_REQUEST, NO_HEADERS)
            self._was_answered = True
            return
        headers = request.headers
        if request.origin is not None:  # as over HTTP/3, it is a field like others, too
            headers = headers.copy()
            headers["origin"] = request.origin
        session = QMuxSession(
            self.quic,
            request,
            authority=request.authority,
            path=request.path,
            origin=request.origin,
            request_headers=headers,
            offered=offered,
            over=self._session_over,
        )
        self.session = session
        self._events.session_requested(session)

    def _ready(self) -> None:
        if self.session is not None:
            self.session.parameters_received()

    def _drain(self) -> None:
        self.goaway_received = True
        self._events.goaway_received(0)
        if self.session is not None:
            self.session.tell_draining()

    def stream_ready(self, stream: Any) -> None:
        """The peer opened a stream."""
        if self.session is None:
            stream.release()
        else:
            self.session.stream_arrived(stream)

    def datagrams_received(self, datagrams: list[bytes]) -> None:
        """Datagrams in the order of arrival."""
        if self.session is not None:
            self.session.datagrams_arrived(datagrams)

    def streams_available(self, unidirectional: bool) -> None:
        """The peer allows more streams of this kind."""
        if self.session is not None:
            self.session.tell_streams_available(unidirectional)

    def datagram_writable(self) -> None:
        """The outgoing datagram queue has room again."""
        if self.session is not None:
            self.session.tell_datagram_writable()

    def connection_closed(
        self, error: Exception | None, then: Callable[[], object] = lambda: None
    ) -> None:
        """The connection is gone, and its session with it.

        Args:
            error: How it ended; None: nobody has to be told.
            then: Called once the session has been told.
        """
        self._closed = True
        self.loss = error
        if self.session is not None:
            self.session.connection_lost(self.quic.close_info, error)
        # Without these, no cycle is left for the garbage collector.
        self._events = NO_CONNECTION_EVENTS
        self._request = self._upgrade = None
        self.quic.on_ready = self.quic.on_drain = None
        then()

    # Facts.

    @property
    def failure(self) -> WebTransportError | None:
        """What ended the link, if it is known."""
        failure = self.quic.failure
        return failure if isinstance(failure, WebTransportError) else None

    def streams_opened(self, unidirectional: bool) -> int:
        """Return how many streams of a kind were opened here."""
        if self.session is None:
            return self._opened[unidirectional]
        return self.session.streams_opened(unidirectional)

    def is_expected(self, info: CloseInfo) -> bool:
        """Return whether an end of the connection is an ordinary one: that of the session."""
        return info.kind == "application" or self._was_answered

    # The session.

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
    ) -> QMuxSession:
        """Request the session: the upgrade request is sent now.

        Args:
            authority: Host and port of the URL.
            path: Path and query; begins with a slash.
            headers: Extra request fields; a list of values is sent as several field lines.
            origin: The ``origin`` field.
            application_protocols: Names to offer, best first; each a token of HTTP.
            require_application_protocol: Close the session if the server selects none of them.
            events: Receives the events of the session.

        Raises:
            ConfigurationError: an argument cannot be sent.
            ConnectionError: the connection is closed or closing.
            ClientError: this end is the server.
            SessionError: the connection has had its session.
        """
        upgrade = self._upgrade
        if upgrade is None and not self._closed:
            raise ClientError("only clients can open sessions")
        check_target("authority", authority)
        check_target("path", path)
        fields = check_upgrade_fields(headers)
        check_protocols(application_protocols)
        if origin is not None:
            fields["origin"] = check_fields({"origin": origin})["origin"]
        if upgrade is None or self.quic.is_closed:
            raise self.loss or ConnectionError("the connection is closed")
        if self._is_used:
            raise SessionError(
                "a connection over WebSocket carries one session; open another connection"
            )
        self._is_used = True
        offer = format_offer(application_protocols)
        session = QMuxSession(
            self.quic,
            None,
            authority=authority,
            path=path,
            origin=fields.get("origin"),
            request_headers=fields,
            offered=parse_offer(offer),
            require_protocol=require_application_protocol,
            events=events,
            over=self._session_over,
        )
        self.session = session
        session.session_id = 0
        upgrade.request(
            path=path,
            authority=authority,
            headers=fields,
            subprotocols=offer,
            on_answer=session.answered,
        )
        return session

    def _session_over(self) -> None:
        session, self.session = self.session, None
        if session is not None:
            self._opened = (session.streams_opened(False), session.streams_opened(True))
            self._ending = session
            self._was_answered = session.status not in (None, 200)

    # The end.

    def closing_sessions(self) -> Sequence[LayerSession]:
        """Return the session if this end has closed it, and the peer may not know yet."""
        ending = self._ending
        return () if ending is None or ending.stream is None else (ending,)

    def send_goaway(self) -> None:
        """Ask the peer to finish, if it understands that."""
        if self.session is not None and self.session.is_live:
            self.session.drain()

    def finish_goaway(self) -> None:
        """Do nothing: no further session can be requested on this connection."""

    def close(self, *, reason: str = "") -> None:
        """End the session with code 0 and close the connection, at once.

        Args:
            reason: A reason for the peer.
        """
        if self.session is not None:
            self.session.close(0, reason)
        self.quic.close(0, reason)

    def release(self) -> None:
        """Close the socket, after the event loop was closed; nobody is told."""
        self.quic.release()

    def shed(self, reason: str) -> None:
        """Close the connection, because it takes more than its share.

        Args:
            reason: A reason for the peer.
        """
        self.quic.close(_INTERNAL_ERROR, reason, application=False)
