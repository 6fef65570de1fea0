"""Remote calls over a client that reconnects: real servers, and sessions that are lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from pywebtransport import ClientConfig
from pywebtransport.client import PooledClient, ReconnectingClient
from pywebtransport.exceptions import ClientError, ConfigurationError, SessionClosedError
from pywebtransport.rpc import (
    MethodNotFoundError,
    Proceed,
    ReconnectingRpc,
    RpcCall,
    RpcCancelledError,
    RpcConnectionLostError,
    RpcError,
    RpcErrorCode,
    RpcManager,
    RpcState,
    RpcTimeoutError,
)
from pywebtransport.session import WebTransportSession
from tests.support.endpoints import ClientFactory, Serving, network
from tests.support.steps import cancelled_at, until

pytestmark = pytest.mark.loops("virtual")


class Backend:
    """The methods of a server, which outlives its sessions."""

    def __init__(self) -> None:
        self.managers: list[RpcManager] = []
        self.started = 0
        self.ended = 0
        self.go_on = asyncio.Event()

    async def __call__(self, session: WebTransportSession) -> None:
        manager = RpcManager(session)
        manager.register(self.wait)
        manager.register(self.numbers)
        manager.register(self.fail)
        manager.register(lambda number: len(self.managers) * 100 + number, name="add")
        self.managers.append(manager)
        await manager.serve()

    async def wait(self, value: int) -> int:
        self.started += 1
        try:
            await self.go_on.wait()
        finally:
            self.ended += 1
        return value

    async def numbers(self, first: int = 0, wait: bool = False) -> AsyncIterator[int]:
        self.started += 1
        try:
            if wait:
                await self.go_on.wait()
            for number in range(first, first + 3):
                yield number
                if number == first + 1:
                    await self.go_on.wait()
        finally:
            self.ended += 1

    def fail(self) -> None:
        raise RpcError("not for you", error_code=9)

    @property
    def session(self) -> WebTransportSession:
        """That of the newest manager."""
        return self.managers[-1].session


Connected = Callable[..., AbstractAsyncContextManager[tuple[ReconnectingRpc, Backend]]]


def quick(client_config: ClientFactory, **fields: Any) -> ClientConfig:
    """Short pauses, and many of them."""
    defaults = {"retry_delay": 0.01, "max_retry_delay": 0.02, "max_retries": 10_000}
    return client_config(**(defaults | fields))


@pytest.fixture
def connected(serving: Serving, client_config: ClientFactory) -> Connected:
    """``async with connected(idempotent=...) as (rpc, backend)``."""

    @asynccontextmanager
    async def make(
        fields: dict[str, Any] | None = None, **settings: Any
    ) -> AsyncIterator[tuple[ReconnectingRpc, Backend]]:
        backend = Backend()
        async with (
            serving(backend) as served,
            ReconnectingClient(
                served.url(), config=quick(client_config, **(fields or {}))
            ) as client,
            ReconnectingRpc(client, **settings) as rpc,
        ):
            yield rpc, backend

    return make


async def rest_of(results: AsyncIterator[Any]) -> None:
    async for _ in results:
        pass


async def test_calls_go_on_over_the_next_session(connected: Connected) -> None:
    async with connected() as (rpc, backend):
        assert rpc.state is RpcState.CONNECTING
        assert await rpc.call("add", 1) == 101
        assert rpc.state is RpcState.CONNECTED
        await rpc.notify("add", 1)
        with pytest.raises(RpcError, match="not for you"):
            await rpc.call("fail")
        with pytest.raises(MethodNotFoundError):
            await rpc.call("nowhere")
        await backend.session.close(code=3)
        await until(lambda: rpc.state is RpcState.CONNECTING)
        assert await rpc.call("add", number=2) == 202
        assert await rpc.call("add", named_params={"number": 3}, result_type=int) == 203
        stats = rpc.stats
        assert (stats.sessions, stats.calls) == (2, 6)
        assert (stats.repeated, stats.interrupted) == (0, 0)
    assert rpc.state is RpcState.CLOSED
    assert rpc.is_closed


async def test_a_call_under_way_fails_with_its_own_error(connected: Connected) -> None:
    async with connected() as (rpc, backend):
        task = asyncio.create_task(rpc.call("wait", 5))
        await until(lambda: backend.started == 1)
        await backend.session.close(code=3, reason="bye")
        with pytest.raises(RpcConnectionLostError, match="lost while the call ran") as caught:
            await task
        assert (caught.value.method, caught.value.error_code) == (
            "wait",
            RpcErrorCode.CONNECTION_LOST,
        )
        assert isinstance(caught.value.__cause__, SessionClosedError)
        await until(lambda: backend.ended == 1)
        assert (rpc.stats.interrupted, rpc.stats.repeated) == (1, 0)
        assert await rpc.call("add", 1) == 201


async def test_idempotent_calls_are_repeated(connected: Connected) -> None:
    async with connected(idempotent=["wait"]) as (rpc, backend):
        declared = asyncio.create_task(rpc.call("wait", 5))
        await until(lambda: backend.started == 1)
        await backend.session.close(code=3)
        await until(lambda: backend.started == 2)
        await backend.session.close(code=3)
        await until(lambda: backend.started == 3)
        backend.go_on.set()
        assert await declared == 5
        assert (rpc.stats.repeated, rpc.stats.sessions) == (2, 3)
        # A call can say otherwise.
        backend.go_on.clear()
        task = asyncio.create_task(rpc.call("wait", 5, idempotent=False))
        await until(lambda: backend.started == 4)
        await backend.session.close(code=3)
        with pytest.raises(RpcConnectionLostError):
            await task
    async with connected() as (rpc, backend):
        task = asyncio.create_task(rpc.call("wait", 6, idempotent=True))
        await until(lambda: backend.started == 1)
        await backend.session.close(code=3)
        await until(lambda: backend.started == 2)
        backend.go_on.set()
        assert await task == 6


async def test_what_was_not_sent_is_repeated_anyway(connected: Connected) -> None:
    """It waits for one of its calls to end when the session is lost."""
    async with connected(concurrency_limit=1) as (rpc, backend):
        first = asyncio.create_task(rpc.call("wait", 1))
        await until(lambda: backend.started == 1)
        second = asyncio.create_task(rpc.call("add", 7))
        await asyncio.sleep(0)
        await backend.session.close(code=3)
        with pytest.raises(RpcConnectionLostError):
            await first
        assert await second == 207
        assert rpc.stats.repeated == 1


@pytest.mark.parametrize("way", ["abort", "connection", "silence", "drain"])
async def test_every_kind_of_loss_is_one(connected: Connected, way: str) -> None:
    """A reset, a lost connection, a path on which nothing comes back, a server that goes away."""
    fields = {"connection_idle_timeout": 2.0, "connect_timeout": 1.0}
    async with connected(fields, idempotent=["wait"]) as (rpc, backend):
        failing = asyncio.create_task(rpc.call("wait", 1, idempotent=False))
        repeated = asyncio.create_task(rpc.call("wait", 2, timeout=59))
        results = rpc.stream("numbers", 5)
        assert await anext(results) == 5
        await until(lambda: backend.started == 3)
        path = network()
        assert path is not None
        session = backend.session
        if way == "abort":
            session.abort()
        elif way == "connection":
            assert session.connection is not None
            await session.connection.close()
        elif way == "silence":
            path.loss = 1.0
        else:
            await session.drain()
            await session.close(code=0)
        with pytest.raises(RpcConnectionLostError):
            await failing
        path.loss = 0.0
        with pytest.raises(RpcConnectionLostError, match=r"after [12] items"):
            await rest_of(results)
        await until(lambda: len(backend.managers) >= 2)
        backend.go_on.set()
        assert await repeated == 2


async def test_timeouts_cover_the_wait_for_a_session(
    serving: Serving, client_config: ClientFactory
) -> None:
    loop = asyncio.get_running_loop()
    backend = Backend()
    config = quick(client_config, connect_timeout=1.0)
    async with serving(backend) as served:
        url, port = served.url(), served.port
    async with (
        ReconnectingClient(url, config=config) as client,
        ReconnectingRpc(client, idempotent=["wait"]) as rpc,
    ):
        began = loop.time()
        with pytest.raises(RpcTimeoutError, match=r"within 2 seconds; it waited for a session"):
            await rpc.call("add", 1, timeout=2)
        assert 1.9 < loop.time() - began < 2.2
        with pytest.raises(RpcTimeoutError, match=r"within 1 seconds; it waited for a session"):
            await anext(rpc.stream("numbers", item_timeout=1))
        waiting = asyncio.create_task(rpc.call("add", 1, timeout=60))
        async with serving(backend, bind_port=port):
            assert await waiting == 101
            # All attempts together have one timeout.
            task = asyncio.create_task(rpc.call("wait", 1, timeout=3))
            await until(lambda: backend.started == 1)
            began = loop.time()
            await backend.session.close(code=3)
            with pytest.raises(RpcTimeoutError):
                await task
            assert loop.time() - began < 3.2
            assert backend.started == 2


async def test_a_draining_session_ends_its_calls_normally(connected: Connected) -> None:
    async with connected() as (rpc, backend):
        first = asyncio.create_task(rpc.call("wait", 1))
        await until(lambda: backend.started == 1)
        old = backend.session
        await old.drain()
        await until(lambda: len(backend.managers) == 2)
        assert await rpc.call("add", 1) == 201
        backend.go_on.set()
        assert await first == 1
        assert not old.is_closed
        assert rpc.stats.interrupted == 0


async def test_the_server_calls_over_each_session(connected: Connected) -> None:
    async with connected() as (rpc, backend):
        rpc.register(lambda text: text.upper(), name="upper")
        await until(lambda: len(backend.managers) == 1)
        assert await backend.managers[0].call("upper", "a") == "A"

        @rpc.register
        def lower(text: str) -> str:
            return text.lower()

        assert await backend.managers[0].call("lower", "B") == "b"
        await backend.session.close(code=3)
        # Nobody calls from this side: the next session is served anyway.
        await until(lambda: len(backend.managers) == 2)
        assert await backend.managers[1].call("upper", "b") == "B"
        assert rpc.methods == ("upper", "lower")
        with pytest.raises(ConfigurationError, match="registered already"):
            rpc.register(lower)


async def test_results_of_a_stream(connected: Connected) -> None:
    async with connected(idempotent=["numbers"]) as (rpc, backend):
        # Nothing was returned: it is repeated.
        results = rpc.stream("numbers", 5, wait=True)
        task = asyncio.create_task(anext(results))  # type: ignore[arg-type]
        await until(lambda: backend.started == 1)
        await backend.session.close(code=3)
        await until(lambda: backend.started == 2)
        backend.go_on.set()
        assert await task == 5
        assert [item async for item in results] == [6, 7]
        assert (results.items, results.is_closed, results.method) == (3, True, "numbers")
        assert (rpc.stats.repeated, rpc.stats.calls) == (1, 1)
        # Something was: the caller knows better where to go on.
        backend.go_on.clear()
        results = rpc.stream("numbers", 1, item_type=int)
        assert [await anext(results), await anext(results)] == [1, 2]
        await backend.session.close(code=3)
        with pytest.raises(RpcConnectionLostError, match="after 2 items") as caught:
            await anext(results)
        assert caught.value.details["items"] == 2
        assert [item async for item in results] == []
        # Leaving the loop ends the method.
        await until(lambda: backend.ended == 3)
        async for _ in rpc.stream("numbers", 1):
            break
        await until(lambda: backend.ended == 4)
        async with rpc.stream("numbers", 1) as results:
            assert await anext(results) == 1
        await until(lambda: backend.ended == 5)
        with pytest.raises(MethodNotFoundError):
            await anext(rpc.stream("nowhere"))


async def test_cancelled_at_every_await(connected: Connected) -> None:
    """Nothing is left at either end, and the next call works."""

    async def around(method: str, proceed: Proceed) -> Any:
        return await proceed()

    async with connected(around=around) as (rpc, backend):
        backend.go_on.set()

        async def work() -> None:
            assert await rpc.call("add", 1, timeout=20) % 100 == 1
            assert [item async for item in rpc.stream("numbers", 1)] == [1, 2, 3]
            async with rpc.stream("numbers", 1) as results:
                assert await anext(results) == 1

        for step in range(100):
            if not await cancelled_at(work, step):
                break
            assert await rpc.call("add", 2) % 100 == 2
        else:
            raise AssertionError("it did not end")
        assert step > 5
        await until(lambda: backend.ended == backend.started)
        assert len(backend.managers) == 1


async def test_giving_up_and_closing(
    serving: Serving, client_config: ClientFactory, connected: Connected
) -> None:
    async with serving(Backend()) as served:
        url = served.url()
    config = quick(client_config, max_retries=1, connect_timeout=0.5)
    async with ReconnectingClient(url, config=config) as client, ReconnectingRpc(client) as rpc:
        with pytest.raises(ClientError, match="gave up"):
            await rpc.call("add", 1)
        assert rpc.state is RpcState.FAILED
        assert client.error is not None
    async with connected() as (rpc, backend):
        running = asyncio.create_task(rpc.call("wait", 1))
        await until(lambda: backend.started == 1)
        await rpc.close()
        await rpc.close()
        with pytest.raises(RpcCancelledError):
            await running
        with pytest.raises(RpcCancelledError, match="the ReconnectingRpc was closed"):
            await rpc.call("add", 1)
        with pytest.raises(ConfigurationError, match="cannot be started again"):
            await rpc.__aenter__()
        assert rpc.client.is_connected
    async with ReconnectingClient(url, config=quick(client_config)) as client:
        rpc = ReconnectingRpc(client)
        with pytest.raises(ConfigurationError, match="not started"):
            await rpc.call("add", 1)
        async with rpc:
            waiting = asyncio.create_task(rpc.call("add", 1))
            await asyncio.sleep(0.01)
            await rpc.close()
            with pytest.raises(RpcCancelledError, match="the ReconnectingRpc was closed"):
                await waiting
    with pytest.raises(ClientError, match="closed"):
        await ReconnectingRpc(client).__aenter__()


async def test_interceptors_see_attempts_and_around_sees_calls(connected: Connected) -> None:
    seen: list[str] = []

    async def attempts(call: RpcCall, proceed: Proceed) -> Any:
        seen.append(f"attempt {call.attempt}")
        return await proceed()

    async def calls(method: str, proceed: Proceed) -> Any:
        seen.append(f"begin {method}")
        try:
            return await proceed()
        finally:
            seen.append(f"end {method}")

    settings = {"interceptors": [attempts], "around": calls, "idempotent": {"wait"}}
    async with connected(**settings) as (rpc, backend):
        task = asyncio.create_task(rpc.call("wait", 1))
        await until(lambda: backend.started == 1)
        await backend.session.close(code=3)
        await until(lambda: backend.started == 2)
        backend.go_on.set()
        assert await task == 1
        assert seen == ["begin wait", "attempt 1", "attempt 2", "end wait"]
        seen.clear()
        assert [item async for item in rpc.stream("numbers", 1)] == [1, 2, 3]
        assert seen == ["begin numbers", "attempt 1", "end numbers"]
        seen.clear()
        with pytest.raises(MethodNotFoundError):
            await anext(rpc.stream("nowhere"))
        async for _ in rpc.stream("numbers", 1):
            break
        await until(lambda: seen.count("end numbers") == 1)
        async with rpc.stream("numbers", 1):
            pass
        assert seen == [
            "begin nowhere",
            "attempt 1",
            "end nowhere",
            "begin numbers",
            "attempt 1",
            "end numbers",
        ]


async def test_around_may_refuse_a_stream(connected: Connected) -> None:
    async def refuse(method: str, proceed: Proceed) -> Any:
        if method == "silent":
            return None
        raise PermissionError("not today")

    async with connected(around=refuse) as (rpc, _):
        with pytest.raises(PermissionError, match="not today"):
            await anext(rpc.stream("numbers"))
        assert [item async for item in rpc.stream("silent")] == []
        with pytest.raises(PermissionError, match="not today"):
            await rpc.call("add", 1)


async def test_streams_are_cancelled_while_they_wait_for_a_session(
    serving: Serving, client_config: ClientFactory
) -> None:
    async def around(method: str, proceed: Proceed) -> Any:
        return await proceed()

    async with serving(Backend()) as served:
        url = served.url()
    for wrapper in (None, around):
        async with (
            ReconnectingClient(url, config=quick(client_config)) as client,
            ReconnectingRpc(client, around=wrapper) as rpc,
        ):
            results = rpc.stream("numbers")
            task = asyncio.create_task(anext(results))  # type: ignore[arg-type]
            await asyncio.sleep(0.1)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            assert results.is_closed


async def test_wrong_arguments(client_config: ClientFactory, connected: Connected) -> None:
    client = ReconnectingClient("https://localhost/", config=client_config())
    pool = PooledClient(client_config())
    for target, settings, key in (
        (pool, {}, "client"),
        (None, {}, "client"),
        (client, {"idempotent": "get"}, "idempotent"),
        (client, {"idempotent": [1]}, "idempotent"),
        (client, {"around": 5}, "around"),
        (client, {"around": lambda: None}, "around"),
        (client, {"concurrency_limit": 0}, "concurrency_limit"),
        (client, {"default_timeout": -1}, "default_timeout"),
        (client, {"serializer": object()}, "serializer"),
        (client, {"interceptors": [1]}, "interceptors"),
    ):
        with pytest.raises(ConfigurationError) as caught:
            ReconnectingRpc(target, **settings)  # type: ignore[arg-type]
        assert caught.value.config_key == key
    async with connected(around=lambda method, proceed: 5) as (rpc, _):
        for wrong in (
            {"timeout": 0},
            {"idempotent": "yes"},
            {"metadata": {"a": 1}},
            {"named_params": 3},
            {"result_type": 5},
        ):
            with pytest.raises(ConfigurationError):
                await rpc.call("add", 1, **wrong)
        with pytest.raises(ConfigurationError):
            rpc.stream("numbers", item_timeout=0)
        with pytest.raises(ConfigurationError, match="expected 'async def'"):
            await rpc.call("add", 1)
    await client.close()
    await pool.close()


# ----------------------------------------------------------------- pooled sessions


async def test_calls_and_streams_over_borrowed_sessions(
    serving: Serving, client_config: ClientFactory
) -> None:
    """Leaving a loop leaves a session that the next borrower can use."""
    backend = Backend()
    backend.go_on.set()
    async with (
        serving(backend) as served,
        PooledClient.create(client_config(), pool_size=1) as pool,
    ):
        for number in range(3):
            async with pool.session(served.url()) as session, RpcManager(session) as rpc:
                assert await rpc.call("add", number) == 100 + number
                assert [item async for item in rpc.stream("numbers", 4)] == [4, 5, 6]
                async for _ in rpc.stream("numbers", 4):
                    break
        stats = pool.get_stats()
        assert (stats["opened"], stats["reused"], stats["discarded"]) == (1, 2, 0)
        await until(lambda: backend.ended == backend.started == 6)
