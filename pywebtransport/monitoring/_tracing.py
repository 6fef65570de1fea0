"""OpenTelemetry spans of sessions and of RPC calls."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from .._header_map import HeaderMap
from .._states import URL, EventType, Headers, SessionCloseInfo
from ..client import ReconnectingClient, WebTransportClient
from ..events import Event
from ..exceptions import SessionRejectedError, WebTransportError
from ..session import WebTransportSession
from ..utils._checks import check_instance
from ..utils._extras import require
from ..utils._urls import parse_webtransport_url

if TYPE_CHECKING:
    from opentelemetry.trace import Span, TracerProvider

    from ..config import ClientConfig
    from ..rpc import RpcCall
    from ..rpc._call import Proceed

__all__ = ["Tracing"]

_EXTRA = "opentelemetry"


class Tracing:
    """Spans for sessions and RPC calls; the context is sent to the other side.

    ::

        tracing = Tracing()
        app.add_middleware(tracing.middleware)                      # server
        session = await tracing.connect(client, "https://...")      # client
        rpc = RpcManager(session=session, interceptors=[tracing.rpc])  # both
        pool = PooledClient(config, connect=tracing.connect)
        client = tracing.reconnecting_client("https://...", config=config)
        rpc = ReconnectingRpc(client, interceptors=[tracing.rpc], around=tracing.calls)

    The span of a session lasts from its request to its end. The context is sent in header fields of
    the request and in the metadata of a call, in the format of the propagator that your program has
    set (by default W3C Trace Context).
    """

    def __init__(self, *, tracer_provider: TracerProvider | None = None) -> None:
        """Create spans with this tracer provider, or with that of the program.

        Args:
            tracer_provider: Default: the one that ``opentelemetry.trace`` was set up with.

        Raises:
            ConfigurationError: opentelemetry-api is not installed.
        """
        self._trace = require("opentelemetry.trace", extra=_EXTRA)
        self._context = require("opentelemetry.context", extra=_EXTRA)
        self._propagate = require("opentelemetry.propagate", extra=_EXTRA)
        self._tracer = self._trace.get_tracer("pywebtransport", tracer_provider=tracer_provider)

    async def middleware(self, session: WebTransportSession) -> bool:
        """Server middleware: a span per session, which is current in its handler.

        Add it first, so that the span covers the other middleware. The span of a rejected request
        has the status.

        Returns:
            True: it lets every session through.
        """
        parent = self._propagate.extract(session.headers)
        span = self._tracer.start_span(
            f"WebTransport {session.path.partition('?')[0]}",
            context=parent,
            kind=self._trace.SpanKind.SERVER,
            attributes=_session_attributes(session),
        )
        self._end_with(session, span)
        # The handler runs in the task of the middleware, and the context ends with it.
        self._context.attach(self._trace.set_span_in_context(span, parent))
        return True

    async def connect(
        self,
        client: WebTransportClient,
        url: URL,
        *,
        timeout: float | None = None,
        headers: Headers | None = None,
    ) -> WebTransportSession:
        """As ``client.connect``, in a span that ends with the session.

        Args:
            client: The client.
            url: The URL to connect to.
            timeout: Seconds; default ``config.connect_timeout``.
            headers: Extra request fields; those of the propagator are added.

        Returns:
            The ready session.

        Raises: as ``client.connect``; the span has the error.

        Cancellation: safe; the span ends.
        """
        return await self._connect_within(client, url, timeout=timeout, headers=headers)

    def reconnecting_client(
        self,
        url: URL,
        *,
        config: ClientConfig,
        on_session: Callable[[WebTransportSession], Awaitable[None]] | None = None,
    ) -> ReconnectingClient:
        """Create a ``ReconnectingClient`` whose attempts have spans.

        From the first attempt until there is a session or the client gives up, there is one span,
        ``connect``, with the number of attempts. Each attempt is a child of it: the span of a
        session, as of :meth:`connect`.

        Args:
            url: As for ``ReconnectingClient``, and so the others.
            config: Configuration of the client below.
            on_session: Called with each new session.

        Raises:
            ConfigurationError: As for ``ReconnectingClient``.
        """
        connects = _Connects(self)
        client = ReconnectingClient(url, config=config, on_session=on_session, connect=connects)
        client.add_watcher(EventType.CONNECTION_ESTABLISHED, connects.established)
        client.add_watcher(EventType.CONNECTION_FAILED, connects.failed)
        client.add_watcher(EventType.CONNECTION_CLOSED, connects.closed)
        return client

    async def _connect_within(
        self,
        client: WebTransportClient,
        url: URL,
        *,
        timeout: float | None = None,
        headers: Headers | None = None,
        parent: Span | None = None,
        attempt: int | None = None,
    ) -> WebTransportSession:
        """``connect``, as a child of a span; None: the current one."""
        check_instance("client", client, WebTransportClient)
        host, port, path = parse_webtransport_url(url=url)
        full = url.partition("?")[0]  # queries carry tokens: browsers can send no header
        span = self._tracer.start_span(
            f"WebTransport {path.partition('?')[0]}",
            context=None if parent is None else self._trace.set_span_in_context(parent),
            kind=self._trace.SpanKind.CLIENT,
            attributes={"server.address": host, "server.port": port, "url.full": full},
        )
        if attempt is not None:
            span.set_attribute("webtransport.attempt", attempt)
        fields = headers.copy() if isinstance(headers, HeaderMap) else dict(headers or {})
        self._propagate.inject(fields, context=self._trace.set_span_in_context(span))
        try:
            session = await client.connect(url, timeout=timeout, headers=fields)
        except BaseException as error:
            if isinstance(error, SessionRejectedError):
                span.set_attribute("http.response.status_code", error.status_code)
            self._fail(span, error)
            span.end()
            raise
        span.set_attributes(_session_attributes(session))
        self._end_with(session, span)
        return session

    async def rpc(self, call: RpcCall, proceed: Proceed) -> Any:
        """RPC interceptor: a span per call, on either side.

        Args:
            call: The call; an outgoing one gets the context in its metadata.
            proceed: Continues the call.

        Returns:
            The result of the call.

        Raises: what the call raises; the span has the error.

        Cancellation: safe; the span ends.
        """
        outgoing = call.direction == "outgoing"
        with self._tracer.start_as_current_span(
            f"RPC {call.method}",
            context=None if outgoing else self._propagate.extract(call.metadata),
            kind=self._trace.SpanKind.CLIENT if outgoing else self._trace.SpanKind.SERVER,
            attributes={"rpc.system": "pywebtransport", "rpc.method": call.method},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            if call.attempt > 1:
                span.set_attribute("webtransport.attempt", call.attempt)
            if outgoing:
                self._propagate.inject(call.metadata)
            try:
                return await proceed()
            except BaseException as error:
                self._fail(span, error)
                raise

    async def calls(self, method: str, proceed: Proceed) -> Any:
        """For ``around`` of a ``ReconnectingRpc``: a span that has the attempts as children.

        ::

            ReconnectingRpc(client, interceptors=[tracing.rpc], around=tracing.calls)

        Args:
            method: The name of the method.
            proceed: Continues the call.

        Returns:
            The result of the call.

        Raises: what the call raises; the span has the error.

        Cancellation: safe; the span ends.
        """
        with self._tracer.start_as_current_span(
            f"RPC {method}",
            attributes={"rpc.system": "pywebtransport", "rpc.method": method},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                return await proceed()
            except BaseException as error:
                self._fail(span, error)
                raise

    # ------------------------------------------------------------------ internal

    def _fail(self, span: Span, error: BaseException) -> None:
        span.record_exception(error)
        span.set_attribute("error.type", type(error).__name__)
        code = getattr(error, "error_code", None) if isinstance(error, WebTransportError) else None
        if code is not None:
            span.set_attribute("webtransport.error_code", code)
        span.set_status(self._trace.StatusCode.ERROR, str(error))

    def _end_with(self, session: WebTransportSession, span: Span) -> None:
        """End the span when the session does."""

        def ended(event: Event) -> None:
            self._finish(span, session.close_info)

        if session.is_closed:
            self._finish(span, session.close_info)
        else:
            session.add_watcher(EventType.SESSION_CLOSED, ended)

    def _finish(self, span: Span, info: SessionCloseInfo | None) -> None:
        if info is not None:
            span.set_attribute("webtransport.close.remote", info.remote)
            if info.code is not None:
                span.set_attribute("webtransport.close.code", info.code)
            if info.reason:
                span.set_attribute("webtransport.close.reason", info.reason)
            if info.code is None:
                # It was rejected, reset, or the connection was lost.
                span.set_status(self._trace.StatusCode.ERROR, info.reason)
        span.end()


class _Connects:
    """Opens the sessions of a reconnecting client, in spans."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing
        self._span: Span | None = None
        self._attempts = 0

    async def __call__(self, client: WebTransportClient, url: URL) -> WebTransportSession:
        if self._span is None:
            self._attempts = 0
            host, port, _ = parse_webtransport_url(url=url)
            self._span = self._tracing._tracer.start_span(
                "connect", attributes={"server.address": host, "server.port": port}
            )
        self._attempts += 1
        return await self._tracing._connect_within(
            client, url, parent=self._span, attempt=self._attempts
        )

    def established(self, event: Event) -> None:
        self._end(None)

    def failed(self, event: Event) -> None:
        if event.data["delay"] is None:  # there is no further attempt
            self._end(event.data["error"])

    def closed(self, event: Event) -> None:
        self._end(None)

    def _end(self, error: Exception | None) -> None:
        span, self._span = self._span, None
        if span is not None:
            span.set_attribute("webtransport.attempts", self._attempts)
            if error is not None:
                self._tracing._fail(span, error)
            span.end()


def _session_attributes(session: WebTransportSession) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "network.protocol.name": "webtransport",
        "webtransport.session.id": session.session_id,
        "url.path": session.path.partition("?")[0],
    }
    connection = session.connection
    if connection is not None and connection.dialect is not None:
        attributes["webtransport.draft"] = connection.dialect
    remote = session.remote_address
    if remote is not None:
        attributes["network.peer.address"], attributes["network.peer.port"] = remote
    if session.application_protocol:
        attributes["webtransport.application_protocol"] = session.application_protocol
    return attributes
