"""OpenTelemetry spans: of sessions at both ends, in one trace, and of failures."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from pywebtransport import ConfigurationError, WebTransportClient, WebTransportSession
from pywebtransport.client import PooledClient, ReconnectingClient
from pywebtransport.exceptions import ClientError, SessionRejectedError
from pywebtransport.monitoring import Tracing
from pywebtransport.rpc import ReconnectingRpc, RpcError, RpcManager
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
    def tracer(self) -> trace.Tracer:
        """For spans of the test itself."""
        return self._provider.get_tracer("test")

    @property
    def all(self) -> tuple[ReadableSpan, ...]:
        """The ended spans."""
        return self._exporter.get_finished_spans()

    def clear(self) -> None:
        self._exporter.clear()

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
    with pytest.raises(ConfigurationError, match=r"pip install .opentelemetry-api>=1\.25"):
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


# ------------------------------------------------------ pooled and reconnecting clients


def tree(spans: tuple[ReadableSpan, ...]) -> list[str]:
    """The ended spans as indented lines, each below its parent, in the order of their start."""
    names = []
    ids = {span.context.span_id for span in spans if span.context is not None}

    def add(parent: int | None, depth: int) -> None:
        for span in sorted(spans, key=lambda span: span.start_time or 0):
            own = None if span.parent is None else span.parent.span_id
            if (own if own in ids else None) == parent and span.context is not None:
                words = [span.kind.name, span.name]
                for name in ("webtransport.attempt", "webtransport.attempts"):
                    if name in (span.attributes or {}):
                        words.append(str((span.attributes or {})[name]))
                if span.status.status_code is StatusCode.ERROR:
                    words.append("failed")
                names.append("  " * depth + " ".join(words))
                add(span.context.span_id, depth + 1)

    add(None, 0)
    return names


class Backend:
    """A method that waits, at a server that traces."""

    def __init__(self, tracing: Tracing) -> None:
        self.tracing = tracing
        self.sessions: list[WebTransportSession] = []
        self.started = 0
        self.go_on = asyncio.Event()

    async def __call__(self, session: WebTransportSession) -> None:
        self.sessions.append(session)
        rpc = RpcManager(session, interceptors=[self.tracing.rpc])
        rpc.register(self.wait)
        rpc.register(self.numbers)
        await rpc.serve()

    async def wait(self) -> int:
        self.started += 1
        await self.go_on.wait()
        return 5

    async def numbers(self) -> AsyncIterator[int]:
        yield 1
        yield 2


async def test_attempts_of_a_reconnecting_client_are_one_tree(
    serving: Serving, client_config: ClientFactory
) -> None:
    recorder = Recorder()
    near = recorder.tracing
    backend = Backend(near)
    config = client_config(retry_delay=0.01, max_retry_delay=0.01, connect_timeout=5.0)
    async with serving(backend) as served:
        refusals = 2

        async def refuse_some(session: WebTransportSession) -> bool:
            nonlocal refusals
            refusals -= 1
            if refusals >= 0:
                raise SessionRejectedError(status_code=503)
            return True

        served.app.add_middleware(near.middleware)
        served.app.add_middleware(refuse_some)
        async with near.reconnecting_client(served.url(), config=config) as client:
            assert await client.get_session() is not None
            await client.close()
            await until(lambda: all(session.is_closed for session in backend.sessions))
        await until(lambda: len(recorder.all) == 7)
    assert tree(recorder.all) == [
        "INTERNAL connect 3",
        "  CLIENT WebTransport / 1 failed",
        "    SERVER WebTransport / failed",
        "  CLIENT WebTransport / 2 failed",
        "    SERVER WebTransport / failed",
        "  CLIENT WebTransport / 3",
        "    SERVER WebTransport /",
    ]


async def test_a_client_that_gives_up_ends_its_span(
    serving: Serving, client_config: ClientFactory
) -> None:
    recorder = Recorder()
    config = client_config(retry_delay=0.01, max_retry_delay=0.01, max_retries=1)
    async with serving({"/other": Backend(recorder.tracing)}) as served:
        tracing = recorder.tracing
        async with tracing.reconnecting_client(served.url("/none"), config=config) as client:
            with pytest.raises(ClientError, match="gave up"):
                await client.get_session()
            await until(lambda: len(recorder.all) == 2)
    assert tree(recorder.all) == [
        "INTERNAL connect 1 failed",
        "  CLIENT WebTransport /none 1 failed",
    ]


async def test_attempts_of_a_call_are_one_tree(
    serving: Serving, client_config: ClientFactory
) -> None:
    recorder = Recorder()
    tracing = recorder.tracing
    backend = Backend(tracing)
    config = client_config(retry_delay=0.01, max_retry_delay=0.01, connect_timeout=5.0)
    async with (
        serving(backend) as served,
        ReconnectingClient(served.url(), config=config) as client,
        ReconnectingRpc(
            client, idempotent=["wait"], interceptors=[tracing.rpc], around=tracing.calls
        ) as rpc,
    ):
        task = asyncio.create_task(rpc.call("wait"))
        await until(lambda: backend.started == 1)
        await backend.sessions[-1].close(code=3)
        await until(lambda: backend.started == 2)
        backend.go_on.set()
        assert await task == 5
        await until(lambda: len(recorder.all) == 5)
        assert tree(recorder.all) == [
            "INTERNAL RPC wait",
            "  CLIENT RPC wait failed",
            "    SERVER RPC wait failed",
            "  CLIENT RPC wait 2",
            "    SERVER RPC wait",
        ]
        recorder.clear()
        assert [item async for item in rpc.stream("numbers")] == [1, 2]
        async for _ in rpc.stream("numbers"):
            break  # leaving the loop is no error
        await until(lambda: len(recorder.all) == 6)
        assert [line.removesuffix(" failed") for line in tree(recorder.all)] == [
            "INTERNAL RPC numbers",
            "  CLIENT RPC numbers",
            "    SERVER RPC numbers",
        ] * 2
        failed = [line for line in tree(recorder.all) if line.endswith("failed")]
        assert [line for line in failed if "SERVER" not in line] == []


async def test_a_pooled_client_passes_the_context_of_its_borrower(
    serving: Serving, client_config: ClientFactory
) -> None:
    recorder = Recorder()
    tracing = recorder.tracing
    backend = Backend(tracing)
    backend.go_on.set()
    async with (
        serving(backend) as served,
        PooledClient.create(client_config(), connect=tracing.connect) as pool,
    ):
        served.app.add_middleware(tracing.middleware)
        with recorder.tracer.start_as_current_span("request"):
            for _ in range(2):
                async with (
                    pool.session(served.url()) as session,
                    RpcManager(session, interceptors=[tracing.rpc]) as rpc,
                ):
                    assert await rpc.call("wait") == 5
        await pool.close()
        await until(lambda: len(recorder.all) == 7)
    assert tree(recorder.all) == [
        "INTERNAL request",
        "  CLIENT WebTransport /",
        "    SERVER WebTransport /",
        "  CLIENT RPC wait",
        "    SERVER RPC wait",
        "  CLIENT RPC wait",
        "    SERVER RPC wait",
    ]
