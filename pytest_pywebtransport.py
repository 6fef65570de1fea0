"""Fixtures of pywebtransport for pytest; pytest loads this module by itself.

It stands beside the package and imports it only for tests that use a fixture, so that other
tests pay nothing. The fixtures are described in "Testing your application".
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pywebtransport import (
        ClientConfig,
        ServerApp,
        ServerConfig,
        WebTransportClient,
        WebTransportSession,
    )
    from pywebtransport.testing import Certificate, Network, Served
    from pywebtransport.types import SessionHandler

__all__ = [
    "webtransport_app",
    "webtransport_certificate",
    "webtransport_client",
    "webtransport_client_config",
    "webtransport_network",
    "webtransport_serve",
    "webtransport_server",
    "webtransport_server_config",
    "webtransport_session_pair",
]


# ------------------------------------------------------ for tests with any runner


@pytest.fixture(scope="session")
def webtransport_certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """A ``pywebtransport.testing.Certificate`` for the whole run."""
    from pywebtransport.testing import certificate

    return certificate(directory=tmp_path_factory.mktemp("webtransport"))


@pytest.fixture
def webtransport_serve(
    webtransport_certificate: Certificate,
) -> Callable[..., AbstractAsyncContextManager[Served]]:
    """``pywebtransport.testing.serve`` with the certificate of the run."""
    from pywebtransport.testing import serve

    def start(
        target: ServerApp | SessionHandler,
        *,
        config: ServerConfig | None = None,
        certificate: Certificate | None = None,
        network: Network | None = None,
        host: str = "127.0.0.1",
    ) -> AbstractAsyncContextManager[Served]:
        if certificate is None:
            certificate = webtransport_certificate
        return serve(target, config=config, certificate=certificate, network=network, host=host)

    return start


# ------------------------------------------------------------------ to be overridden


@pytest.fixture
def webtransport_app() -> ServerApp | SessionHandler:
    """What ``webtransport_server`` serves: an application or a handler. Override it."""
    raise pytest.UsageError(
        "webtransport_server serves what a fixture webtransport_app returns; define one that "
        "returns your ServerApp, or a handler for sessions"
    )


@pytest.fixture
def webtransport_network() -> Network | None:
    """The network of ``webtransport_session_pair``; override it for one with faults."""
    return None


@pytest.fixture
def webtransport_client_config() -> ClientConfig | None:
    """The configuration of clients; override it."""
    return None


@pytest.fixture
def webtransport_server_config() -> ServerConfig | None:
    """The configuration of the server's end of ``webtransport_session_pair``; override it."""
    return None


# -------------------------------------------- for tests by pytest-asyncio and anyio


@pytest.fixture
def webtransport_server(request: pytest.FixtureRequest) -> Served:
    """A server for ``webtransport_app``, on a free port of this machine."""
    served: Served = _run(request, "server")
    return served


@pytest.fixture
def webtransport_client(request: pytest.FixtureRequest) -> WebTransportClient:
    """A client that trusts ``webtransport_certificate``."""
    client: WebTransportClient = _run(request, "client")
    return client


@pytest.fixture
def webtransport_session_pair(
    request: pytest.FixtureRequest,
) -> tuple[WebTransportSession, WebTransportSession]:
    """Both ends of a session over ``webtransport_network``: the client's and the server's."""
    pair: tuple[WebTransportSession, WebTransportSession] = _run(request, "session_pair")
    return pair


# ------------------------------------------------------------------------ internal


def pytest_configure(config: pytest.Config) -> None:
    """Make the fixtures that run in an event loop, for each plugin that runs coroutines."""
    plugins = config.pluginmanager
    if plugins.has_plugin("anyio"):
        plugins.register(_async_fixtures(pytest.fixture, "anyio"), "pywebtransport-anyio")
    if plugins.has_plugin("asyncio"):
        import pytest_asyncio

        plugins.register(
            _async_fixtures(pytest_asyncio.fixture, "asyncio"), "pywebtransport-asyncio"
        )


def _async_fixtures(
    fixture: Callable[..., Callable[[Callable[..., Any]], object]], runner: str
) -> ModuleType:
    """New functions for each plugin, since they mark what they run."""

    @fixture(name=f"_webtransport_server_{runner}")
    async def server(webtransport_serve: Any, webtransport_app: Any) -> AsyncIterator[Served]:
        async with webtransport_serve(webtransport_app) as served:
            yield served

    @fixture(name=f"_webtransport_client_{runner}")
    async def client(
        webtransport_certificate: Certificate, webtransport_client_config: ClientConfig | None
    ) -> AsyncIterator[WebTransportClient]:
        from pywebtransport import ClientConfig, WebTransportClient

        config = webtransport_client_config or ClientConfig()
        if config.ca_certs is None and not config.server_certificate_hashes:
            config = config.update(server_certificate_hashes=[webtransport_certificate.hash])
        async with WebTransportClient(config=config) as client:
            yield client

    @fixture(name=f"_webtransport_session_pair_{runner}")
    async def session_pair(
        webtransport_network: Network | None,
        webtransport_client_config: ClientConfig | None,
        webtransport_server_config: ServerConfig | None,
    ) -> AsyncIterator[tuple[WebTransportSession, WebTransportSession]]:
        from pywebtransport.testing import session_pair

        async with session_pair(
            network=webtransport_network,
            client_config=webtransport_client_config,
            server_config=webtransport_server_config,
        ) as pair:
            yield pair

    plugin = ModuleType(f"pytest_pywebtransport.{runner}")
    vars(plugin).update(server=server, client=client, session_pair=session_pair)
    return plugin


def _run(request: pytest.FixtureRequest, name: str) -> Any:
    """The value of an asynchronous fixture, run by the plugin that runs the test."""
    plugins = request.config.pluginmanager
    if "anyio_backend" in request.fixturenames:
        backend = request.getfixturevalue("anyio_backend")
        if (backend if isinstance(backend, str) else backend[0]) != "asyncio":
            pytest.fail(
                "pywebtransport runs on asyncio; let a fixture anyio_backend return 'asyncio'",
                pytrace=False,
            )
        return request.getfixturevalue(f"_webtransport_{name}_anyio")
    if plugins.has_plugin("asyncio") and inspect.iscoroutinefunction(request.function):
        return request.getfixturevalue(f"_webtransport_{name}_asyncio")
    raise pytest.UsageError(
        f"webtransport_{name} is for coroutine tests that pytest-asyncio or the plugin of anyio "
        "runs; for others there are webtransport_serve and pywebtransport.testing.session_pair"
    )
