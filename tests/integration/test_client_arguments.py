"""Wrong arguments to clients, pools, connections, helpers: a typed error, nothing changed."""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from pywebtransport import (
    ClientConfig,
    ConfigurationError,
    ServerApp,
    WebTransportClient,
    WebTransportError,
    WebTransportSession,
    utils,
)
from pywebtransport.client import (
    ClientMonitor,
    ClientPool,
    PooledClient,
    WebTransportBrowser,
    benchmark_client_performance,
)
from pywebtransport.client import test_client_connectivity as client_connectivity
from pywebtransport.connection import (
    ConnectionLoadBalancer,
    ConnectionManager,
    ConnectionPool,
    WebTransportConnection,
)
from pywebtransport.connection import utils as connecting
from tests.support.endpoints import ClientFactory, Served, ServerFactory, Serving

# Nobody listens there, and the kernel says so at once.
CLOSED = "https://127.0.0.1:9/"


class Hostile:
    """An object whose ``str`` and ``repr`` fail."""

    def __repr__(self) -> str:
        raise RuntimeError("no text of this")

    __str__ = __repr__


WRONG: list[Any] = [
    None,
    True,
    -1,
    0,
    3,
    1 << 70,
    10**5000,
    1.5,
    math.nan,
    math.inf,
    -math.inf,
    "",
    "x",
    "\ud800",
    "a\0b",
    "x" * 5000,
    b"x",
    [],
    [1],
    {},
    {1: 2},
    {"x": object()},
    set(),
    (),
    ("a", "b", "c"),
    object(),
    Hostile(),
    ValueError("an exception where a text belongs"),
    int,
    lambda: None,
]


async def check(
    call: Callable[..., Any], good: Mapping[str, Any], only: Any = None, longest: int = 2000
) -> None:
    """Call with each argument replaced by each wrong value: it works, or raises one of ours."""
    texts: list[str] = []
    for name in good if only is None else only:
        for value in WRONG:
            try:
                async with asyncio.timeout(10):
                    result = call(**{**good, name: value})
                    if inspect.isawaitable(result):
                        result = await result
            except WebTransportError as error:
                texts.append(str(error))
                error.to_dict()
            except Exception as error:
                kind = type(value).__name__
                error.add_note(f"{getattr(call, '__qualname__', call)}({name}=<{kind}>)")
                raise
            else:
                if hasattr(result, "close"):
                    closing = result.close()
                    if inspect.isawaitable(closing):
                        await closing
    assert max(map(len, texts), default=0) < longest


# ----------------------------------------------------------------------- the helpers

HELPERS: list[tuple[Callable[..., Any], dict[str, Any]]] = [
    (
        utils.build_webtransport_url,
        {"host": "a", "port": 1, "path": "/", "query_params": {"a": "b"}},
    ),
    (utils.parse_webtransport_url, {"url": CLOSED}),
    (utils.validate_url, {"url": CLOSED}),
    (utils.is_ipv4_address, {"host": "a"}),
    (utils.is_ipv6_address, {"host": "a"}),
    (utils.resolve_address, {"host": "127.0.0.1", "port": 1, "family": 0}),
    (utils.certificate_hash, {"certificate": "x"}),
    (utils.load_certificate, {"certfile": "c", "keyfile": "k"}),
    (utils.ensure_bytes, {"data": b"x", "encoding": "utf-8"}),
    (utils.ensure_str, {"data": b"x", "encoding": "utf-8"}),
    (utils.calculate_checksum, {"data": b"x", "algorithm": "sha256"}),
    (utils.chunked_read, {"data": b"x", "chunk_size": 1}),
    (utils.format_bytes, {"data": b"x", "max_length": 1}),
    (utils.merge_configs, {"base_config": {}, "override_config": {}}),
    (utils.normalize_headers, {"headers": {}}),
    (utils.format_duration, {"seconds": 1.0}),
    (utils.format_timestamp, {"timestamp": 1.0}),
    (utils.wait_for_condition, {"condition": lambda: True, "timeout": 1.0, "interval": 0.1}),
    (utils.validate_address, {"address": ("a", 1)}),
    (utils.validate_error_code, {"error_code": 1}),
    (utils.validate_port, {"port": 1}),
    (utils.validate_session_id, {"session_id": "a"}),
    (utils.validate_stream_id, {"stream_id": 1}),
]


@pytest.mark.parametrize(
    ("call", "good"), HELPERS, ids=lambda value: getattr(value, "__name__", "")
)
@pytest.mark.loops("asyncio")
async def test_helpers(call: Callable[..., Any], good: dict[str, Any]) -> None:
    await check(call, good)


@pytest.mark.loops("asyncio")
async def test_certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    good = {"hostname": "a", "output_dir": str(tmp_path / "d"), "key_size": 1, "days_valid": 1}
    await check(utils.generate_self_signed_cert, good)


@pytest.mark.loops("asyncio")
async def test_coroutines_with_limits() -> None:
    """A coroutine that is not run because of another argument is closed, without a warning."""

    async def quick() -> int:
        return 1

    async def task_of(**values: Any) -> None:
        await (await utils.create_task_with_timeout(quick(), **values))

    await check(task_of, {"timeout": 1.0, "name": "n"})
    await check(utils.create_task_with_timeout, {"coro": None})
    await check(utils.run_with_timeout, {"coro": None, "timeout": 1.0}, only=["coro"])
    await check(lambda timeout: utils.run_with_timeout(quick(), timeout=timeout), {"timeout": 1.0})


def test_every_helper_is_here() -> None:
    without_arguments = {
        name for name in utils.__all__ if not inspect.signature(getattr(utils, name)).parameters
    }
    tested = {call.__name__ for call, _ in HELPERS} | {
        "generate_self_signed_cert",
        "create_task_with_timeout",
        "run_with_timeout",
        "get_logger",
        "setup_logging",
        "JsonFormatter",  # tests/unit/test_json_logs.py
        "Timer",
    }
    assert tested == set(utils.__all__) - without_arguments


# --------------------------------------------------------------------------- clients


@pytest.mark.loops("asyncio")
async def test_making_clients(client_config: ClientFactory) -> None:
    config = client_config()
    await check(WebTransportClient, {"config": config})
    await check(WebTransportClient.create, {"url": CLOSED, "config": config})
    await check(WebTransportBrowser, {"config": config})
    await check(ClientPool, {"configs": [config]})
    await check(
        lambda **values: ClientPool.create(**values),
        {"num_clients": 1, "base_config": config},
        only=["base_config"],
    )
    pooled = {"config": config, "pool_size": 1, "cleanup_interval": 1.0, "max_idle_time": 1.0}
    await check(PooledClient, pooled)
    async with WebTransportClient(config=config) as client:
        await check(ClientMonitor, {"client": client, "monitoring_interval": 1.0})
    await check(WebTransportConnection, {"config": config})
    await check(ConnectionPool, {"max_size": 1, "max_idle_time": 1.0, "cleanup_interval": 1.0})
    await check(
        ConnectionLoadBalancer,
        {"targets": [("a", 1)], "health_check_interval": 1.0, "health_check_timeout": 1.0},
    )
    await check(
        ConnectionManager,
        {"max_connections": 1, "connection_idle_timeout": 1.0},
    )


@pytest.mark.loops("asyncio")
async def test_using_clients(client_config: ClientFactory) -> None:
    config = client_config(connect_timeout=0.5)

    async with WebTransportClient(config=config) as client:
        before = client.debug_state()["client"]
        await check(client.connect, {"url": CLOSED, "timeout": 0.5})
        await check(client.connect, {"url": CLOSED, "headers": {}}, only=["headers"])
        await check(client.set_default_headers, {"headers": {}}, only=["headers"])
        client.set_default_headers({})
        assert client.debug_state()["client"] == before
        assert client.connections == ()
    async with PooledClient(config=config) as pool:
        await check(pool.get_session, {"url": CLOSED})
        await check(pool.return_session, {"session": None})
        assert pool.get_stats()["endpoints"] == 0
    async with WebTransportBrowser(config=config) as browser:
        await check(browser.navigate, {"url": CLOSED})
        assert await browser.get_history() == []
    async with ClientPool([config]) as clients:
        await check(clients.connect_all, {"url": CLOSED})
    good = {"url": CLOSED, "config": config, "num_requests": 1, "concurrent_requests": 1}
    await check(benchmark_client_performance, good, only=["url", "config"])
    await check(client_connectivity, {"url": CLOSED, "config": config, "timeout": 0.5})


# ------------------------------------------------------------------------ connections


@pytest.mark.loops("asyncio")
async def test_connecting(client_config: ClientFactory) -> None:
    config = client_config(connect_timeout=0.5)
    there = {"config": config, "host": "127.0.0.1", "port": 9}
    await check(WebTransportConnection.create_client, {**there, "path": "/"})
    retry = {**there, "path": "/", "max_retries": 0, "retry_delay": 0.0, "backoff_factor": 1.0}
    await check(
        connecting.connect_with_retry,
        retry,
        only=["config", "host", "port", "path", "retry_delay", "backoff_factor"],
    )
    await check(
        connecting.create_multiple_connections,
        {"config": config, "targets": [("127.0.0.1", 9)], "path": "/", "max_concurrent": 1},
    )
    idle = WebTransportConnection(config=config)
    await check(connecting.ensure_connection, {"connection": idle, **there, "path": "/"})
    await check(
        connecting.test_multiple_connections, {"targets": [("127.0.0.1", 9)], "timeout": 0.5}
    )
    await check(connecting.test_tcp_connection, {"host": "127.0.0.1", "port": 9, "timeout": 0.5})
    async with ConnectionPool() as pool:
        await check(pool.get_connection, {**there, "path": "/"})
        await check(pool.return_connection, {"connection": None})
        assert pool.get_stats()["active_pools"] == 0
    async with ConnectionLoadBalancer([("127.0.0.1", 9)]) as balancer:
        await check(
            balancer.get_connection, {"config": config, "path": "/", "strategy": "round_robin"}
        )
        await check(balancer.update_target_weight, {"host": "127.0.0.1", "port": 9, "weight": 1})
    async with ConnectionManager() as manager:
        await check(manager.add_connection, {"connection": None})
        await check(manager.get_connection, {"connection_id": "a"})
        await check(manager.remove_connection, {"connection_id": "a"})


async def with_connection(
    serving: Serving,
    config: ClientConfig,
    use: Callable[[WebTransportConnection, Served], Awaitable[None]],
) -> None:
    async with serving() as served:
        connection = await WebTransportConnection.create_client(
            config=config, host=served.host, port=served.port
        )
        async with connection:
            await connection.wait_for_ready_session()
            await use(connection, served)
        assert connection.is_closed


@pytest.mark.loops("asyncio")
async def test_a_connection(serving: Serving, client_config: ClientFactory) -> None:
    async def use(connection: WebTransportConnection, served: Served) -> None:
        sessions = {"path": "/", "application_protocols": [], "require_application_protocol": False}
        await check(connection.create_session, sessions, longest=10_000)
        await check(connection.create_session, {"headers": {}})
        await check(connection.wait_ready, {"timeout": 1.0})
        await check(connection.wait_for_ready_session, {"timeout": 1.0})
        await check(connection.migrate, {"local_host": None, "local_port": 0}, only=["local_host"])
        assert connection.is_connected

        # Each is refused before anything is closed.
        for values in ({"code": -1}, {"code": "1"}, {"reason": ValueError()}, {"reason": 3}):
            with pytest.raises(WebTransportError):
                await connection.close(**values)
            assert connection.is_connected
        for values in ({"check_interval": 0}, {"rtt_timeout": "x"}, {"check_interval": None}):
            with pytest.raises(WebTransportError):
                await connection.monitor_health(**values)
        await connection.close(code=3, reason="x" * 5000)

    await with_connection(serving, client_config(), use)


async def test_what_is_set_in_the_configuration_in_force_before_it_is_used_holds(
    serving: Serving, client_config: ClientFactory, server_config: ServerFactory
) -> None:
    """All of it, or it is refused when it is used first."""
    app = ServerApp(config=server_config())
    app.server.config.dialects = [14]

    @app.route("/")
    async def stay(session: WebTransportSession) -> None:
        await session.wait_closed()

    async with app, WebTransportClient(config=client_config()) as client:
        await app.listen(host="127.0.0.1")
        session = await client.connect(Served(app).url("/"))
        assert session.connection is not None
        assert session.connection.dialect == 14
    for field, value in (("dialects", [5]), ("bind_port", "x"), ("max_sessions", None)):
        app = ServerApp(config=server_config())
        setattr(app.server.config, field, value)
        async with app:
            with pytest.raises(ConfigurationError, match=field):
                await app.listen(host="127.0.0.1")
    async with serving() as served:
        for field, value in (("dialects", [5]), ("connect_timeout", "x"), ("headers", {1: 2})):
            async with WebTransportClient(config=client_config()) as client:
                setattr(client.config, field, value)
                with pytest.raises(ConfigurationError, match=field):
                    await client.connect(served.url())
