"""``ConnectionLoadBalancer``: strategies, failing servers and their return, statistics."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from typing import Any

import pytest

from pywebtransport import ClientConfig
from pywebtransport.connection import ConnectionLoadBalancer, WebTransportConnection
from pywebtransport.exceptions import (
    CertificateError,
    ClientError,
    ConfigurationError,
    ConnectionError,
    UnreachableError,
)
from tests.support.certificates import Certificates
from tests.support.endpoints import ClientFactory, Served, Serving
from tests.support.pooling import ask, closed_port, open_session, senders, silent_socket
from tests.support.steps import cancelled_at, echo_bidirectional, until, until_true

from .raw_peer import raw_server
from .relay import Faults, Relay

LONG = 3600.0
# Of a path, one way.
FAST, SLOW, SLOWER = Faults(), Faults(delay=0.05), Faults(delay=0.2)


async def several(stack: AsyncExitStack, serving: Serving, count: int) -> list[Served]:
    return [await stack.enter_async_context(serving(echo_bidirectional)) for _ in range(count)]


def targets_of(servers: list[Served]) -> list[tuple[str, int]]:
    return [(served.host, served.port) for served in servers]


async def ports_of(
    balancer: ConnectionLoadBalancer, config: ClientConfig, strategy: str, count: int
) -> list[int]:
    """The ports that ``count`` connections, one after the other, go to."""
    ports = []
    for _ in range(count):
        connection = await balancer.get_connection(config=config, strategy=strategy)
        assert connection.remote_address is not None
        ports.append(connection.remote_address[1])
        await connection.close()
    return ports


def port_of(connection: WebTransportConnection) -> int:
    assert connection.remote_address is not None
    return connection.remote_address[1]


async def failed(balancer: ConnectionLoadBalancer) -> int:
    return int((await balancer.get_load_balancer_stats())["failed_targets"])


async def latencies(balancer: ConnectionLoadBalancer) -> dict[int, float]:
    """The latency of each server that was measured, by port."""
    stats = (await balancer.get_target_stats()).values()
    return {entry["port"]: entry["latency"] for entry in stats if entry["latency"] is not None}


def fastest(measured: dict[int, float]) -> int:
    return min(measured, key=lambda port: measured[port])


async def failure_of(balancer: ConnectionLoadBalancer, port: int) -> str | None:
    """Why a server is set aside."""
    failure = (await balancer.get_target_stats())[f"127.0.0.1:{port}"]["failure"]
    assert failure is None or isinstance(failure, str)
    return failure


async def is_answering(balancer: ConnectionLoadBalancer, port: int) -> bool:
    """A server is not set aside any more."""
    return await failure_of(balancer, port) is None


# -------------------------------------------------------------------- strategies


async def test_connection_carries_a_session_and_is_the_callers(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with serving(echo_bidirectional) as served:
        balancer = ConnectionLoadBalancer.create(targets=[(served.host, served.port)])
        async with balancer:
            connection = await balancer.get_connection(config=client_config(), path="/echo")
            session = await open_session(connection)
            assert session.path == "/echo"
            assert await ask(session, b"hello") == b"hello"
            assert await balancer.get_load_balancer_stats() == {
                "total_targets": 1,
                "failed_targets": 0,
                "active_connections": 1,
                "available_targets": 1,
            }
            await session.close()  # its connection goes with it
            assert connection.is_closed
            assert (await balancer.get_load_balancer_stats())["active_connections"] == 0


async def test_round_robin_takes_turns(serving: Serving, client_config: ClientFactory) -> None:
    async with AsyncExitStack() as stack:
        servers = await several(stack, serving, 3)
        targets = targets_of(servers)
        async with ConnectionLoadBalancer(targets) as balancer:
            ports = await ports_of(balancer, client_config(), "round_robin", 7)
            expected = [port for _, port in targets]
            assert ports == [*expected, *expected, expected[0]]
            # Concurrent callers take turns as well.
            connections = await asyncio.gather(
                *(balancer.get_connection(config=client_config()) for _ in range(6))
            )
            assert Counter(map(port_of, connections)) == dict.fromkeys(expected, 2)


async def test_weighted_shares_out_in_proportion(
    serving: Serving, client_config: ClientFactory
) -> None:
    config = client_config()
    async with AsyncExitStack() as stack:
        targets = targets_of(await several(stack, serving, 3))
        a, b, c = (port for _, port in targets)
        async with ConnectionLoadBalancer(targets) as balancer:
            await balancer.update_target_weight(host="127.0.0.1", port=a, weight=5)
            assert await ports_of(balancer, config, "weighted", 7) == [a, a, b, a, c, a, a]
            await balancer.update_target_weight(host="127.0.0.1", port=a, weight=0)
            assert set(await ports_of(balancer, config, "Weighted", 4)) == {b, c}
            for port in (b, c):
                await balancer.update_target_weight(host="127.0.0.1", port=port, weight=0)
            with pytest.raises(ConfigurationError, match="weight"):
                await balancer.get_connection(config=config, strategy="weighted")
            assert (await balancer.get_target_stats())[f"127.0.0.1:{a}"]["weight"] == 0


async def test_least_latency_measures_all_and_keeps_the_best(
    serving: Serving, client_config: ClientFactory
) -> None:
    """With paths of which one is fast, then slow: what was measured last decides."""
    config = client_config()
    async with AsyncExitStack() as stack:
        relays = [
            await stack.enter_async_context(
                Relay((served.host, served.port), seed=number, up=SLOW if number != 1 else FAST)
            )
            for number, served in enumerate(await several(stack, serving, 3))
        ]
        ports = [relay.port for relay in relays]
        targets = [("127.0.0.1", port) for port in ports]
        async with ConnectionLoadBalancer(targets, health_check_interval=LONG) as balancer:
            # Those that were never measured come first.
            assert set(await ports_of(balancer, config, "least-latency", 3)) == set(ports)
            first = await latencies(balancer)
            assert all(0 < latency < 60 for latency in first.values())
            assert min(first[ports[0]], first[ports[2]]) >= 1.9 * SLOW.delay  # two round trips
            # From now on the measured figures decide.
            assert await ports_of(balancer, config, "least_latency", 1) == [fastest(first)]
            for relay in relays:
                relay.change(SLOWER if relay.port == ports[1] else FAST)
            for _ in range(6):
                expected = fastest(await latencies(balancer))
                assert await ports_of(balancer, config, "least_latency", 1) == [expected]


async def test_latency_of_open_connections_is_their_round_trip_time(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with AsyncExitStack() as stack:
        (served,) = await several(stack, serving, 1)
        async with ConnectionLoadBalancer(targets_of([served])) as balancer:
            connection = await balancer.get_connection(config=client_config())
            session = await open_session(connection)
            for _ in range(10):
                await ask(session, b"x")
            stats = (await balancer.get_target_stats())[f"127.0.0.1:{served.port}"]
            assert stats == {
                "host": "127.0.0.1",
                "port": served.port,
                "weight": 1.0,
                "latency": connection.rtt,
                "failed": False,
                "failure": None,
                "connected": True,
                "active_connections": 1,
            }


async def test_old_latency_is_measured_again_while_it_is_used(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with AsyncExitStack() as stack:
        servers = await several(stack, serving, 2)
        async with ConnectionLoadBalancer(
            targets_of(servers), health_check_interval=0.1
        ) as balancer:
            # One server was used, the other one never.
            await ports_of(balancer, client_config(), "least_latency", 1)
            (before,) = (await latencies(balancer)).items()

            async def both_are_new() -> bool:
                now = await latencies(balancer)
                assert all(0 < latency < 60 for latency in now.values())
                return len(now) == 2 and before not in now.items()

            await until_true(both_are_new)
            # Nobody used the strategy since: nothing is armed any more.
            await until(lambda: not balancer.is_checking)
            await ports_of(balancer, client_config(), "round_robin", 1)
            assert not balancer.is_checking


# --------------------------------------------------------------- failing servers


async def test_failing_server_is_set_aside_and_comes_back(
    serving: Serving, client_config: ClientFactory, caplog: pytest.LogCaptureFixture
) -> None:
    config = client_config()
    port = closed_port()
    async with AsyncExitStack() as stack:
        (good,) = await several(stack, serving, 1)
        async with ConnectionLoadBalancer(
            [("127.0.0.1", port), (good.host, good.port)], health_check_interval=0.05
        ) as balancer:
            assert await ports_of(balancer, config, "round_robin", 3) == [good.port] * 3
            assert await balancer.get_load_balancer_stats() == {
                "total_targets": 2,
                "failed_targets": 1,
                "active_connections": 0,
                "available_targets": 1,
            }
            entry = (await balancer.get_target_stats())[f"127.0.0.1:{port}"]
            assert entry["failed"]
            assert "cannot be reached" in entry["failure"]
            assert caplog.text.count("is set aside") == 1

            async with serving(bind_port=port):
                await until_true(lambda: is_answering(balancer, port))
                assert set(await ports_of(balancer, config, "round_robin", 4)) == {port, good.port}
                # All answer: nothing is armed any more.
                await until(lambda: not balancer.is_checking)

            # The server is gone again, and comes back again.
            assert await ports_of(balancer, config, "round_robin", 3) == [good.port] * 3
            assert await failed(balancer) == 1
            async with serving(bind_port=port):
                await until_true(lambda: is_answering(balancer, port))


async def test_server_set_aside_is_tried_last(
    serving: Serving, client_config: ClientFactory
) -> None:
    config = client_config()
    port = closed_port()
    async with AsyncExitStack() as stack:
        (good,) = await several(stack, serving, 1)
        async with ConnectionLoadBalancer(
            [("127.0.0.1", port), (good.host, good.port)], health_check_interval=LONG
        ) as balancer:
            assert await ports_of(balancer, config, "round_robin", 1) == [good.port]
            await good.server.close(drain_timeout=0)
            async with serving(bind_port=port):
                # No check has run, but there is nothing else left to try.
                assert await ports_of(balancer, config, "round_robin", 1) == [port]
            stats = await balancer.get_target_stats()
            assert [entry["failed"] for entry in stats.values()] == [False, True]


async def test_server_without_webtransport_is_passed_over(
    serving: Serving, client_config: ClientFactory, certs: Certificates
) -> None:
    async with raw_server(certs) as raw, AsyncExitStack() as stack:
        (good,) = await several(stack, serving, 1)
        targets = [("127.0.0.1", raw.port), (good.host, good.port)]
        async with ConnectionLoadBalancer(targets, health_check_interval=LONG) as balancer:
            connecting = asyncio.create_task(balancer.get_connection(config=client_config()))
            await raw.accept({})
            assert port_of(await connecting) == good.port
            failure = await failure_of(balancer, raw.port)
            assert failure is not None
            assert "does not offer WebTransport" in failure


async def test_all_failing_is_one_typed_error(client_config: ClientFactory) -> None:
    ports = [closed_port(), closed_port()]
    targets = [("127.0.0.1", port) for port in ports]
    async with ConnectionLoadBalancer(targets, health_check_interval=LONG) as balancer:
        with pytest.raises(ConnectionError, match="no server could be reached") as caught:
            await balancer.get_connection(config=client_config())
        assert list(caught.value.details["targets"]) == [f"127.0.0.1:{port}" for port in ports]
        assert all(f"127.0.0.1:{port}" in str(caught.value) for port in ports)
        group = caught.value.__cause__
        assert isinstance(group, ExceptionGroup)
        assert [type(error) for error in group.exceptions] == [UnreachableError] * 2
        assert await failed(balancer) == 2


async def test_check_that_fails_leaves_the_server_aside(client_config: ClientFactory) -> None:
    with silent_socket() as silent:
        port = silent.getsockname()[1]
        async with ConnectionLoadBalancer(
            [("127.0.0.1", port)], health_check_interval=0.01, health_check_timeout=0.05
        ) as balancer:
            with pytest.raises(ConnectionError):
                await balancer.get_connection(config=client_config(connect_timeout=0.1))
            assert balancer.is_checking
            # Each attempt has a port of its own: that of the caller, then those of two checks
            # that failed. Closing in the middle of the third check ends it.
            sources: set[object] = set()
            await until(lambda: sources.update(senders(silent)) or len(sources) >= 4)
            failure = await failure_of(balancer, port)
            assert failure is not None
            assert "within 0.05 s" in failure or "in time" in failure
        assert not balancer.is_checking


async def test_faults_of_the_caller_blame_no_server(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with AsyncExitStack() as stack:
        targets = targets_of(await several(stack, serving, 2))
        async with ConnectionLoadBalancer(targets) as balancer:
            with pytest.raises(ConfigurationError, match="path"):
                await balancer.get_connection(config=client_config(), path="no slash")
            with pytest.raises(CertificateError, match="missing"):
                await balancer.get_connection(config=client_config(ca_certs="/missing.pem"))
            with pytest.raises(ConfigurationError, match="round_robin, weighted, least_latency"):
                await balancer.get_connection(config=client_config(), strategy="fastest")
            assert await failed(balancer) == 0
            assert not balancer.is_checking


async def test_limit_of_the_configuration_holds(
    serving: Serving, client_config: ClientFactory
) -> None:
    config = client_config(max_connections=2)
    async with AsyncExitStack() as stack:
        targets = targets_of(await several(stack, serving, 1))
        async with ConnectionLoadBalancer(targets) as balancer:
            first = await balancer.get_connection(config=config)
            await balancer.get_connection(config=config)
            with pytest.raises(ClientError, match="max_connections=2"):
                await balancer.get_connection(config=config)
            await first.close()
            await balancer.get_connection(config=config)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"targets": []}, "at least one"),
        ({"targets": [("a", 1), ("a", 1)]}, "named twice"),
        ({"targets": [("a", 0)]}, "port"),
        ({"targets": [("a", 1)], "health_check_interval": 0}, "health_check_interval"),
        ({"targets": [("a", 1)], "health_check_timeout": -1}, "health_check_timeout"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        ConnectionLoadBalancer(**arguments)


async def test_bad_weights_are_refused() -> None:
    async with ConnectionLoadBalancer([("::1", 4433)]) as balancer:
        for weight in (-1.0, float("nan"), float("inf")):
            with pytest.raises(ConfigurationError, match="weight"):
                await balancer.update_target_weight(host="::1", port=4433, weight=weight)
        with pytest.raises(ConfigurationError, match=r"\[::1\]:4433"):
            await balancer.update_target_weight(host="::1", port=4434, weight=1)


# ---------------------------------------------------------------------------- end


async def test_closing_connections_and_the_balancer(
    serving: Serving, client_config: ClientFactory
) -> None:
    config = client_config()
    with silent_socket() as silent:
        async with AsyncExitStack() as stack:
            (served,) = await several(stack, serving, 1)
            targets = [(served.host, served.port), ("127.0.0.1", silent.getsockname()[1])]
            balancer = ConnectionLoadBalancer(targets)
            first = await balancer.get_connection(config=config)
            connecting = asyncio.create_task(balancer.get_connection(config=config))
            await until(lambda: senders(silent))
            await balancer.close_all_connections()
            assert first.is_closed
            assert not connecting.done()
            await balancer.shutdown()
            with pytest.raises(ClientError, match="load balancer is closed"):
                await connecting
            with pytest.raises(ClientError, match="load balancer is closed"):
                await balancer.get_connection(config=config)
            with pytest.raises(ClientError, match="load balancer is closed"):
                async with balancer:
                    pass
            await balancer.shutdown()


async def test_get_connection_may_be_cancelled_anywhere(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with AsyncExitStack() as stack:
        (served,) = await several(stack, serving, 1)
        async with ConnectionLoadBalancer(targets_of([served])) as balancer:
            index = 0
            while await cancelled_at(
                # Whatever stayed open, or counted as such, would make the next one fail.
                lambda: balancer.get_connection(config=client_config(max_connections=1)),
                index,
            ):
                assert (await balancer.get_load_balancer_stats())["active_connections"] == 0
                index += 1
            assert index > 0  # the handshake; SETTINGS come with it
            assert (await balancer.get_load_balancer_stats())["active_connections"] == 1
