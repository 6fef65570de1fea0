"""OpenTelemetry spans: of sessions at both ends, in one trace, and of failures."""

from __future__ import annotations

import asyncio
import sys

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from pywebtransport import ConfigurationError, WebTransportClient, WebTransportSession
from pywebtransport.exceptions import SessionRejectedError
from pywebtransport.monitoring import Tracing
from pywebtransport.rpc import RpcError, RpcManager
from tests.support.endpoints import ClientFactory, Serving
from tests.support.leaks import ExpectedLogs
from tests.support.steps import until


class Recorder:
    """A tracing whose ended spans can be looked at."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self._provider = TracerProvider()
        self._provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracing = Tracing(tracer_provider=self._provider)

    @property
    def spans(self) -> dict[SpanKind, ReadableSpan]:
        """The ended spans, one per kind."""
        return {span.kind: span for span in self._exporter.get_finished_spans()}

    async def ended(self, count: int) -> dict[SpanKind, ReadableSpan]:
        await until(lambda: len(self._exporter.get_finished_spans()) == count)
        return self.spans


async def test_both_ends_of_a_session_are_in_one_trace(
    serving: Serving, client_config: ClientFactory
) -> None:
    recorder = Recorder()
    seen: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def handler(session: WebTransportSession) -> None:
        seen.set_result(trace.get_current_span().get_span_context().span_id)

    async with serving(handler) as served, WebTransportClient(config=client_config()) as client:
        served.app.add_middleware(recorder.tracing.middleware)
        session = await recorder.tracing.connect(
            client, served.url("/chat?room=1"), headers={"x-a": "b"}
        )
        assert session.is_ready
        current = await seen
        assert recorder.spans == {}
        await session.close(code=7, reason="bye")
        spans = await recorder.ended(2)
    near, far = spans[SpanKind.CLIENT], spans[SpanKind.SERVER]
    assert near.name == far.name == "WebTransport /chat"
    assert near.context is not None
    assert far.context is not None
    assert far.parent is not None
    assert far.parent.span_id == near.context.span_id
    assert far.context.trace_id == near.context.trace_id
    assert far.context.span_id == current
    for span, remote in ((near, False), (far, True)):
        assert span.attributes is not None
        assert span.attributes["webtransport.close.code"] == 7
        assert span.attributes["webtransport.close.reason"] == "bye"
        assert span.attributes["webtransport.close.remote"] is remote
        assert span.attributes["url.path"] == "/chat"
        assert span.attributes["webtransport.draft"] in (2, 7, 14, 16)
        assert span.status.status_code is StatusCode.UNSET
    assert near.attributes is not None
    assert near.attributes["server.port"] == served.port
    assert near.attributes["url.full"] == served.url("/chat")  # the query may be a secret


async def test_rejected_session(serving: Serving, client_config: ClientFactory) -> None:
    recorder = Recorder()

    async def deny(session: WebTransportSession) -> bool:
        return False

    async with serving(None) as served, WebTransportClient(config=client_config()) as client:
        served.app.add_middleware(recorder.tracing.middleware)
        served.app.add_middleware(deny)
        with pytest.raises(SessionRejectedError):
            await recorder.tracing.connect(client, served.url())
        spans = await recorder.ended(2)
    near, far = spans[SpanKind.CLIENT], spans[SpanKind.SERVER]
    assert near.status.status_code is far.status.status_code is StatusCode.ERROR
    assert near.attributes is not None
    assert near.attributes["http.response.status_code"] == 403
    assert near.attributes["error.type"] == "SessionRejectedError"
    assert "403" in str(far.status.description)


async def test_lost_connection_is_an_error(serving: Serving, client_config: ClientFactory) -> None:
    recorder = Recorder()
    async with serving(None) as served, WebTransportClient(config=client_config()) as client:
        session = await recorder.tracing.connect(client, served.url())
        assert session.connection is not None
        assert session.connection._driver is not None
        session.connection._driver.quic.close(1)
        spans = await recorder.ended(1)
        await until(lambda: not served.server.connections)
    assert spans[SpanKind.CLIENT].status.status_code is StatusCode.ERROR


async def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", None)
    with pytest.raises(ConfigurationError, match=r"pywebtransport\[opentelemetry\]"):
        Tracing()


async def test_calls_are_in_the_trace_of_the_caller(
    serving: Serving, client_config: ClientFactory, expected_logs: ExpectedLogs
) -> None:
    expected_logs("handler of 'fail' raised")
    recorder = Recorder()
    current: list[int] = []

    async def double(number: int) -> int:
        current.append(trace.get_current_span().get_span_context().span_id)
        return 2 * number

    async def fail() -> None:
        raise RuntimeError("on purpose")

    async def serve(session: WebTransportSession) -> None:
        async with RpcManager(session, interceptors=[recorder.tracing.rpc]) as rpc:
            rpc.register(double)
            rpc.register(fail)
            await session.wait_closed()

    async with serving(serve) as served, WebTransportClient(config=client_config()) as client:
        session = await client.connect(served.url())
        async with RpcManager(session, interceptors=[recorder.tracing.rpc]) as rpc:
            assert await rpc.call("double", 21) == 42
            spans = await recorder.ended(2)
            near, far = spans[SpanKind.CLIENT], spans[SpanKind.SERVER]
            assert near.name == far.name == "RPC double"
            assert near.context is not None
            assert far.context is not None
            assert far.parent is not None
            assert far.parent.span_id == near.context.span_id
            assert current == [far.context.span_id]
            with pytest.raises(RpcError):
                await rpc.call("fail")
            spans = await recorder.ended(4)
            near, far = spans[SpanKind.CLIENT], spans[SpanKind.SERVER]
            assert near.status.status_code is far.status.status_code is StatusCode.ERROR
            assert far.attributes is not None
            assert far.attributes["error.type"] == "RuntimeError"
