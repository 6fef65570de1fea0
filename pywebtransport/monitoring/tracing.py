"""OpenTelemetry spans of sessions and of RPC calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._header_map import HeaderMap
from .._states import URL, EventType, Headers, SessionCloseInfo
from ..client import WebTransportClient
from ..events import Event
from ..exceptions import SessionRejectedError, WebTransportError
from ..session import WebTransportSession
from ..utils.checks import check_instance
from ..utils.extras import require
from ..utils.urls import parse_webtransport_url

if TYPE_CHECKING:
    from opentelemetry.trace import Span, TracerProvider

    from ..rpc import RpcCall
    from ..rpc.call import Proceed

__all__ = ["Tracing"]

_EXTRA = "opentelemetry"


class Tracing:
    """Spans for sessions and RPC calls, with the context carried to the other side.

    ::

        tracing = Tracing()
        app.add_middleware(tracing.middleware)                      # server
        session = await tracing.connect(client, "https://...")      # client
        rpc = RpcManager(session=session, interceptors=[tracing.rpc])  # both

    A session's span lasts from the request to the end of the session. The
    context travels in the request's header fields and in the metadata of a call,
    in the format of the propagator that the program has set (by default W3C
    Trace Context).
    """

    def __init__(self, *, tracer_provider: TracerProvider | None = None) -> None:
        """Spans by the tracer provider given, or by the program's own.

        Args:
            tracer_provider: Default: what ``opentelemetry.trace`` was set up with.

        Raises:
            ConfigurationError: opentelemetry-api is not installed.
        """
        self._trace = require("opentelemetry.trace", extra=_EXTRA)
        self._context = require("opentelemetry.context", extra=_EXTRA)
        self._propagate = require("opentelemetry.propagate", extra=_EXTRA)
        self._tracer = self._trace.get_tracer("pywebtransport", tracer_provider=tracer_provider)

    async def middleware(self, session: WebTransportSession) -> bool:
        """Server middleware: a span per session, the current one of its handler.

        Add it first, so that the span covers the other middleware; a request
        that these reject has a span with the status.

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
            client: What connects.
            url: Where to.
            timeout: Seconds; default ``config.connect_timeout``.
            headers: Extra request fields; those of the propagator are added.

        Returns:
            The ready session.

        Raises: as ``client.connect``; the span has the error.

        Cancellation: safe; the span ends.
        """
        check_instance("client", client, WebTransportClient)
        host, port, path = parse_webtransport_url(url=url)
        full = url.partition("?")[0]  # queries carry tokens: browsers can send no header
        span = self._tracer.start_span(
            f"WebTransport {path.partition('?')[0]}",
            kind=self._trace.SpanKind.CLIENT,
            attributes={"server.address": host, "server.port": port, "url.full": full},
        )
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
            proceed: Goes on with it.

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
            if outgoing:
                self._propagate.inject(call.metadata)
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
