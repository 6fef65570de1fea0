"""Whatever takes a configuration refuses the other kind, and what is none, before it begins."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

import pywebtransport
from pywebtransport import ClientConfig, ConfigurationError, ServerConfig, WebTransportClient
from pywebtransport.client import (
    ClientPool,
    PooledClient,
    ReconnectingClient,
    WebTransportBrowser,
    WebTransportProxy,
    benchmark_client_performance,
)
from pywebtransport.client import test_client_connectivity as try_client
from pywebtransport.connection import (
    ConnectionLoadBalancer,
    ConnectionPool,
    WebTransportConnection,
)
from pywebtransport.connection.utils import connect_with_retry, create_multiple_connections
from pywebtransport.forwarder import WebTransportForwarder
from pywebtransport.server import (
    ServerApp,
    ServerCluster,
    WebTransportServer,
    create_echo_server_app,
    run_workers,
    serve,
)
from pywebtransport.testing import serve as serve_tested
from pywebtransport.testing import session_pair

URL = "https://localhost:1/"
FAR: Any = {"host": "localhost", "port": 1}


async def main() -> None:
    raise AssertionError


async def stay(session: object) -> None:
    raise AssertionError


CLIENTS: dict[str, Callable[[Any], Any]] = {
    "connect": lambda config: pywebtransport.connect(URL, config=config),
    "WebTransportClient": lambda config: WebTransportClient(config=config),
    "WebTransportClient.create": lambda config: WebTransportClient.create(URL, config=config),
    "ReconnectingClient": lambda config: ReconnectingClient(URL, config=config),
    "WebTransportBrowser": lambda config: WebTransportBrowser(config=config),
    "PooledClient": lambda config: PooledClient(config=config),
    "ClientPool": lambda config: ClientPool([config]),
    "ClientPool.create": lambda config: ClientPool.create(1, base_config=config),
    "WebTransportProxy": lambda config: WebTransportProxy(URL, config=config),
    "WebTransportProxy, target": lambda config: WebTransportProxy(URL, target_config=config),
    "WebTransportForwarder": lambda config: WebTransportForwarder(URL, config=config),
    "benchmark": lambda config: benchmark_client_performance(
        url=URL, config=config, num_requests=1
    ),
    "test_client": lambda config: try_client(url=URL, config=config),
    "create_client": lambda config: WebTransportConnection.create_client(config=config, **FAR),
    "ConnectionPool": lambda config: ConnectionPool().get_connection(config=config, **FAR),
    "balancer": lambda config: ConnectionLoadBalancer(targets=[("localhost", 1)]).get_connection(
        config=config
    ),
    "connect_with_retry": lambda config: connect_with_retry(config=config, **FAR),
    "create_multiple_connections": lambda config: create_multiple_connections(
        config=config, targets=[("localhost", 1)]
    ),
    "session_pair": lambda config: session_pair(client_config=config),
}
SERVERS: dict[str, Callable[[Any], Any]] = {
    "serve": lambda config: serve(stay, config=config),
    "WebTransportServer": lambda config: WebTransportServer(config=config),
    "configure": lambda config: WebTransportServer().configure(config),
    "ServerApp": lambda config: ServerApp(config=config),
    "ServerCluster": lambda config: ServerCluster([config]),
    "add_server": lambda config: ServerCluster([]).add_server(config),
    "create_echo_server_app": lambda config: create_echo_server_app(config=config),
    "testing.serve": lambda config: serve_tested(stay, config=config),
    "session_pair": lambda config: session_pair(server_config=config),
}
CASES = [
    *((ClientConfig, name, call) for name, call in CLIENTS.items()),
    *((ServerConfig, name, call) for name, call in SERVERS.items()),
]


async def use(made: Any) -> None:
    if isinstance(made, AbstractAsyncContextManager):
        async with made:
            raise AssertionError
    if inspect.isawaitable(made):
        await made


@pytest.mark.parametrize("wrong", ["the other kind", {"connect_timeout": 1}, 5, "text"])
@pytest.mark.parametrize(
    ("kind", "call"), [(kind, call) for kind, _, call in CASES], ids=[case[1] for case in CASES]
)
async def test_a_configuration_of_the_wrong_kind_is_refused(
    kind: type, call: Callable[[Any], Awaitable[None]], wrong: Any
) -> None:
    if wrong == "the other kind":
        wrong = ServerConfig() if kind is ClientConfig else ClientConfig()
    with pytest.raises(ConfigurationError, match=f"expected a {kind.__name__}") as refused:
        await use(call(wrong))
    key = refused.value.config_key
    assert key is not None
    assert "config" in key
    assert f"{key} = " in str(refused.value)
    assert refused.value.config_value is wrong


@pytest.mark.parametrize("wrong", [ClientConfig(), None, 5])
def test_workers_need_the_configuration_of_a_server(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="expected a ServerConfig") as refused:
        run_workers(main, config=wrong)
    assert refused.value.config_key == "config"


async def test_a_reconnecting_client_needs_a_configuration() -> None:
    with pytest.raises(ConfigurationError, match="expected a ClientConfig"):
        ReconnectingClient(URL, config=None)  # type: ignore[arg-type]


async def test_client_for_a_served_application_refuses_the_wrong_kind() -> None:
    async with serve_tested(stay) as served:
        for wrong in (ServerConfig(), 5):
            for method in (served.client, served.client_config):
                with pytest.raises(ConfigurationError, match="expected a ClientConfig"):
                    method(wrong)  # type: ignore[arg-type]
