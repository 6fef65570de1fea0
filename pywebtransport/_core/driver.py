"""Connects a transport with the sessions that it carries, and reports to the public object."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from .._loop import Endpoint, RemoteAddress
from .._quic import DatagramRoutes, QuicTls, StreamRoutes
from .._transport import CloseInfo, LayerSession, SessionLayer, Stream, Transport
from ..exceptions import WebTransportError
from ..h3._connection import H3Connection
from ..h3._options import H3Options
from ..utils._deadlines import Deadlines
from ..utils._turns import Turns
from .errors import error_from_close
from .waiting import eager_future

if TYPE_CHECKING:
    from .connection import WebTransportConnection

__all__ = ["Driver"]


class Driver:
    """The handler of one connection.

    Commands go down as method calls on ``quic`` and ``layer``: over QUIC, these are a QUIC
    connection and its HTTP/3 state. Events come up here and are passed to ``owner``. A client
    tries several addresses at the same time, with one driver each; only the driver that won has
    ``active`` set.
    """

    __slots__ = (
        "_where",
        "active",
        "datagram_writable",
        "datagrams_received",
        "handshake",
        "layer",
        "owner",
        "quic",
        "stream_ready",
        "streams_available",
        "turns",
    )

    layer: SessionLayer
    quic: Transport
    turns: Turns
    # Set in ``join`` to methods of the layer, or to compiled ones before them: frequent events
    # skip this class.
    stream_ready: Callable[[Stream], None]
    datagrams_received: Callable[[list[bytes]], None]
    streams_available: Callable[[bool], None]
    datagram_writable: Callable[[], None]

    def __init__(self, owner: WebTransportConnection, *, where: str = "") -> None:
        # None once the connection is gone: nothing is left to the garbage collector.
        self.owner: WebTransportConnection | None = owner
        self.active = False
        self._where = where
        self.handshake: asyncio.Future[None] | None = None

    def attach(self, quic: Transport, options: H3Options, *, is_client: bool) -> H3Connection:
        """Build the HTTP/3 state over ``quic``."""
        turns = self.share_turns()
        call_later = Deadlines.of(asyncio.get_running_loop()).call_later
        h3 = H3Connection(quic, self, call_later, turns, options, is_client=is_client)
        self.join(quic, h3)
        self.stream_ready = StreamRoutes(h3.sessions, h3.stream_ready)
        self.datagrams_received = DatagramRoutes(h3.datagram_routes, h3.datagrams_received)
        return h3

    def share_turns(self) -> Turns:
        """Return the share of the peer in the turns of the running event loop."""
        self.turns = Turns.of(asyncio.get_running_loop()).for_peer()
        return self.turns

    def join(self, quic: Transport, layer: SessionLayer) -> None:
        """Connect a transport with the layer that was built over it, after ``share_turns``."""
        self.quic = quic
        self.layer = layer
        self.stream_ready = layer.stream_ready
        self.datagrams_received = layer.datagrams_received
        self.streams_available = layer.streams_available
        self.datagram_writable = layer.datagram_writable

    def connect(
        self,
        endpoint: Endpoint,
        remote: RemoteAddress,
        options: H3Options,
        *,
        server_name: str,
        tls: QuicTls | None,
        ticket: bytes | None,
        token: bytes | None,
    ) -> None:
        """Client: start the handshake with one address."""
        # Nobody need look at the result: a lost race is not an error to report.
        self.handshake = eager_future(asyncio.get_running_loop())
        quic = endpoint.connect(
            remote, server_name=server_name, handler=self, tls=tls, ticket=ticket, token=token
        )
        self.attach(quic, options, is_client=True)

    # ------------------------------------------------- facts about the connection

    def handshake_completed(self) -> None:
        """QUIC and TLS are done: SETTINGS go out. Over WebSocket, the request is passed on."""
        self.layer.start()
        if self.handshake is not None and not self.handshake.done():
            self.handshake.set_result(None)

    def connection_closed(self, info: CloseInfo) -> None:
        """The connection is gone."""
        owner, self.owner = self.owner, None
        if owner is None:
            return
        if self.active and not (owner._sessions or owner._pending or self.layer.has_requests):
            # Nobody has to be told why, as at most ends: ``owner`` creates the error when asked.
            self.layer.connection_closed(None)
            owner._quic_closed(info, None)
            return
        error = self.error(owner, info)
        self.layer.connection_closed(error, partial(self._sessions_told, owner, info, error))

    def _sessions_told(
        self, owner: WebTransportConnection, info: CloseInfo, error: WebTransportError
    ) -> None:
        if self.handshake is not None and not self.handshake.done():
            self.handshake.set_exception(error)
        if self.active:
            owner._quic_closed(info, error)

    def error(self, owner: WebTransportConnection, info: CloseInfo) -> WebTransportError:
        """The typed error for the end of the connection."""
        if owner._error is not None:
            return owner._error
        pinned = bool(getattr(owner.config, "server_certificate_hashes", ()))
        return self.layer.failure or error_from_close(
            info,
            self.quic.remote_address,
            self._where,
            pinned=pinned,
            transport=self.layer.transport,
        )

    def path_changed(self, validated: bool) -> None:
        """The network path changed, or a migration failed."""
        if self.active and self.owner is not None:
            self.owner._path_changed(validated)

    def session_ticket(self, ticket: bytes) -> None:
        """TLS session ticket for a later connection."""
        if self.owner is not None:
            self.owner.session_ticket = ticket
            self.owner._credentials_arrived(ticket, None)

    def new_token(self, token: bytes) -> None:
        """Address-validation token for a later connection."""
        if self.owner is not None:
            self.owner.address_token = token
            self.owner._credentials_arrived(None, token)

    # ------------------------------------------------- facts about its sessions

    def settings_received(self, settings: Mapping[int, int]) -> None:
        """The peer's SETTINGS are in."""
        # A server's may come before the handshake is over: then ``_take`` reports them.
        if self.owner is not None and self.active:
            self.owner._settings_received(settings)

    def session_requested(self, session: LayerSession) -> None:
        """Server: a client asks for a session."""
        if self.owner is not None:
            self.owner._session_requested(session)

    def early_dropped(self, what: str) -> None:
        """Data that arrived before its session was dropped: no room, or it waited too long."""
        owner = self.owner
        if owner is not None and owner.on_early_drop is not None:
            owner.on_early_drop(owner, what)

    def goaway_received(self, last_id: int) -> None:
        """No more sessions can be opened."""
        if self.owner is not None:
            self.owner._goaway_received()

    def connection_failed(self, error: Exception) -> None:
        """The peer broke a rule of HTTP/3 or WebTransport."""
        if self.owner is not None:
            self.owner._protocol_failed(error)
