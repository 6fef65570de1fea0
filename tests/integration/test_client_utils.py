"""Measurements of a server by a client: real results, and errors that are reported."""

from __future__ import annotations

import asyncio
import json

import pytest

from pywebtransport.client import benchmark_client_performance, test_client_connectivity
from pywebtransport.exceptions import ConfigurationError, SessionRejectedError
from pywebtransport.session import WebTransportSession
from tests.support.certificates import Certificates
from tests.support.endpoints import ClientFactory, Serving
from tests.support.ports import free_port
from tests.support.steps import until


@pytest.fixture
def closed_port() -> int:
    """A UDP port where nobody listens."""
    return free_port()


# --------------------------------------------------------------------------- connectivity


async def test_reachable_server(serving: Serving, client_config: ClientFactory) -> None:
    async with serving(application_protocols=["chat"]) as served:
        config = client_config(application_protocols=["chat"], dialects=[14])
        result = await test_client_connectivity(served.url("/x"), config=config)
        await until(lambda: not served.server.sessions)
    assert result["success"] is True
    assert result["error"] is None
    assert result["url"] == served.url("/x")
    assert result["dialect"] == 14
    assert result["protocol"] == "chat"
    assert result["remote_address"] == ("127.0.0.1", served.port)
    assert result["max_datagram_size"] > 1000
    for name in ("connect_time", "handshake_time", "rtt"):
        assert result[name] > 0, name
    json.dumps(result)


async def test_port_where_nobody_listens(client_config: ClientFactory, closed_port: int) -> None:
    result = await test_client_connectivity(
        url=f"https://127.0.0.1:{closed_port}/", config=client_config(), timeout=20.0
    )
    assert result["success"] is False
    assert result["error"]["type"] == "UnreachableError"
    assert result["error"]["category"] == "connection"
    assert str(closed_port) in result["error"]["message"]
    assert result["connect_time"] > 0
    for name in ("handshake_time", "rtt", "dialect", "protocol", "remote_address"):
        assert result[name] is None, name
    json.dumps(result)


async def test_each_failure_is_reported_by_its_type(
    serving: Serving, client_config: ClientFactory, certs: Certificates
) -> None:
    leave = asyncio.Event()

    async def refuse(session: WebTransportSession) -> bool:
        if session.path == "/slow":
            await leave.wait()
        raise SessionRejectedError(status_code=410)

    async with serving() as served:
        served.app.add_middleware(refuse)
        refused = await test_client_connectivity(served.url(), config=client_config())
        assert refused["error"]["type"] == "SessionRejectedError"
        assert refused["error"]["status_code"] == 410
        distrusted = await test_client_connectivity(
            served.url(), config=client_config(ca_certs=certs.other.certfile)
        )
        assert distrusted["error"]["type"] == "CertificateError"
        late = await test_client_connectivity(
            served.url("/slow"), config=client_config(), timeout=0.2
        )
        assert late["error"]["type"] == "TimeoutError"
        assert late["connect_time"] > 0
        leave.set()
    for result in (refused, distrusted, late):
        assert result["success"] is False


async def test_mistakes_of_the_caller_are_raised(client_config: ClientFactory) -> None:
    with pytest.raises(ConfigurationError, match="https"):
        await test_client_connectivity("http://127.0.0.1:1/")
    with pytest.raises(ConfigurationError, match="https"):
        await benchmark_client_performance("http://127.0.0.1:1/")
    config = client_config(ca_certs="/missing.pem")
    for measure in (test_client_connectivity, benchmark_client_performance):
        with pytest.raises(ConfigurationError, match=r"missing\.pem"):
            await measure("https://127.0.0.1:1/", config=config)
    for name in ("num_requests", "concurrent_requests"):
        with pytest.raises(ConfigurationError, match=f"{name} = 0"):
            await benchmark_client_performance("https://127.0.0.1:1/", **{name: 0})


# ------------------------------------------------------------------------------ benchmark


async def test_benchmark_opens_so_many_sessions(
    serving: Serving, client_config: ClientFactory
) -> None:
    most = 0
    count = 0

    async def handler(session: WebTransportSession) -> None:
        nonlocal most, count
        count += 1
        most = max(most, len(served.server.sessions))

    async with serving(handler) as served:
        result = await benchmark_client_performance(
            served.url(),
            config=client_config(max_connections=1),
            num_requests=12,
            concurrent_requests=3,
        )
        await until(lambda: count == 12)
    assert 1 <= most <= 4  # the server may hear of an end after the next begin
    assert (result["total_requests"], result["concurrent_requests"]) == (12, 3)
    assert (result["successful_requests"], result["failed_requests"]) == (12, 0)
    assert result["errors"] == {}
    assert result["requests_per_second"] == pytest.approx(12 / result["total_time"])
    times = result["connect_time"]
    assert 0 < times["min"] <= times["p50"] <= times["p95"] <= times["p99"] <= times["max"]
    assert times["min"] <= times["avg"] <= times["max"]
    assert times["max"] <= result["total_time"]


async def test_benchmark_counts_failures_by_category(
    serving: Serving, client_config: ClientFactory
) -> None:
    asked = 0

    async def every_other(session: WebTransportSession) -> bool:
        nonlocal asked
        asked += 1
        return bool(asked % 2)

    async with serving() as served:
        served.app.add_middleware(every_other)
        result = await benchmark_client_performance(
            served.url(), config=client_config(), num_requests=6, concurrent_requests=20
        )
        await until(lambda: not served.server.sessions)
    assert result["concurrent_requests"] == 6
    assert (result["successful_requests"], result["failed_requests"]) == (3, 3)
    assert result["errors"] == {"client": 3}


async def test_benchmark_of_nobody(client_config: ClientFactory, closed_port: int) -> None:
    result = await benchmark_client_performance(
        url=f"https://127.0.0.1:{closed_port}/",
        config=client_config(),
        num_requests=3,
        concurrent_requests=1,
    )
    assert result["successful_requests"] == 0
    assert result["errors"] == {"connection": 3}
    assert result["requests_per_second"] == 0
    assert set(result["connect_time"].values()) == {None}


async def test_benchmark_can_be_cancelled(serving: Serving, client_config: ClientFactory) -> None:
    arrived = asyncio.Event()

    async def handler(session: WebTransportSession) -> None:
        arrived.set()

    async with serving(handler) as served:
        task = asyncio.create_task(
            benchmark_client_performance(
                served.url(), config=client_config(), num_requests=1_000_000
            )
        )
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: not served.server.sessions)
