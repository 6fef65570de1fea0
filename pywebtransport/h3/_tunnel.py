"""One UDP tunnel: a CONNECT-UDP request and the packets that go with it (RFC 9298).

Packets travel in HTTP datagrams (RFC 9297) with context ID 0: as DATAGRAM frames; those of
the peer may also come in DATAGRAM capsules.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol

from .._states import HeadersToSend
from ..exceptions import (
    ClientError,
    ProtocolError,
    SessionError,
    SessionRejectedError,
    StreamLimitError,
    WebTransportError,
    WebTransportNotSupportedError,
)
from ._capsules import SKIPPED, CapsuleParser
from ._constants import (
    CAPSULE_PROTOCOL_FIELD,
    CONNECT_UDP_TOKEN,
    MAX_UDP_PAYLOAD,
    CapsuleType,
    H3Error,
    Setting,
)
from ._errors import CapsuleError, H3StreamError
from ._fields import Request, Response, check_fields, check_rejection
from ._nothing import NO_HEADERS, NO_OWNER, NO_TUNNEL_EVENTS
from ._parts import Connection
from ._request import RequestStream
from ._varint import decode_varint, encode_varint

__all__ = ["H3Tunnel", "TunnelEvents"]

_DATAGRAM_CAPSULE: Final = frozenset({CapsuleType.DATAGRAM})
# A context ID takes at most 8 bytes.
_MAX_PAYLOAD: Final = MAX_UDP_PAYLOAD + 8


class TunnelEvents(Protocol):
    """Events of one tunnel. All calls are synchronous, in the deliver phase."""

    def tunnel_established(self) -> None:
        """Client: 2xx received."""

    def tunnel_rejected(
        self, status: int | None, headers: Mapping[str, str], error: Exception
    ) -> None:
        """Client, last call: a final status other than 2xx, or no usable answer (None)."""

    def packets_received(self, packets: list[bytes]) -> None:
        """UDP payloads in the order of arrival."""

    def tunnel_writable(self) -> None:
        """``send`` returned False before; try again now."""

    def tunnel_closed(self, error: Exception | None) -> None:
        """Last call: an established tunnel ended. None: either end closed it normally."""


class _Capsules(CapsuleParser):
    """As ``CapsuleParser``, but a DATAGRAM capsule larger than any UDP payload is an error."""

    __slots__ = ()

    def _is_wanted(self, capsule_type: int, size: int) -> bool:
        if capsule_type == CapsuleType.DATAGRAM and size > _MAX_PAYLOAD:
            raise CapsuleError(f"a DATAGRAM capsule of {size} bytes in a UDP tunnel")
        return super()._is_wanted(capsule_type, size)


class H3Tunnel:
    """A UDP tunnel on its request stream.

    Created by :meth:`open` on a client, and for each request on a server; see
    ``H3Connection.tunnel_requested``.

    Attributes:
        events: Receives the events; a server sets it before :meth:`accept`.
        authority: ``:authority`` of the request: the proxy.
        path: ``:path``: the expanded template, which names the target.
        request_headers: Regular fields of the request.
        status: HTTP status of the answer.
        is_open: Packets can be sent and received.
        is_closed: The tunnel has ended.
        packets_sent: Packets passed to the connection.
        packets_dropped: Packets that did not fit into a datagram, and received datagrams of
            unknown contexts.
    """

    __slots__ = (
        "_capsules",
        "_connection",
        "_group",
        "_prefix",
        "_refused",
        "_request",
        "authority",
        "events",
        "is_closed",
        "is_open",
        "packets_dropped",
        "packets_sent",
        "path",
        "request_headers",
        "status",
        "stream_id",
    )

    def __init__(
        self,
        connection: Connection,
        stream: Any,
        authority: str,
        path: str,
        headers: Mapping[str, str],
        events: TunnelEvents,
    ) -> None:
        self._connection = connection
        self._request: RequestStream | None = None
        self._capsules = _Capsules(_DATAGRAM_CAPSULE, _MAX_PAYLOAD)
        self._group = connection.quic.new_group(NO_OWNER)
        self._refused = False
        self.stream_id: int = stream.stream_id
        self._prefix = encode_varint(self.stream_id // 4) + b"\0"
        self.authority = authority
        self.path = path
        self.request_headers = headers
        self.events = events
        self.status: int | None = None
        self.is_open = self.is_closed = False
        self.packets_sent = self.packets_dropped = 0
        connection.tunnels[self.stream_id] = self

    # Establishment.

    @classmethod
    def open(
        cls,
        connection: Connection,
        *,
        authority: str,
        path: str,
        headers: HeadersToSend,
        events: TunnelEvents,
    ) -> H3Tunnel:
        """Client: request a tunnel. The peer's SETTINGS must have arrived.

        Args:
            connection: The connection to the proxy.
            authority: Host and port of the proxy.
            path: The expanded template.
            headers: Extra request fields.
            events: Receives the events.

        Raises:
            ConfigurationError: A field cannot be sent.
            WebTransportNotSupportedError: The proxy lacks extended CONNECT or datagrams.
            ClientError: The proxy sent GOAWAY.
            StreamLimitError: The proxy allows no more requests now.
            ConnectionError: The connection is closed.
        """
        fields = check_fields(headers)
        fields[CAPSULE_PROTOCOL_FIELD] = "?1"
        pseudo = {
            ":method": "CONNECT",
            ":scheme": "https",
            ":authority": authority,
            ":path": path,
            ":protocol": CONNECT_UDP_TOKEN,
        }
        connection.check_can_request()
        connection.check_header(pseudo, fields)
        missing = _missing(connection)
        if missing:
            raise WebTransportNotSupportedError(
                f"the proxy does not offer CONNECT-UDP: it did not send {', '.join(missing)}",
                remote=True,
            )
        stream = connection.open_stream(False)
        if stream is None:
            raise StreamLimitError("the proxy allows no further request on this connection now")
        self = cls(connection, stream, authority, path, fields, events)
        request = self._request = RequestStream(connection, stream, self)
        connection.requests[self.stream_id] = request
        request.send_headers(pseudo, fields)
        return self

    @classmethod
    def requested(
        cls, connection: Connection, stream: RequestStream, request: Request
    ) -> H3Tunnel | None:
        """Server: create the tunnel of a request; None if it was refused, with an answer."""
        if _missing(connection):
            stream.respond(501)
            return None
        self = cls(
            connection,
            stream.stream,
            request.authority,
            request.path,
            request.headers,
            NO_TUNNEL_EVENTS,
        )
        self._request = stream
        stream.session = self
        connection.arrivals.settle(self.stream_id)  # no session lives there
        return self

    def accept(self, headers: HeadersToSend | None = None) -> None:
        """Server: answer 200; packets are forwarded from now on.

        Raises:
            SessionError: The request does not wait for an answer (any more).
            ConfigurationError: A header cannot be sent.
        """
        fields = check_fields(headers or {})
        fields[CAPSULE_PROTOCOL_FIELD] = "?1"
        request = self._answerable()
        request.send_headers({":status": "200"}, fields)
        self.status = 200
        self._established()
        connection = self._connection
        connection.guard(request.open)

    def reject(self, status: int, headers: HeadersToSend | None = None) -> None:
        """Server: answer with another status; the tunnel ends without an event.

        Args:
            status: 300 to 599.
            headers: Extra fields, such as ``proxy-status`` (RFC 9209).

        Raises:
            SessionError: The request does not wait for an answer (any more).
            ConfigurationError: The status or a header cannot be sent.
        """
        fields = check_fields(headers or {})
        check_rejection(status)
        request = self._answerable()
        request.respond(int(status), fields)
        self.status = status
        self._end()

    def response_received(self, response: Response) -> None:
        """Client: the final response has arrived."""
        self.status = response.status
        if 200 <= response.status < 300:
            self._established()
            self.events.tunnel_established()
            if self._request is not None:
                self._request.open()
            return
        request = self._request
        error = SessionRejectedError(
            f"the proxy refused the tunnel with HTTP status {response.status}",
            status_code=response.status,
            headers=response.headers,
            remote=True,
        )
        events = self._end()
        if request is not None:
            request.give_up()
        events.tunnel_rejected(response.status, response.headers, error)

    def _established(self) -> None:
        self.is_open = True
        self._connection.route_datagrams(self.stream_id, self._route)

    def _answerable(self) -> RequestStream:
        if self._connection.is_client or self.is_open or self._request is None:
            raise SessionError(f"tunnel {self.stream_id} cannot be answered (any more)")
        return self._request

    # Packets.

    @property
    def max_packet_size(self) -> int:
        """Size of the largest packet that fits now in bytes; it changes with the path."""
        return max(0, self._connection.quic.max_datagram_size - len(self._prefix))

    @property
    def queue_limit(self) -> int | None:
        """How many packets may wait in the connection's queue; None: no separate limit."""
        limit: int | None = self._group.datagram_limit
        return limit

    @queue_limit.setter
    def queue_limit(self, limit: int | None) -> None:
        self._group.datagram_limit = limit

    def send(self, packet: bytes) -> bool:
        """Queue one packet. A packet that does not fit is dropped and counted, as on a network.

        Returns:
            False if the queue is full: ``tunnel_writable`` tells when to try again.
        """
        queued = False
        if self.is_open:
            try:
                queued = self._connection.quic.send_datagram(self._prefix, packet, self._group)
            except WebTransportError:
                pass  # too large, or the connection has begun to end
            else:
                if not queued:
                    self._refused = True
                    return False
        if queued:
            self.packets_sent += 1
        else:
            self.packets_dropped += 1
        return True

    def tell_writable(self) -> None:
        """The outgoing queue has room."""
        if self._refused:
            self._refused = False
            self.events.tunnel_writable()

    def datagrams_received(self, datagrams: list[bytes]) -> None:
        """HTTP datagrams: context ID and UDP payload.

        Raises:
            H3StreamError: A payload is larger than any UDP payload (RFC 9298 section 5).
        """
        packets = []
        for datagram in datagrams:
            context = decode_varint(datagram)
            if context is None or context[0] or not self.is_open:
                self.packets_dropped += 1
                continue
            packet = datagram[context[1] :]
            if len(packet) > MAX_UDP_PAYLOAD:
                raise self._broken(f"a UDP payload of {len(packet)} bytes", H3Error.DATAGRAM_ERROR)
            packets.append(packet)
        if packets:
            self.events.packets_received(packets)

    def _route(self, datagrams: list[bytes]) -> None:
        self._connection.guard(self.datagrams_received, datagrams)

    def receive_capsules(self, data: bytes) -> bool:
        """Handle the payload of a DATA frame on the request stream.

        Returns:
            False if there is more to handle in a later turn; call again then, before new data.
        """
        done, load = 0, self._connection.load
        try:
            self._capsules.feed(data)
            while self.is_open and (capsule := self._capsules.next()) is not None:
                if capsule is SKIPPED:
                    load.idle("capsules of unknown types")
                elif len(capsule.value) > 1:  # a context ID and a payload
                    load.useful()
                    self.datagrams_received([capsule.value])
                else:
                    load.idle("capsules that carry nothing")
                    self.datagrams_received([capsule.value])
                done += 1
                if load.is_over(done):
                    return not self.is_open
        except CapsuleError as error:
            raise self._broken(str(error), H3Error.DATAGRAM_ERROR) from None
        return True

    def _broken(self, reason: str, code: int) -> Exception:
        request = self._request
        assert request is not None  # without it, nothing arrives
        return H3StreamError(request, code, reason)

    # The end.

    def close(self) -> None:
        """End the tunnel normally; does nothing if it has ended."""
        request = self._request
        if self.is_closed:
            return
        was_open = self.is_open
        events = self._end()
        if request is not None:
            if was_open:
                request.give_up(H3Error.NO_ERROR)
            else:
                request.fail(H3Error.REQUEST_CANCELLED)
        if was_open:
            events.tunnel_closed(None)

    def connect_finished(self) -> None:
        """The peer finished the request stream."""
        if not self._capsules.at_boundary:
            raise self._broken("the stream ended inside a capsule", H3Error.MESSAGE_ERROR)
        if not self.is_open:
            raise self._broken("the request ended before its answer", H3Error.REQUEST_INCOMPLETE)
        request = self._request
        events = self._end()
        if request is not None:
            request.give_up(H3Error.NO_ERROR)
        events.tunnel_closed(None)

    def connect_lost(self, code: int | None, how: str) -> None:
        """The request stream was reset or stopped by the peer."""
        self._lost(ProtocolError(f"the peer {how} the tunnel", error_code=code, remote=True))

    def aborted(self, error: Exception) -> None:
        """This end aborts the tunnel; ``error.error_code`` is sent to the peer."""
        code = getattr(error, "error_code", None)
        if self._request is not None:
            self._request.fail(H3Error.REQUEST_CANCELLED if code is None else code)
        self._lost(error)

    def detach(self) -> None:
        """The QUIC connection is gone; :meth:`connection_lost` follows, perhaps in a later turn."""
        self._request = None  # nothing can be written any more

    def connection_lost(self, error: Exception | None) -> None:
        """The QUIC connection is gone."""
        self._lost(error if error is not None else ClientError("the connection was closed"))

    def _lost(self, error: Exception) -> None:
        if self.is_closed:
            return
        answered = self.is_open or not self._connection.is_client
        events = self._end()
        if answered:
            events.tunnel_closed(error)
        else:
            events.tunnel_rejected(None, NO_HEADERS, error)

    def _end(self) -> TunnelEvents:
        """Enter the closed state; return the events for the last call."""
        events, self.events = self.events, NO_TUNNEL_EVENTS
        self.is_open = False
        self.is_closed = True
        self._request = None
        self._connection.tunnel_over(self.stream_id)
        self._group.close()
        return events


def _missing(connection: Connection) -> list[str]:
    """Return what the peer lacks for tunnels, as text for a message."""
    settings = connection.peer_settings
    missing = []
    if connection.is_client and settings.get(Setting.ENABLE_CONNECT_PROTOCOL) != 1:
        missing.append("the setting ENABLE_CONNECT_PROTOCOL")
    if settings.get(Setting.H3_DATAGRAM) != 1:
        missing.append("the setting H3_DATAGRAM")
    if connection.quic.peer_max_datagram_frame_size == 0:
        missing.append("the transport parameter max_datagram_frame_size")
    return missing
