"""The WebTransport session: streams and datagrams under one CONNECT request."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, TypeVar

from .._header_map import HeaderMap
from .._quic import EagerTurn, SessionPort
from .._states import (
    ErrorCode,
    EventType,
    HeadersToSend,
    SessionCloseInfo,
    SessionId,
    SessionState,
    StreamId,
)
from ..constants import MAX_STREAM_COUNT, MAX_VARINT, ErrorCodes
from ..events import EventEmitter
from ..exceptions import SessionClosedError, SessionRejectedError
from ..h3._fields import check_rejection
from ..serializer._messages import MessageCodec
from ..serializer._protocol import Serializer
from ..utils._awaitable import Awaited, awaited, compiled
from ..utils._checks import (
    check_count,
    check_data,
    check_instance,
    check_integer,
    check_seconds,
    check_text,
    check_timeout,
    validate_session_id,
)
from ..utils._params import NO_PATH_PARAMS, PathParams, QueryParams
from ..utils._timing import get_timestamp
from . import ending, opening, orphans, serving_streams, story
from . import session_diagnostics as diagnostics
from .connection import WebTransportConnection
from .datagram_transport import WebTransportDatagramTransport
from .ending import check_ending, refusal
from .incoming_streams import Acceptors, IncomingStreams
from .memory import session_memory
from .opening import (
    check_answer,
    credit_grew,
    open_stream,
    require_home,
    unanswered,
)
from .receive_stream import WebTransportReceiveStream
from .send_stream import WebTransportSendStream, check_send_order
from .session_stats import SessionStats
from .stream import WebTransportStream
from .stream_base import DONE, _StreamBase
from .stream_manager import StreamManager
from .structured_datagrams import StructuredDatagramTransport
from .structured_stream import DEFAULT_MAX_MESSAGE_SIZE, StructuredStream, check_message_size
from .waiting import EagerWaiters

if TYPE_CHECKING:
    from .._transport import LayerSession
    from ..config import ClientConfig, ServerConfig

__all__ = ["WebTransportSession"]

_MessageT = TypeVar("_MessageT")
_Ending = tuple[int | None, str, bool, Exception | None]
_AnyStream = WebTransportStream | WebTransportReceiveStream | WebTransportSendStream

# Bytes that HKDF-Expand gives with SHA-256 (RFC 5869 section 2.3).
_MAX_EXPORT = 255 * 32

# Looking a member up on its enumeration takes ten times as long as a global name.
_CLOSED = SessionState.CLOSED
_OVER = (SessionState.CLOSING, SessionState.CLOSED)
_DRAINING_OR_OVER = (SessionState.DRAINING, *_OVER)


class WebTransportSession(SessionPort, EventEmitter):
    """A WebTransport session.

    ``WebTransportClient.connect`` returns one; a server passes one to your handler. Use it as
    ``async with session:``; leaving the block closes the session.

    Attributes:
        memory_budget: Memory that data from the peer takes here (``max_session_memory``).
        turns: Advanced: shares the turns of the event loop fairly among connections.
        write_high_water: ``write`` waits while a stream has this many bytes queued. Settable.
        write_low_water: A waiting ``write`` continues when no more bytes than this are queued.
        rejection_reason: Server: why the request is rejected, for the local log. Settable;
            the client does not see it.
        on_drain: Advanced: called when either end asks for the end of the session.
        on_end: Advanced: called once with the session when it ends, before its listeners.
        on_ready: Advanced: called once when the request is accepted, before its listeners.
    """

    # Slots take a third of the memory of a dictionary; applications can still add attributes. What
    # streams need of their session is in the compiled base, ``SessionPort``.
    __slots__ = ("__dict__", "_closed_waiters", "_datagrams", "_draining_waiters", "_ended_early",
                 "_error", "_path_params", "_ready_waiters", "_session_id", "memory_budget",
                 "on_drain", "on_end", "on_ready", "turns")  # fmt: skip

    _close_info: SessionCloseInfo | None
    _config: ClientConfig | ServerConfig
    _connection: WebTransportConnection
    _h3: LayerSession
    _state: SessionState
    _stats: SessionStats
    _orphans: orphans.Orphans | None
    _acceptors: Acceptors | None
    _incoming_bidi: deque[WebTransportStream] | None
    _incoming_uni: deque[WebTransportReceiveStream] | None
    write_high_water: int
    write_low_water: int
    _streams: dict[StreamId, _AnyStream]

    _logger = logging.getLogger("pywebtransport.session")
    # Shared, because few sessions set their own.
    rejection_reason = "the application refused it"

    def __init__(
        self,
        connection: WebTransportConnection,
        *,
        session_id: SessionId,
        max_streams: int | None = None,
        max_incoming_streams: int | None = None,
        stream_cleanup_interval: float | None = None,
    ) -> None:
        """Create the object for a session of ``connection`` (see ``wait_for_ready_session``).

        Args:
            connection: The connection that carries the session.
            session_id: The ID that the connection returned.
            max_streams: How many streams this end may have open in this session at the same
                time, 1 or more; default from the configuration.
            max_incoming_streams: Ignored; kept for compatibility. The configuration of the
                connection sets how many streams the peer may open.
            stream_cleanup_interval: Ignored; kept for compatibility. Closed streams are freed
                without it.

        Raises:
            ConfigurationError: ``max_streams`` is below 1.
            SessionError: The connection has no such session, or it already has an object.
        """
        if max_streams is not None:
            check_count("max_streams", max_streams)
        check_instance("connection", connection, WebTransportConnection)
        validate_session_id(session_id)
        self._bind(connection, connection._claim(session_id), session_id)
        if max_streams is not None:
            self._max_streams = min(max_streams, MAX_STREAM_COUNT)

    @classmethod
    def attach(cls, connection: WebTransportConnection, h3: LayerSession) -> Self:
        """Advanced: create the object for an HTTP/3 session.

        Args:
            connection: The connection that carries the session.
            h3: The session in the layer below, which has no object yet.
        """
        self = cls.__new__(cls)
        self._bind(connection, h3, connection._next_session_id())
        return self

    def _bind(
        self, connection: WebTransportConnection, h3: LayerSession, session_id: SessionId
    ) -> None:
        EventEmitter.__init__(self)
        config = connection.config
        self._connection = connection
        self._config = config
        self._h3 = h3
        self._max_streams = getattr(config, "max_streams", connection._max_local_streams)
        self.memory_budget = session_memory(connection, h3)
        self.turns = connection.turns
        self.write_high_water = config.write_buffer_limit
        self.write_low_water = connection.write_low_water
        self._draining_waiters: EagerWaiters | None = None  # created by the first waiter
        self._close_info = None
        self._error: Exception | None = None
        loop = self._loop = asyncio.get_running_loop()
        self._eager = EagerTurn.of(loop)
        self._ready_waiters = EagerWaiters(loop)
        self._closed_waiters = EagerWaiters(loop)
        # Client: how the session ended in the turn in which it became ready (_become_ready).
        self._ended_early: list[_Ending] | None = None
        self._state = SessionState.CONNECTING
        self._path_params = NO_PATH_PARAMS
        self.on_drain: Callable[[], None] | None = None
        self.on_end: Callable[[WebTransportSession], None] | None = None
        self.on_ready: Callable[[], None] | None = None
        self._session_id = session_id
        self._stats = SessionStats(session_id=self._session_id, created_at=get_timestamp())
        self._datagrams: WebTransportDatagramTransport | None = None  # made when used
        h3.events = self
        connection._add_session(self)
        story.requested(self)

    # -------------------------------------------------------------- properties

    @property
    def session_id(self) -> SessionId:
        """A unique ID: the connection's ID and a counter. ``stream_id`` is the QUIC stream ID."""
        return self._session_id

    @property
    def stream_id(self) -> int | None:
        """ID of the CONNECT stream, the protocol's session ID; None before it is sent.

        Over WebSocket there is no CONNECT stream: it is 0, and stream 0 is an ordinary stream.
        """
        number = self._h3.session_id
        return None if number < 0 else number

    @property
    def state(self) -> SessionState:
        """CONNECTING, CONNECTED, DRAINING, CLOSING or CLOSED.

        CLOSING also while the connection is lost and the session is still to be told: its streams
        may fail before.
        """
        state = self._state
        if state not in _OVER and self._connection._is_lost():
            return SessionState.CLOSING
        return state

    @property
    def is_ready(self) -> bool:
        """The session is established and not closed."""
        return self.state in (SessionState.CONNECTED, SessionState.DRAINING)

    @property
    def is_closed(self) -> bool:
        """The session has ended or is closing."""
        return self.state in _OVER

    @property
    def _is_over(self) -> bool:
        """As ``is_closed``, but streams and datagrams that came before a loss are here."""
        return self._state in _OVER

    @property
    def close_info(self) -> SessionCloseInfo | None:
        """How the session ended; None while it is open."""
        return self._close_info

    @property
    def connection(self) -> WebTransportConnection | None:
        """The QUIC connection that carries the session; None once the session is closed."""
        return None if self._state is SessionState.CLOSED else self._connection

    @property
    def config(self) -> ClientConfig | ServerConfig:
        """The configuration in force."""
        return self._config

    @property
    def error(self) -> Exception | None:
        """Why the session failed: it was rejected, or the connection was lost; else None."""
        return self._error

    @property
    def ready_at(self) -> float | None:
        """When the session was accepted, Unix time in seconds; None before."""
        return self._stats.ready_at

    @property
    def dialect(self) -> int | None:
        """Draft generation of the session (2, 7, 14 or 16).

        None before it is known, and over WebSocket.
        """
        dialect = self._h3.dialect
        return None if dialect is None else dialect.draft

    @property
    def transport(self) -> str:
        """What carries the session: ``"quic"`` or ``"websocket"``."""
        return self._connection.transport or "quic"

    @property
    def reliability(self) -> str:
        """``"supports-unreliable"`` over QUIC, ``"reliable-only"`` over WebSocket."""
        return self._connection.reliability

    @property
    def headers(self) -> HeaderMap:
        """The peer's header fields: those of the request on a server, of the response on a client.

        A dictionary by lower-case name. If a field came in several lines, such as
        ``set-cookie``, ``get_all`` and ``lines`` return the single lines.
        """
        h3 = self._h3
        return (h3.response_headers if h3.is_client else h3.request_headers).copy()

    @property
    def path(self) -> str:
        """``:path`` of the request, with the query."""
        return self._h3.path

    @property
    def path_params(self) -> PathParams:
        """What the route captured from the path, by name (``["room"]``) and by position.

        The router sets it.
        """
        return self._path_params

    @path_params.setter
    def path_params(self, params: PathParams) -> None:
        self._path_params = params

    @cached_property
    def query_params(self) -> QueryParams:
        """The query of ``path``, decoded: the first value of each name; ``get_all`` has all."""
        return QueryParams(self._h3.path)

    @property
    def authority(self) -> str:
        """``:authority`` of the request."""
        return self._h3.authority

    @property
    def origin(self) -> str | None:
        """``origin`` of the request; browsers always send it."""
        return self._h3.origin

    @property
    def application_protocol(self) -> str | None:
        """The application protocol that both ends agreed on, or None."""
        return self._h3.application_protocol

    @property
    def offered_protocols(self) -> Sequence[str]:
        """The application protocols that the client offers, in order of preference."""
        return tuple(self._h3.offered_protocols)

    @property
    def datagrams(self) -> WebTransportDatagramTransport:
        """The datagrams of the session (also awaitable)."""
        return self._datagrams or WebTransportDatagramTransport(self)

    @cached_property
    def stream_manager(self) -> StreamManager:
        """The open streams by their ID; created on first use."""
        return StreamManager(self, max_streams=self._max_streams)

    @property
    def max_datagram_size(self) -> int:
        """The largest payload that fits into one datagram now, in bytes."""
        return self.datagrams.max_datagram_size

    @property
    def rtt(self) -> float | None:
        """Smoothed round-trip time of the connection in seconds; None before the first sample."""
        return self._connection.rtt

    @property
    def remote_address(self) -> tuple[str, int] | None:
        """The peer's current address."""
        return self._connection.remote_address

    @property
    def client_network(self) -> str:
        """``client_network`` of the connection; still known after the session has ended."""
        return self._connection.client_network

    # ------------------------------------------------- server: answer the request

    def accept(
        self, *, headers: HeadersToSend | None = None, application_protocol: str | None = None
    ) -> Awaitable[None]:
        """Server: answer the request with 200. Takes effect at once; awaiting is optional.

        Args:
            headers: Extra response fields; a list of values is sent as several field lines.
            application_protocol: One of ``offered_protocols``, or None.

        Raises:
            SessionError: The request was already answered, or the client is gone.
            ConfigurationError: The protocol was not offered, or a field cannot be sent; the
                request still waits for an answer.
        """
        if application_protocol is not None:
            check_text("application_protocol", application_protocol)
        fields = check_answer(self, "accept", headers)
        self._h3.accept(fields, application_protocol)
        self._become_ready()
        return DONE

    def reject(
        self, *, status_code: int = 403, headers: HeadersToSend | None = None
    ) -> Awaitable[None]:
        """Server: answer the request with an error status. Takes effect at once.

        Args:
            status_code: 300 to 599.
            headers: Extra response fields; a list of values is sent as several field lines.

        Raises:
            ConfigurationError: The status is not in this range (then also a ``SessionError``), or a
                field cannot be sent; the request still waits for an answer.
            SessionError: The request was already answered, or the client is gone.
        """
        check_rejection(status_code)
        fields = check_answer(self, "reject", headers)
        self._h3.reject(status_code, fields)
        error = SessionRejectedError(status_code=status_code, headers=self._h3.response_headers)
        self._end(None, f"rejected with status {status_code}", False, error)
        return DONE

    # ---------------------------------------------------------------- life cycle

    async def initialize(self) -> None:
        """Do nothing; kept for compatibility. A new session is ready to use."""

    async def ready(self, *, timeout: float | None = 30.0) -> None:
        """Wait until the server accepts the session.

        Args:
            timeout: Seconds; None: no limit.

        Raises:
            SessionRejectedError: The server refused; the error has its status and headers.
            WebTransportNotSupportedError: The server does not speak WebTransport.
            ClientError: The server dropped the request without an answer.
            ConnectionError: The connection was lost first.
            SessionClosedError: This side closed the session first.
            TimeoutError: The server did not answer in time.

        Cancellation: safe.
        """
        check_timeout("timeout", timeout)
        if self._state is SessionState.CONNECTING and not await self._ready_waiters.wait(timeout):
            assert timeout is not None
            raise unanswered(self, timeout)
        if self._state is SessionState.CLOSED and self._stats.ready_at is None:
            raise self._error or self.closed_error("it never became ready")

    def drain(self) -> Awaitable[None]:
        """Tell the peer that the session will end soon (DRAIN capsule).

        Streams and datagrams still work. Takes effect at once; awaiting is optional.
        """
        require_home(self)
        if self.is_ready:
            self._h3.drain()
            if self.on_drain is not None:
                self.on_drain()
        return DONE

    async def close(
        self, *, code: ErrorCode = 0, reason: str = "", close_connection: bool = True
    ) -> None:
        """End the session and send ``code`` and ``reason`` to the peer.

        This first waits until the peer has acknowledged the streams that you finished, so
        nothing written and closed is lost. Streams that are not finished are reset. All of
        it takes at most about ``close_timeout`` seconds. Idempotent.

        Args:
            code: Application code, 0 to 2**32 - 1.
            reason: A string, cut to 1024 bytes of UTF-8.
            close_connection: Also close the QUIC connection when no other
                session uses it. Only a client's own connections are closed.

        Raises:
            ConfigurationError: ``code`` is out of range (then also a ``SessionError``) or not a
                number, or ``reason`` is not a string. The session stays open then.

        Cancellation: only the wait ends; session and connection are closed all the same.
        """
        check_ending(self, code, reason)
        deadline = self._loop.time() + self._config.close_timeout
        await self.close_until(deadline, code, reason, close_connection)

    close_until = ending.close_until

    def abort(self, code: ErrorCode = ErrorCodes.H3_REQUEST_CANCELLED) -> Awaitable[None]:
        """End the session at once by resetting the CONNECT stream; no code or reason is sent.

        The peer sees an abrupt end (code None). Data in flight on streams and in datagrams
        is lost. A client's connection is closed when no other session uses it. Takes
        effect at once; awaiting is optional. Does nothing if the session has ended.

        Args:
            code: HTTP/3 error code of the reset, 0 to 2**62 - 1; not sent over WebSocket.

        Raises:
            ConfigurationError: ``code`` is out of range.
        """
        check_integer("code", code, 0, MAX_VARINT)
        require_home(self)
        self._tell_end()
        if self._state is not SessionState.CLOSED:
            try:
                self._end(None, "", False, None)
            finally:
                self._h3.abort(code)
            self._connection._close_later()
        return DONE

    async def wait_closed(self) -> SessionCloseInfo:
        """Wait until the session has ended.

        Returns:
            The code, the reason, and whether the peer ended it. A code of None means an
            abrupt end.

        Cancellation: safe.
        """
        while self._close_info is None:
            # Not ``wait()``: most handlers are here, and it would be one more coroutine for each.
            future = self._closed_waiters.add(asyncio.get_running_loop())
            try:
                await future
            finally:
                self._closed_waiters.leave(future)
        return self._close_info

    async def wait_draining(self) -> bool:
        """Wait until the peer asks this end to finish (``draining`` of the W3C interface).

        The peer sends a WT_DRAIN_SESSION capsule, or GOAWAY on the connection
        (draft-ietf-webtrans-http3 section 4.7). Streams and datagrams still work: finish
        what you have begun, open a new session for new work, and close this one.

        Returns:
            True if the peer asked, False if the session ended first.

        Cancellation: safe.
        """
        while self._state not in _DRAINING_OR_OVER:
            if self._draining_waiters is None:
                self._draining_waiters = EagerWaiters()
            await self._draining_waiters.wait()
        return self._state is SessionState.DRAINING

    def release_connection(self) -> None:
        """Close a client's connection if no session uses it; does not wait.

        You need this only after ``close(close_connection=False)`` or ``close_nowait``.
        """
        self._connection._close_later()

    async def _end_failed_block(self) -> None:
        await self.close(code=1)

    # ------------------------------------------------------------------- streams

    @awaited
    @compiled(SessionPort)
    def create_bidirectional_stream(
        self, *, timeout: float | None = None, send_order: int = 0
    ) -> Awaited[WebTransportStream]:
        """Open a stream that both ends send on; wait while the peer's limit is reached.

        Args:
            timeout: Seconds to wait for any limit. If it is None, the call waits
                ``stream_creation_timeout`` seconds for the peer's limit, and does not wait for
                a local limit (``max_streams``).
            send_order: Streams of the connection with a higher value are sent first.

        Raises:
            StreamLimitError: A limit of the peer or a local limit was reached, and no stream
                was freed in time. It is also a ``TimeoutError``.
            SessionClosedError: The session has ended.
            ConfigurationError: An argument is out of range.

        Cancellation: safe; no stream is opened.
        """
        return self._create_bidirectional_stream(timeout=timeout, send_order=send_order)

    @awaited
    @compiled(SessionPort)
    def create_unidirectional_stream(
        self, *, timeout: float | None = None, send_order: int = 0
    ) -> Awaited[WebTransportSendStream]:
        """Open a stream that only this end sends on; else as ``create_bidirectional_stream``."""
        return self._create_unidirectional_stream(timeout=timeout, send_order=send_order)

    def incoming_streams(
        self,
    ) -> AsyncIterator[WebTransportStream | WebTransportReceiveStream]:
        """Iterate over the streams that the peer opens, of both kinds, in order of arrival.

        Streams that arrived before the call are included. The loop ends without an error when
        the session ends, after the streams that are still queued.
        """
        return IncomingStreams(self, bidirectional=True, unidirectional=True)

    def incoming_bidirectional_streams(self) -> AsyncIterator[WebTransportStream]:
        """As ``incoming_streams``, but only bidirectional streams."""
        return IncomingStreams(self, bidirectional=True, unidirectional=False)

    def incoming_unidirectional_streams(self) -> AsyncIterator[WebTransportReceiveStream]:
        """As ``incoming_streams``, but only unidirectional streams."""
        return IncomingStreams(self, bidirectional=False, unidirectional=True)

    serve_streams = serving_streams.serve_streams

    async def create_structured_stream(
        self,
        serializer: Serializer,
        registry: Mapping[int, type[_MessageT]],
        timeout: float | None = None,
        *,
        max_message_size: int = DEFAULT_MAX_MESSAGE_SIZE,
    ) -> StructuredStream[_MessageT]:
        """Open a bidirectional stream for messages; the peer wraps it in a ``StructuredStream``.

        Args:
            serializer: Turns the objects into bytes and back.
            registry: The class of each type ID, 0 to 65535; the same at both ends.
            timeout: As for ``create_bidirectional_stream``.
            max_message_size: The largest payload of a message in bytes, in both directions.

        Raises:
            ConfigurationError: The registry or the limit is out of range; no stream was opened.
            Otherwise as ``create_bidirectional_stream``.

        Cancellation: safe; no stream is opened.
        """
        check_message_size(max_message_size)
        MessageCodec(serializer, registry)
        stream = await self.create_bidirectional_stream(timeout=timeout)
        return StructuredStream(stream, serializer, registry, max_message_size=max_message_size)

    async def create_structured_datagram_transport(
        self, serializer: Serializer, registry: Mapping[int, type[_MessageT]]
    ) -> StructuredDatagramTransport[_MessageT]:
        """Send and receive messages in the datagrams of the session.

        Args:
            serializer: Turns the objects into bytes and back.
            registry: The class of each type ID, 0 to 65535; the same at both ends.

        Raises:
            ConfigurationError: The registry is out of range.

        Cancellation: never waits.
        """
        return StructuredDatagramTransport(self.datagrams, serializer, registry)

    def export_keying_material(
        self, label: str | bytes, context: bytes = b"", length: int = 32
    ) -> bytes:
        """Return keying material for this session (TLS exporter, draft section 4.8).

        Both ends get the same bytes for the same arguments.

        Args:
            label: A label of your application, at most 255 bytes.
            context: At most 255 bytes.
            length: How many bytes to return, 1 to 8160.

        Raises:
            ConfigurationError: An argument is out of range.
            SessionError: The session is not open, or its transport is WebSocket.
        """
        label = bytes(check_data("label", label))
        context = bytes(check_data("context", context))
        check_integer("length", length, 1, _MAX_EXPORT)
        if not self.is_ready:
            raise self.closed_error("no keying material")
        return self._h3.export_keying_material(label, context, length)

    # ------------------------------------------------------------- observability

    async def get_session_stats(self) -> dict[str, Any]:
        """Return the session's statistics as a dictionary; see ``SessionStats``."""
        return diagnostics.refresh(self).to_dict()

    async def get_summary(self) -> dict[str, Any]:
        """Return key statistics, grouped."""
        return diagnostics.summary(self)

    async def debug_state(self) -> dict[str, Any]:
        """Return a snapshot of the whole session, for logs and bug reports."""
        return diagnostics.debug_state(self)

    async def diagnose_issues(self) -> list[str]:
        """Return a sentence for each problem that the statistics show; empty if there is none."""
        return await diagnostics.issues(self)

    async def monitor_health(self, *, check_interval: float = 60.0) -> None:
        """Log a warning whenever ``diagnose_issues`` finds something, until the session ends.

        Args:
            check_interval: Seconds between checks.

        Cancellation: safe; cancel it to stop early.
        """
        await diagnostics.monitor_health(self, check_seconds("check_interval", check_interval))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._session_id} path={self.path!r} state={self._state}>"

    # ------------------------------------------------- called by the h3 layer

    def session_established(self) -> None:
        """Client: the server accepted (deliver phase)."""
        self._become_ready()

    def session_rejected(
        self, status: int | None, headers: Mapping[str, str], error: Exception | None
    ) -> None:
        """Client: the server refused, or there was no usable answer (deliver phase)."""
        error = refusal(self, status, headers, error)
        self._end(None, str(error), True, error)

    def streams_available(self, unidirectional: bool) -> None:
        """The peer allows more streams (deliver phase)."""
        credit_grew(self, unidirectional)

    def datagrams_received(self, datagrams: list[bytes]) -> None:
        """Datagrams that did not go straight to their queue (deliver phase)."""
        transport = self.datagrams
        self._h3.route_datagrams(transport._received)
        transport._received(datagrams)

    def datagram_writable(self) -> None:
        """The outgoing queue has room (deliver phase)."""
        if self._datagrams is not None:
            self._datagrams._writable()

    def session_draining(self) -> None:
        """The peer will end the session soon (deliver phase)."""
        if self._state is SessionState.CONNECTED:
            self._state = SessionState.DRAINING
            if self._draining_waiters is not None:
                self._draining_waiters.wake()
            story.drain_requested(self)
        if self.on_drain is not None:
            self.on_drain()
        self._emit_nowait(EventType.SESSION_DRAINING, {"session_id": self._session_id})

    def credit_updated(self, kind: str, limit: int) -> None:
        """The peer raised a session limit (deliver phase)."""
        event = {
            "data": EventType.SESSION_MAX_DATA_UPDATED,
            "streams_bidi": EventType.SESSION_MAX_STREAMS_BIDI_UPDATED,
            "streams_uni": EventType.SESSION_MAX_STREAMS_UNI_UPDATED,
        }[kind]
        if self._has_listeners(event):
            self._emit_nowait(event, {"session_id": self._session_id, "limit": limit})

    def capsule_received(self, capsule_type: int, value: bytes) -> None:
        """A known capsule arrived and was handled (deliver phase)."""
        if self._has_listeners(EventType.CAPSULE_RECEIVED):
            self._emit_nowait(
                EventType.CAPSULE_RECEIVED,
                {"session_id": self._session_id, "type": capsule_type, "value": value},
            )

    def session_closed(
        self, code: int | None, reason: str, remote: bool, error: Exception | None
    ) -> None:
        """The session is over (deliver phase)."""
        if self._ended_early is not None:
            self._ended_early.append((code, reason, remote, error))
            return
        self._end(code, reason, remote, error)
        if remote:
            self._connection._shut_if_unused()

    # ------------------------------------------------------------------ internal

    def close_nowait(self, code: int = 0, reason: str = "") -> None:
        """Advanced: end the session without waiting; afterwards it is CLOSED in any case.

        The peer gets the code and the reason, but streams that it has not acknowledged yet
        are reset.

        Args:
            code: As for ``close``, but not checked.
            reason: As for ``close``, but not checked.
        """
        self._tell_end()
        if self._state is not SessionState.CLOSED:
            try:
                self._h3.close(code, reason)
            finally:
                self._end(code, reason, False, None)

    def _become_ready(self) -> None:
        # The peer may ask this end to drain before it answers.
        self._state = SessionState.DRAINING if self._h3.draining else SessionState.CONNECTED
        self._stats.ready_at = get_timestamp()
        story.ready(self)
        if self.on_ready is not None:
            self.on_ready()
        self._ready_waiters.wake()
        if self._draining_waiters is not None and self._state is SessionState.DRAINING:
            self._draining_waiters.wake()
        if self._h3.is_client:
            # Callers that wait for the session get it as it was accepted: an end that came in
            # the same turn is reported in the next one.
            self._ended_early = []
            self._loop.call_soon(self._tell_end)
        if self._emitter is not None:
            self._emit_nowait(EventType.SESSION_READY, {"session_id": self._session_id})

    def _tell_end(self) -> None:
        """Report an end that was left to a later turn.

        It came with the session, before the caller of ``connect`` had it, or the connection is
        lost.
        """
        early, self._ended_early = self._ended_early, None
        for one in early or ():
            self.session_closed(*one)
        self._h3.tell_loss()

    _end = ending.end

    def _tell_closed(self, facts: dict[str, Any]) -> None:
        self._emit_nowait(EventType.SESSION_CLOSED, facts)

    def closed_error(self, consequence: str) -> SessionClosedError:
        """Advanced: create the error for a call that the end of the session made impossible.

        Args:
            consequence: What is impossible now, such as ``no stream can be opened``.
        """
        return ending.closed_error(self, consequence)

    _bidirectional_type = WebTransportStream
    _receive_type = WebTransportReceiveStream
    _send_type = WebTransportSendStream
    _failure = ending.failure
    _open_stream = opening.open_now
    _stream_freed = opening.stream_freed
    get_stream = orphans.get_stream
    open_streams = orphans.open_streams

    def _adopt(self, stream: _StreamBase) -> None:
        """The application dropped a stream that has not ended (in any thread, at any time)."""
        (self._orphans or self._make_orphans()).adopt(stream)

    def _make_orphans(self) -> orphans.Orphans:
        self._orphans = orphans.Orphans(self, self._loop)
        return self._orphans

    def _tell_opened(self, stream: _AnyStream, remote: bool) -> None:
        if self._has_listeners(EventType.STREAM_OPENED):
            self._emit_nowait(
                EventType.STREAM_OPENED,
                {"stream_id": stream.stream_id, "stream": stream, "remote": remote},
            )

    def _tell_stream_closed(self, stream: _AnyStream) -> None:
        if self._has_listeners(EventType.STREAM_CLOSED):
            self._emit_nowait(EventType.STREAM_CLOSED, {"stream_id": stream.stream_id})

    async def _open_other(
        self, unidirectional: bool, timeout: float | None, send_order: int
    ) -> _AnyStream:
        """Open a stream with arguments that are seldom given, or wait for a limit."""
        if timeout is not None:
            check_timeout("timeout", timeout)
        if send_order != 0:
            check_send_order(send_order)
        quic = self._open_stream(unidirectional) or await open_stream(self, unidirectional, timeout)
        stream: WebTransportStream | WebTransportSendStream = self._add_stream(quic)
        if send_order:
            stream.send_order = send_order
        if self._emitter is not None:
            self._tell_opened(stream, False)
        return stream

    _code_to_wire = ending.stream_code_to_wire

    def _code_from_wire(self, wire: int | None) -> int | None:
        return self._h3.code_from_wire(wire)

    def flush_nowait(self) -> None:
        """Send what is queued now instead of at the end of the turn of the event loop."""
        self._connection.flush_nowait()


WebTransportConnection._session_type = WebTransportSession
