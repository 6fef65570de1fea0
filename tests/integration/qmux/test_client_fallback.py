"""Sessions of clients over a WebSocket, where UDP does not get through."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from pywebtransport import (
    ClientConfig,
    ClientError,
    Event,
    EventType,
    WebTransportClient,
    WebTransportError,
    WebTransportSession,
)
from pywebtransport.client import (
    ClientPool,
    PooledClient,
    ReconnectingClient,
    WebTransportBrowser,
    connect,
)
from pywebtransport.client.utils import benchmark_client_performance
from pywebtransport.client.utils import test_client_connectivity as check_connectivity
from pywebtransport.exceptions import SessionRejectedError, UnreachableError
from pywebtransport.rpc import ReconnectingRpc, RpcManager
from tests.support.certificates import Certificates
from tests.support.endpoints import ClientFactory, Served, Serving
from tests.support.ports import free_port_of_both
from tests.support.steps import until
from tests.support.tcp_door import black_hole
from tests.support.tcp_relay import TcpRelay, http_proxy, tcp_relay

NEVER = 1000.0


async def echo(session: WebTransportSession) -> None:
    """Send back each stream and each datagram."""

    async def datagrams() -> None:
        async for data in session.datagrams:
            await session.datagrams.send(data)

    task = asyncio.ensure_future(datagrams())
    try:
        async for stream in session.incoming_streams():
            assert hasattr(stream, "write_all")
            await stream.write_all(await stream.read_all())
    finally:
        task.cancel()


async def assert_echo(session: WebTransportSession) -> None:
    """The session works both ways."""
    stream = await session.create_bidirectional_stream()
    await stream.write_all(b"hello")
    assert await stream.read_all() == b"hello"
    await session.datagrams.send(b"ping")
    assert await session.datagrams.receive(timeout=20) == b"ping"


@asynccontextmanager
async def without_udp(
    serving: Serving, handler: Any = echo, **fields: Any
) -> AsyncIterator[tuple[Served, TcpRelay]]:
    """A server, and a port that leads to its TCP port and refuses UDP."""
    async with (
        serving(handler, bind_port=free_port_of_both(), websocket=True, **fields) as served,
        tcp_relay(served.port) as relay,
    ):
        yield served, relay


def url_of(relay: TcpRelay, path: str = "/") -> str:
    return f"https://127.0.0.1:{relay.port}{path}"


def config_of(client_config: ClientFactory, **fields: Any) -> ClientConfig:
    return client_config(fallback="websocket", **fields)


# ---------------------------------------------------------------------- plain sessions


@pytest.mark.parametrize("udp", ["refused", "silent"])
async def test_session_works_without_udp(
    serving: Serving, client_config: ClientFactory, udp: str
) -> None:
    config = config_of(client_config, fallback_delay=0.01 if udp == "silent" else NEVER)
    async with without_udp(serving) as (_, relay), WebTransportClient(config=config) as client:
        if udp == "silent":
            async with black_hole(relay.port):
                session = await client.connect(url_of(relay))
        else:
            session = await client.connect(url_of(relay))
        assert (session.transport, session.reliability) == ("websocket", "reliable-only")
        assert session.connection is not None
        assert session.connection.transport == "websocket"
        await assert_echo(session)
        assert client.connections == (session.connection,)
        assert client.stats["transports"] == {
            "quic": 0,
            "websocket": 1,
            "fallbacks_tried": 1,
            "fallbacks_won": 1,
        }
        await session.close()
        await relay.until_idle()
        assert client.connections == ()


async def test_handler_runs_once(serving: Serving, client_config: ClientFactory) -> None:
    """Both transports reach the server at the same time; one session is requested."""
    runs: list[str] = []

    async def handler(session: WebTransportSession) -> None:
        runs.append(session.transport)
        await echo(session)

    config = config_of(client_config, fallback_delay=0)
    async with (
        serving(handler, bind_port=free_port_of_both(), websocket=True) as served,
        WebTransportClient(config=config) as client,
    ):
        for _ in range(5):
            session = await client.connect(served.url())
            await assert_echo(session)
            assert len(client.connections) == 1
            await session.close()
        assert len(runs) == 5
        transports = client.stats["transports"]
        assert transports["quic"] == runs.count("quic")
        assert transports["websocket"] == runs.count("websocket") == transports["fallbacks_won"]


async def test_quic_is_used_where_it_works(serving: Serving, client_config: ClientFactory) -> None:
    config = config_of(client_config, fallback_delay=NEVER)
    async with (
        serving(echo, bind_port=free_port_of_both(), websocket=True) as served,
        WebTransportClient(config=config) as client,
    ):
        session = await client.connect(served.url())
        assert session.transport == "quic"
        await assert_echo(session)


async def test_tcp_starts_at_once_the_next_time(
    serving: Serving, client_config: ClientFactory
) -> None:
    config = config_of(client_config, fallback_delay=0.01)
    async with (
        without_udp(serving) as (_, relay),
        black_hole(relay.port),
        WebTransportClient(config=config) as client,
    ):
        await (await client.connect(url_of(relay))).close()
        client.config.fallback_delay = NEVER  # now only the memory helps
        for _ in range(2):
            session = await client.connect(url_of(relay))
            assert session.transport == "websocket"
            await session.close()


async def test_client_forgets_when_quic_works_again(
    serving: Serving, client_config: ClientFactory
) -> None:
    config = config_of(client_config, fallback_delay=0.01)
    port = free_port_of_both()
    async with WebTransportClient(config=config) as client:
        async with (
            serving(echo, bind_port=free_port_of_both(), websocket=True) as hidden,
            tcp_relay(hidden.port, port=port),
        ):
            await (await client.connect(f"https://127.0.0.1:{port}/")).close()
        client.config.fallback_delay = NEVER
        async with serving(echo, bind_port=port) as served:  # no TCP there
            session = await client.connect(served.url())
            assert session.transport == "quic"
            await session.close()
        tried = client.stats["transports"]["fallbacks_tried"]
        assert tried == 2  # once for each session
        async with serving(echo, bind_port=port) as served:
            await (await client.connect(served.url())).close()
        assert client.stats["transports"]["fallbacks_tried"] == tried


async def test_headers_and_protocols_arrive(serving: Serving, client_config: ClientFactory) -> None:
    seen: list[tuple[str | None, str, str]] = []

    async def handler(session: WebTransportSession) -> None:
        seen.append((session.headers.get("x-a"), session.path, session.transport))
        await echo(session)

    fields = {"application_protocols": ["chat", "log"]}
    config = config_of(client_config, headers={"x-a": "1"}, **fields)
    async with (
        without_udp(serving, handler, application_protocols=["log"]) as (_, relay),
        WebTransportClient(config=config) as client,
    ):
        session = await client.connect(url_of(relay, "/room?id=7"), headers={"x-a": "2"})
        assert session.application_protocol == "log"
        await assert_echo(session)
        assert seen == [("2", "/room?id=7", "websocket")]


async def test_rejections(serving: Serving, client_config: ClientFactory) -> None:
    async def refuse(*, session: WebTransportSession) -> bool:
        raise SessionRejectedError(status_code=429, headers={"retry-after": "3"})

    config = config_of(client_config)
    async with (
        without_udp(serving, {"/echo": echo}) as (served, relay),
        WebTransportClient(config=config) as client,
    ):
        with pytest.raises(SessionRejectedError) as caught:
            await client.connect(url_of(relay, "/nowhere"))
        assert caught.value.status_code == 404
        served.app.add_middleware(refuse)
        with pytest.raises(SessionRejectedError) as caught:
            await client.connect(url_of(relay, "/echo"))
        assert (caught.value.status_code, caught.value.headers["retry-after"]) == (429, "3")
        await relay.until_idle()
        assert client.connections == ()
        assert relay.arrived == 2


async def test_pinned_certificate(
    serving: Serving, client_config: ClientFactory, certs: Certificates
) -> None:
    own = certs.self_signed
    config = config_of(client_config, ca_certs=None, server_certificate_hashes=[own.hash])
    async with (
        without_udp(serving, **own.files) as (_, relay),
        WebTransportClient(config=config) as client,
    ):
        await assert_echo(await client.connect(url_of(relay)))


async def test_a_server_without_websocket(serving: Serving, client_config: ClientFactory) -> None:
    """Its TCP port is closed."""
    async with (
        serving(echo, bind_port=free_port_of_both()) as served,
        tcp_relay(served.port) as relay,
        WebTransportClient(config=config_of(client_config)) as client,
    ):
        with pytest.raises(WebTransportError, match=r"by QUIC: .*; by TCP: ") as caught:
            await client.connect(url_of(relay))
        assert len(caught.value.details["transports"]) == 2


# ------------------------------------------------------------------------ other clients


async def test_one_session_in_one_call(serving: Serving, client_config: ClientFactory) -> None:
    async with without_udp(serving) as (_, relay):
        config = client_config()
        async with connect(url_of(relay), config=config, fallback="websocket") as session:
            assert session.transport == "websocket"
            await assert_echo(session)
        await relay.until_idle()


async def test_shared_connections_carry_one_session_each(
    serving: Serving, client_config: ClientFactory
) -> None:
    config = config_of(client_config, allow_pooling=True, max_connections=2)
    async with without_udp(serving) as (_, relay), WebTransportClient(config=config) as client:
        first, second = await asyncio.gather(*(client.connect(url_of(relay)) for _ in range(2)))
        assert first.connection is not second.connection
        await assert_echo(first)
        await assert_echo(second)
        assert client.lacks_room("127.0.0.1", relay.port)
        with pytest.raises(ClientError, match="max_connections=2"):
            await client.connect(url_of(relay))
        await first.close()
        third = await client.connect(url_of(relay))
        await assert_echo(third)


async def test_pooled_client_lends_them(serving: Serving, client_config: ClientFactory) -> None:
    async with (
        without_udp(serving) as (_, relay),
        PooledClient(config=config_of(client_config), pool_size=2) as pool,
    ):
        async with pool.session(url_of(relay)) as first, pool.session(url_of(relay)) as second:
            assert first is not second
            assert first.transport == second.transport == "websocket"
        async with pool.session(url_of(relay)) as again:
            assert again in (first, second)
            await assert_echo(again)
        assert relay.arrived == 2
        assert pool.get_stats()["reused"] == 1


async def test_idle_sessions_of_a_pool_make_room(
    serving: Serving, client_config: ClientFactory
) -> None:
    config = config_of(client_config, max_connections=1)
    async with (
        without_udp(serving) as (_, relay),
        without_udp(serving) as (_, other),
        PooledClient(config=config) as pool,
    ):
        async with pool.session(url_of(relay)) as session:
            await assert_echo(session)
        async with pool.session(url_of(other)) as session:
            await assert_echo(session)


async def test_client_pool_and_browser(serving: Serving, client_config: ClientFactory) -> None:
    config = config_of(client_config)
    async with without_udp(serving) as (_, relay):
        async with ClientPool.create(2, base_config=config) as pool:
            sessions = await pool.connect_all(url_of(relay))
            assert [session.transport for session in sessions] == ["websocket"] * 2
        async with WebTransportBrowser(config=config) as browser:
            await browser.navigate(url_of(relay, "/a"))
            await browser.navigate(url_of(relay, "/b"))
            session = await browser.back()
            assert session is not None
            assert (session.path, session.transport) == ("/a", "websocket")
            await assert_echo(session)
        await relay.until_idle()


async def test_measurements(serving: Serving, client_config: ClientFactory) -> None:
    config = config_of(client_config)
    async with without_udp(serving) as (_, relay):
        found = await check_connectivity(url_of(relay), config=config)
        assert found["success"], found
        assert found["remote_address"] == ("127.0.0.1", relay.port)
        figures = await benchmark_client_performance(
            url_of(relay), config=config, num_requests=4, concurrent_requests=2
        )
        assert figures["successful_requests"] == 4


async def test_reconnects_after_a_restart(serving: Serving, client_config: ClientFactory) -> None:
    config = config_of(client_config, retry_delay=0.01, max_retries=1000, max_retry_delay=0.05)
    port = free_port_of_both()
    async with tcp_relay(port) as relay, ReconnectingClient(url_of(relay), config=config) as client:
        sessions: list[WebTransportSession] = []
        for _ in range(2):
            async with serving(echo, bind_port=port, websocket=True):
                session = await client.get_session(wait_timeout=30)
                assert session is not None
                assert session.transport == "websocket"
                await assert_echo(session)
                sessions.append(session)
            await sessions[-1].wait_closed()
        assert sessions[0] is not sessions[1]


async def test_calls_over_it(serving: Serving, client_config: ClientFactory) -> None:
    async def serve(session: WebTransportSession) -> None:
        async with RpcManager(session) as rpc:
            rpc.register(lambda a, b: a + b, name="add")
            await session.wait_closed()

    async with (
        without_udp(serving, serve) as (_, relay),
        ReconnectingClient(url_of(relay), config=config_of(client_config)) as client,
        ReconnectingRpc(client) as rpc,
    ):
        assert await rpc.call("add", 2, 3) == 5


# -------------------------------------------------------------------------------- proxy


@pytest.mark.parametrize("user", ["", "me:pass%20word@"])
async def test_through_an_http_proxy(
    serving: Serving, client_config: ClientFactory, user: str
) -> None:
    """The proxy knows the name of the server, and the client does not."""
    wanted = "Basic bWU6cGFzcyB3b3Jk" if user else None
    async with (
        serving(echo, bind_port=free_port_of_both(), websocket=True) as served,
        http_proxy(wanted) as proxy,
    ):
        config = config_of(
            client_config,
            fallback_proxy=f"http://{user}127.0.0.1:{proxy.port}",
            ca_certs=None,
            verify_mode="CERT_NONE",
        )
        async with WebTransportClient(config=config) as client:
            session = await client.connect(f"https://server.invalid:{served.port}/x")
            assert session.transport == "websocket"
            await assert_echo(session)
        await proxy.until_idle()
    assert proxy.requests[0].startswith(f"CONNECT server.invalid:{served.port} HTTP/1.1\r\n")


async def test_a_proxy_that_refuses(client_config: ClientFactory) -> None:
    port = free_port_of_both()
    async with http_proxy("Basic bWU6cGFzcw==") as proxy:
        for user in ("", "me:wrong@"):
            address = f"http://{user}127.0.0.1:{proxy.port}"
            config = config_of(client_config, fallback_proxy=address)
            async with WebTransportClient(config=config) as client:
                with pytest.raises(UnreachableError, match=r"by QUIC: .*status 407") as caught:
                    await client.connect(f"https://127.0.0.1:{port}/")
                assert "wrong" not in repr(caught.value)
                assert "wrong" not in repr(client.debug_state())
        await proxy.until_idle()


async def test_a_proxy_that_is_not_there(client_config: ClientFactory) -> None:
    config = config_of(client_config, fallback_proxy=f"http://127.0.0.1:{free_port_of_both()}")
    async with WebTransportClient(config=config) as client:
        with pytest.raises(UnreachableError, match=r"by QUIC: .*; by TCP: .*proxy"):
            await client.connect(f"https://127.0.0.1:{free_port_of_both()}/")


# ------------------------------------------------------------- cancellation, statistics


@pytest.mark.parametrize("turns", range(0, 60, 4))
async def test_cancelling_in_any_turn_leaves_nothing(
    serving: Serving, client_config: ClientFactory, turns: int
) -> None:
    config = config_of(client_config)
    async with (
        without_udp(serving) as (served, relay),
        WebTransportClient(config=config) as client,
    ):
        task = asyncio.ensure_future(client.connect(url_of(relay)))
        for _ in range(turns):
            await asyncio.sleep(0)
        if not task.done():
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert client.connections == ()
            await relay.until_idle()
            await until(lambda: not served.server.connections)


async def test_statistics_of_a_client(serving: Serving, client_config: ClientFactory) -> None:
    config = config_of(client_config)
    async with without_udp(serving) as (_, relay), WebTransportClient(config=config) as client:
        session = await client.connect(url_of(relay))
        await assert_echo(session)
        figures = client.measure()
        assert figures["active_sessions"] == figures["active_connections"] == 1
        assert figures["traffic"]["streams_opened_local"] == 1
        assert client.round_trip_times()[0] > 0
        assert client.debug_state()["connections"][0]["state"] == "connected"
        assert client.diagnose_issues() == []


async def test_a_lost_tcp_connection_is_counted(
    serving: Serving, client_config: ClientFactory
) -> None:
    config = config_of(client_config)
    async with without_udp(serving) as (_, relay), WebTransportClient(config=config) as client:
        session = await client.connect(url_of(relay))
        await assert_echo(session)
        await relay.close()
        info = await session.wait_closed()
        assert info.code is None
        assert client.stats["connections"]["lost"] == 1
        assert client.connections == ()


async def test_closing_the_client_tells_the_server(
    serving: Serving, client_config: ClientFactory
) -> None:
    ended: asyncio.Queue[tuple[int | None, bool]] = asyncio.Queue()

    async def handler(session: WebTransportSession) -> None:
        info = await session.wait_closed()
        ended.put_nowait((info.code, info.remote))

    async with without_udp(serving, handler) as (_, relay):
        client = WebTransportClient(config=config_of(client_config))
        await client.connect(url_of(relay))
        await client.close()
        assert await ended.get() == (0, True)
        await relay.until_idle()


async def test_a_session_that_drains_is_replaced(
    serving: Serving, client_config: ClientFactory
) -> None:
    config = config_of(client_config, retry_delay=0.01, max_retries=1000, max_retry_delay=0.05)
    port = free_port_of_both()
    drained: asyncio.Queue[Event] = asyncio.Queue()
    async with tcp_relay(port) as relay:
        client = ReconnectingClient(url_of(relay), config=config)
        client.on(EventType.SESSION_DRAINING, drained.put)
        async with serving(echo, bind_port=port, websocket=True) as served, client:
            old = await client.get_session(wait_timeout=30)
            assert old is not None
            await assert_echo(old)
            closing = asyncio.ensure_future(served.server.close(drain_timeout=30))
            assert (await drained.get()).data["session"] is old
            await assert_echo(old)
            assert not client.is_connected
            await old.close()
            await closing
