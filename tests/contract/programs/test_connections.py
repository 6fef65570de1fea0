"""Below the client: connections, their pool, balancer, manager and helpers."""

from __future__ import annotations

import asyncio

import pytest

from pywebtransport import (
    Address,
    ClientConfig,
    ConnectionError,
    ConnectionState,
    WebTransportSession,
)
from pywebtransport.connection import (
    ConnectionInfo,
    ConnectionLoadBalancer,
    ConnectionManager,
    ConnectionPool,
    WebTransportConnection,
)
from pywebtransport.connection.utils import (
    connect_with_retry,
    create_multiple_connections,
    ensure_connection,
    test_multiple_connections,
    test_tcp_connection,
)
from pywebtransport.server import echo_handler
from tests.support.endpoints import ClientFactory, Served, Serving
from tests.support.pooling import closed_port


async def ask(connection: WebTransportConnection, text: bytes) -> bytes:
    session_id = await connection.wait_for_ready_session(timeout=20.0)
    session = WebTransportSession(connection, session_id=session_id)
    await session.initialize()
    await session.ready(timeout=20.0)
    async with session:
        stream = await session.create_bidirectional_stream()
        await stream.write_all(data=text)
        return await stream.read_all()


def target(served: Served) -> Address:
    return (served.host, served.port)


async def test_a_connection_by_hand(serving: Serving, client_config: ClientFactory) -> None:
    async with serving(echo_handler) as served:
        config: ClientConfig = client_config()
        connection = await WebTransportConnection.create_client(
            config=config, host=served.host, port=served.port, path="/echo"
        )
        async with connection:
            await connection.wait_ready(timeout=20.0)
            assert connection.is_connected
            assert connection.state is ConnectionState.CONNECTED
            assert connection.remote_address == target(served)
            assert connection.local_address is not None
            assert connection.config is config
            session_id = await connection.wait_for_ready_session(timeout=20.0)
            assert connection.get_ready_session_id() == session_id
            info = connection.info
            assert isinstance(info, ConnectionInfo)
            assert info.connection_id == connection.connection_id
            assert info.uptime >= 0
            assert info.bytes_sent > 0
            assert info.to_dict()["state"] == "connected"
            assert connection.get_summary()["state"] == "connected"
            assert isinstance(await connection.diagnose_issues(), dict)
            connection.record_activity()
            assert connection.last_activity_time > 0
            assert connection.idle_timeout == config.connection_idle_timeout
            assert await ask(connection, b"hello") == b"hello"
            watching = asyncio.create_task(
                connection.monitor_health(check_interval=0.001, rtt_timeout=5.0)
            )
            await connection.close(code=0, reason="done")
            await connection.wait_closed()
            await watching
        assert connection.is_closed
        assert not connection.is_closing
        assert not connection.is_connected
        second = WebTransportConnection(config=config)
        async with second:
            assert second.state is ConnectionState.IDLE
            await second.connect(host=served.host, port=served.port, path="/echo")
            assert await ask(second, b"again") == b"again"


async def test_connections_from_a_pool(serving: Serving, client_config: ClientFactory) -> None:
    async with (
        serving(echo_handler) as served,
        ConnectionPool(max_size=2, max_idle_time=300.0, cleanup_interval=60.0) as pool,
    ):
        config = client_config()
        first = await pool.get_connection(
            config=config, host=served.host, port=served.port, path="/"
        )
        assert await ask(first, b"x") == b"x"
        await pool.return_connection(connection=first)
        stats = pool.get_stats()
        assert (stats["total_pooled_connections"], stats["total_active_connections"]) == (1, 0)
        again = await pool.get_connection(config=config, host=served.host, port=served.port)
        assert again is first
        assert await ask(again, b"y") == b"y"
        await pool.close_all()
        assert first.is_closed


async def test_a_balancer_between_two_servers(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with (
        serving(echo_handler) as one,
        serving(echo_handler) as two,
        ConnectionLoadBalancer.create(targets=[target(one), target(two)]) as balancer,
    ):
        config = client_config()
        reached = set()
        for strategy in ("round_robin", "round_robin"):
            connection = await balancer.get_connection(config=config, path="/", strategy=strategy)
            reached.add(connection.remote_address)
            assert await ask(connection, b"x") == b"x"
        assert reached == {target(one), target(two)}
        await balancer.update_target_weight(host=one.host, port=one.port, weight=2.0)
        weighted = await balancer.get_connection(config=config, strategy="weighted")
        assert weighted.is_connected
        stats = await balancer.get_load_balancer_stats()
        assert (stats["total_targets"], stats["failed_targets"]) == (2, 0)
        assert len(await balancer.get_target_stats()) == 2
        await balancer.close_all_connections()
        assert weighted.is_closed
        await balancer.shutdown()


async def test_a_manager_of_connections(serving: Serving, client_config: ClientFactory) -> None:
    async with (
        serving(echo_handler) as served,
        ConnectionManager.create(max_connections=5) as manager,
    ):
        connection = await connect_with_retry(
            config=client_config(), host=served.host, port=served.port, max_retries=1
        )
        key = await manager.add_connection(connection=connection)
        assert key == connection.connection_id
        assert await manager.get_connection(connection_id=key) is connection
        assert await manager.get_all_connections() == [connection]
        assert manager.get_connection_count() == 1
        assert (await manager.get_stats())["active"] == 1
        assert await manager.cleanup_closed_connections() == 0
        assert await manager.remove_connection(connection_id=key) is connection
        await manager.add_connection(connection=connection)
        await manager.close_all_connections()
        assert connection.is_closed
        await manager.shutdown()


async def test_helpers(serving: Serving, client_config: ClientFactory) -> None:
    async with serving(echo_handler) as one, serving(echo_handler) as two:
        config = client_config(connect_timeout=20.0)
        targets = [target(one), target(two)]
        made = await create_multiple_connections(
            config=config, targets=targets, path="/", max_concurrent=2
        )
        assert sorted(made) == sorted(f"{host}:{port}" for host, port in targets)
        connection = made[f"{one.host}:{one.port}"]
        same = await ensure_connection(
            connection=connection, config=config, host=one.host, port=one.port
        )
        assert same is connection
        for each in made.values():
            await each.close()
        fresh = await ensure_connection(
            connection=connection, config=config, host=one.host, port=one.port, reconnect=True
        )
        assert fresh is not connection
        assert await ask(fresh, b"x") == b"x"
        await fresh.close()
        found = await test_multiple_connections(targets=targets, timeout=20.0)
        assert set(found) == {f"{host}:{port}" for host, port in targets}
        assert not await test_tcp_connection(host="127.0.0.1", port=closed_port(), timeout=20.0)
        with pytest.raises(ConnectionError):
            await connect_with_retry(
                config=config,
                host="127.0.0.1",
                port=closed_port(),
                max_retries=1,
                retry_delay=0.001,
                backoff_factor=1.0,
            )
