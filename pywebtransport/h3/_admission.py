"""Server: the requests of a client, and what becomes of them: sessions, tunnels, exchanges."""

from __future__ import annotations

from typing import Any, Final

from .._transport import Stream, TimerHandle
from ._constants import CONNECT_UDP_TOKEN, TOKENS, WEBSOCKET_TOKEN, H3Error
from ._dialects import dialect_of_request, flow_control_on
from ._errors import H3ConnectionError, H3StreamError
from ._exchange import H3Exchange
from ._fields import Request
from ._nothing import NO_CONNECTION
from ._parts import Connection
from ._priority import parse_urgency, send_order
from ._request import Phase, RequestStream
from ._session import H3Session
from ._tunnel import H3Tunnel

__all__ = ["Admission"]

# The limit of open requests where the transport names none.
_STREAMS: Final = 128
# Finished responses that are remembered before those that have arrived are forgotten.
_FEW: Final = 16


class Admission:
    """Requests of one connection.

    Args:
        connection: The connection that they belong to.
    """

    __slots__ = (
        "_allowance",
        "_budget",
        "_connection",
        "_held",
        "_orders",
        "_refused",
        "_refused_timer",
        "_sent",
        "_sweep_at",
    )

    def __init__(self, connection: Connection) -> None:
        self._connection: Any = connection
        # Requests for sessions and tunnels, until SETTINGS have arrived; created when needed.
        self._held: dict[RequestStream, Request] | None = None
        self._refused = 0  # sessions and tunnels
        self._refused_timer: TimerHandle | None = None
        # Requests that may still be taken back before their answer.
        self._allowance = self._budget = 2 * self._limit
        # Send orders of requests that have not arrived; created when needed.
        self._orders: dict[int, int] | None = None
        self._sent: list[Stream] = []
        self._sweep_at = _FEW

    @property
    def _limit(self) -> int:
        """How many requests may be open at once."""
        return self._connection.options.peer_bidi_streams or _STREAMS

    def received(self, stream: RequestStream, request: Request) -> None:
        """A well-formed request.

        Raises:
            H3ConnectionError, H3StreamError: it cannot be served.
        """
        connection = self._connection
        exchange = connection.exchange_requested is not None and (
            request.method != "CONNECT"
            or (request.protocol == WEBSOCKET_TOKEN and connection.accepts_websockets)
        )
        if not exchange:
            stream.judge_ahead()
        if not connection.may_serve(stream.stream_id):
            raise H3StreamError(stream, H3Error.REQUEST_REJECTED, "going away")
        if exchange:
            self._admit_exchange(stream, request)
        elif request.protocol is None and (
            request.method != "CONNECT" or connection.exchange_requested is None
        ):
            _answer_plain(stream, request)
        elif request.protocol not in TOKENS and (
            request.protocol != CONNECT_UDP_TOKEN or connection.tunnel_requested is None
        ):
            stream.respond(501)
        elif connection.settings_known:
            self._admit(stream, request)
        else:
            if self._held is None:
                self._held = {}
            if len(self._held) >= connection.options.max_pending_connects:
                self._refuse(stream, "too many requests before SETTINGS")
            self._held[stream] = request

    # Sessions and tunnels.

    def settings_arrived(self) -> None:
        """Handle the requests that waited for the client's SETTINGS."""
        held, self._held = self._held, None
        for stream, request in (held or {}).items():
            if stream.phase is Phase.WAITING:
                self._connection.guard(self._admit, stream, request)

    def settings_late(self) -> None:
        """The client's SETTINGS did not come: reject the requests that waited for them."""
        for stream in list(self._held or ()):
            stream.fail(H3Error.REQUEST_REJECTED)

    def request_done(self, stream: RequestStream) -> None:
        """A request stream is done."""
        if self._held:
            self._held.pop(stream, None)

    def _admit(self, stream: RequestStream, request: Request) -> None:
        """Create a session for a CONNECT request if the limit allows another one."""
        connection = self._connection
        if request.protocol == CONNECT_UDP_TOKEN:
            self._admit_tunnel(stream, request)
            return
        options = connection.options
        dialect = dialect_of_request(options.offered, connection.peer_settings, request.protocol)
        if connection.webtransport_error is not None or dialect is None:
            raise H3StreamError(stream, H3Error.MESSAGE_ERROR, "WebTransport was not negotiated")
        flow_control = flow_control_on(dialect, connection.settings, connection.peer_settings)
        single = dialect.one_session_without_flow_control and not flow_control
        if len(connection.sessions) >= (1 if single else options.max_sessions):
            self._refuse(stream, "too many sessions")
        headers = request.headers
        session = H3Session(
            connection,
            authority=request.authority,
            path=request.path,
            scheme=request.scheme,
            origin=headers.get("origin"),
            request_headers=headers,
            protocol_token=request.protocol or "",
        )
        stream.session = session
        # A client whose requests are sometimes accepted is not a flood of refused requests.
        self._refused = max(0, self._refused - 1)
        session.bind(stream, dialect, flow_control=flow_control)
        session.read_offer()
        connection.sessions[session.session_id] = session
        connection.arrivals.pin(session.session_id)
        connection.dialect = dialect
        connection.events.session_requested(session)

    def _admit_tunnel(self, stream: RequestStream, request: Request) -> None:
        connection = self._connection
        if len(connection.tunnels) >= connection.options.max_sessions:
            self._refuse(stream, "too many tunnels")
        tunnel = H3Tunnel.requested(connection, stream, request)
        if tunnel is not None and connection.tunnel_requested is not None:
            connection.tunnel_requested(tunnel)

    def _refuse(self, stream: RequestStream, reason: str) -> None:
        """Refuse one session; close the connection if the client keeps on requesting."""
        connection = self._connection
        options = connection.options
        self._refused += 1
        if self._refused > options.max_refused_sessions:
            raise H3ConnectionError(H3Error.EXCESSIVE_LOAD, reason)
        if self._refused_timer is None:
            self._refused_timer = connection.call_later(
                options.refused_window, self._forget_refused
            )
        raise H3StreamError(stream, H3Error.REQUEST_REJECTED, reason)

    def _forget_refused(self) -> None:
        self._refused = 0
        self._refused_timer = None

    # Exchanges.

    def _admit_exchange(self, stream: RequestStream, request: Request) -> None:
        connection, stream_id = self._connection, stream.stream_id
        connection.arrivals.settle(stream_id)  # no session lives there
        if stream.stream.is_stopped:  # already taken back
            stream.fail(H3Error.REQUEST_CANCELLED)
            self.taken_back()
            return
        if request.content_length and stream.stream.at_eof:
            raise H3StreamError(stream, H3Error.MESSAGE_ERROR, "a body without its bytes")
        order = 0 if request.urgency is None else send_order(request.urgency)
        if self._orders:
            order = self._orders.pop(stream_id, order)
        exchange = connection.exchanges[stream_id] = H3Exchange(connection, stream, request)
        if order:
            exchange.set_send_order(order)
        connection.exchange_requested(exchange)

    def answered(self) -> None:
        """A request is being answered: the client may take one more back."""
        if self._budget < self._allowance:
            self._budget += 1

    def taken_back(self) -> None:
        """The client took a request back before its answer.

        Raises:
            H3ConnectionError: It does this too often (H3_EXCESSIVE_LOAD).
        """
        if self._connection.exchange_requested is not None:
            self._budget -= 1
        if self._budget < 0:
            raise H3ConnectionError(
                H3Error.EXCESSIVE_LOAD, "too many requests that were taken back"
            )

    def sent(self, stream: Stream) -> None:
        """All of a response was written."""
        self._sent.append(stream)
        if len(self._sent) >= self._sweep_at:
            self._sent = self.unacknowledged()
            self._sweep_at = max(_FEW, 2 * len(self._sent))

    def unacknowledged(self) -> list[Stream]:
        """Return streams of complete responses that the client may not have received yet."""
        return [s for s in self._sent if not (s.is_acked or s.is_stopped or s.is_closed)]

    # Priorities.

    def prioritize(self, stream_id: int, value: bytes) -> None:
        """The client changed the priority of a request, which may not have arrived yet.

        Args:
            stream_id: Of the request; a multiple of 4.
            value: A priority field value.

        Raises:
            H3ConnectionError: There cannot be such a request (H3_ID_ERROR).
        """
        connection = self._connection
        next_id, limit = connection.arrivals.next_request_id, self._limit
        if connection.options.peer_bidi_streams is not None and stream_id >= next_id + 4 * limit:
            raise H3ConnectionError(
                H3Error.ID_ERROR, f"PRIORITY_UPDATE for {stream_id}, beyond the stream limit"
            )
        urgency = parse_urgency(value)
        if urgency is None or connection.exchange_requested is None:
            return
        exchange = connection.exchanges.get(stream_id)
        if exchange is not None:
            exchange.set_send_order(send_order(urgency))
            return
        for stream in self._sent:  # a response that is complete, but perhaps not on its way
            if stream.stream_id == stream_id:
                stream.set_send_order(send_order(urgency))
                return
        if stream_id >= next_id or self._is_incomplete(stream_id):
            orders = self._orders
            if orders is None:
                orders = self._orders = {}
            if len(orders) >= limit:
                for one in [o for o in orders if o < next_id and not self._is_incomplete(o)]:
                    del orders[one]  # it became something else
            if len(orders) < limit or stream_id in orders:
                orders[stream_id] = send_order(urgency)

    def _is_incomplete(self, stream_id: int) -> bool:
        """Return whether the header of a request is still arriving."""
        stream = self._connection.requests.get(stream_id)
        return stream is not None and stream.phase in (Phase.HEADERS, Phase.BLOCKED)

    def shut(self) -> None:
        """The connection is gone."""
        if self._refused_timer is not None:
            self._refused_timer.cancel()
        self._held = self._orders = None
        self._sent = []
        self._connection = NO_CONNECTION


def _answer_plain(stream: RequestStream, request: Request) -> None:
    """Answer a plain HTTP request, for instance of a browser that opens the URL."""
    if request.method in ("GET", "HEAD"):
        stream.respond(404)
    else:
        stream.respond(405, {"allow": "GET, HEAD"})
