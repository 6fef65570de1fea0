"""``ServerCluster``: several servers with one life cycle."""

from __future__ import annotations

import asyncio
import socket

import pytest

from pywebtransport import Event, ServerApp, ServerConfig, WebTransportClient
from pywebtransport.exceptions import CertificateError, ConfigurationError, ServerError
from pywebtransport.server import ServerCluster, WebTransportServer
from pywebtransport.session import WebTransportSession
from pywebtransport.types import EventType, SessionCloseInfo
from tests.support.certificates import Certificates
from tests.support.endpoints import ClientFactory, ServerFactory
from tests.support.steps import echo_bidirectional


def echo_app(config: ServerConfig) -> ServerApp:
    """Echoes on ``/echo``."""
    app = ServerApp(config=config)
    app.route("/echo")(echo_bidirectional)
    return app


async def echo(session: WebTransportSession) -> None:
    """Show that a session works."""
    stream = await session.create_bidirectional_stream()
    await stream.write_all(b"hello")
    assert await stream.read_all() == b"hello"


def url(server: WebTransportServer, path: str = "/echo") -> str:
    """Where a server listens."""
    address = server.local_address
    assert address is not None
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    return f"https://{host}:{address[1]}{path}"


async def test_servers_start_and_stop_together(
    server_config: ServerFactory, client_config: ClientFactory
) -> None:
    app = echo_app(server_config())
    order: list[str] = []
    app.on_startup(lambda: order.append("startup"))
    app.on_shutdown(lambda: order.append("shutdown"))
    configs = [server_config(drain_timeout=0), server_config(bind_host="::1")]
    cluster = ServerCluster(configs=configs, app=app)
    assert not cluster.is_running
    assert await cluster.get_server_count() == 0
    for _ in range(2):  # and again
        async with cluster:
            assert cluster.is_running
            await cluster.start_all()  # idempotent
            servers = await cluster.get_servers()
            assert await cluster.get_server_count() == len(servers) == 2
            hosts = [server.local_addresses[0][0] for server in servers]
            assert hosts == ["127.0.0.1", "::1"]
            async with WebTransportClient(config=client_config()) as client:
                sessions = [await client.connect(url(server)) for server in servers]
                await asyncio.gather(*map(echo, sessions))
                stats = await cluster.get_cluster_stats()
                assert stats["server_count"] == 2
                assert stats["total_sessions_accepted"] == 2
                assert stats["total_active_sessions"] == 2
                assert [each["active_sessions"] for each in stats["servers"]] == [1, 1]
                assert [each["local_address"] for each in stats["servers"]] == [
                    server.local_address for server in servers
                ]
                await sessions[1].close()
                await cluster.stop_all()
                assert await sessions[0].wait_closed() == SessionCloseInfo(
                    0, "server shutdown", True
                )
        assert not cluster.is_running
        assert not any(server.is_serving for server in servers)
        assert await cluster.get_cluster_stats() == {"server_count": 0, "servers": []}
    assert order == ["startup", "shutdown"] * 2


async def test_start_is_all_or_nothing(server_config: ServerFactory, certs: Certificates) -> None:
    app = echo_app(server_config())
    order: list[str] = []
    app.on_startup(lambda: order.append("startup"))
    app.on_shutdown(lambda: order.append("shutdown"))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        cluster = ServerCluster(configs=[server_config(), server_config(bind_port=port)], app=app)
        with pytest.raises(ServerError, match=str(port)):
            await cluster.start_all()
    assert order == ["startup", "shutdown"]
    assert not cluster.is_running
    assert await cluster.get_servers() == []
    # Nothing stayed; the port is free now.
    async with cluster:
        assert await cluster.get_server_count() == 2
    wrong = server_config(keyfile=certs.replacement.keyfile)
    with pytest.raises(CertificateError):
        await ServerCluster(configs=[server_config(), wrong]).start_all()


async def test_servers_come_and_go(
    server_config: ServerFactory, client_config: ClientFactory, certs: Certificates
) -> None:
    cluster = ServerCluster(configs=[server_config()], app=echo_app(server_config()))
    assert await cluster.add_server(config=server_config(bind_host="127.0.0.2")) is None
    assert await cluster.add_server(config=server_config(bind_host="127.0.0.9")) is None
    assert await cluster.remove_server(host="127.0.0.9", port=0)
    assert not await cluster.remove_server(host="127.0.0.9", port=0)
    async with cluster, WebTransportClient(config=client_config()) as client:
        assert await cluster.get_server_count() == 2
        added = await cluster.add_server(config=server_config(bind_host="::1"))
        assert added is not None
        assert added in await cluster.get_servers()
        session = await client.connect(url(added))
        await echo(session)
        await session.close()
        with pytest.raises(CertificateError):
            await cluster.add_server(config=server_config(keyfile=certs.replacement.keyfile))
        assert await cluster.get_server_count() == 3
        assert added.local_address is not None
        host, port = added.local_address
        assert await cluster.remove_server(host=host, port=port)
        assert not added.is_serving
        assert not await cluster.remove_server(host=host, port=port)
        assert await cluster.get_server_count() == 2


async def test_without_an_application_servers_emit_requests(
    server_config: ServerFactory, client_config: ClientFactory
) -> None:
    async def answer(event: Event) -> None:
        assert isinstance(event.data, dict)
        session = event.data["session"]
        session.accept()
        await echo_bidirectional(session)

    async with ServerCluster(configs=[server_config()]) as cluster:
        (server,) = await cluster.get_servers()
        server.on(event_type=EventType.SESSION_REQUEST, handler=answer)
        async with (
            WebTransportClient(config=client_config()) as client,
            client.connect(url(server, "/any")) as session,
        ):
            await echo(session)


async def test_routes_and_limits_are_those_of_each_server(
    server_config: ServerFactory, client_config: ClientFactory
) -> None:
    """One application; origins and protocols come from the server that was asked."""
    app = ServerApp(config=server_config(application_protocols=["unused"]))
    app.route("/echo")(echo_bidirectional)
    configs = [server_config(application_protocols=[name]) for name in ("a", "b")]
    config = client_config(application_protocols=["b", "a"])
    async with (
        ServerCluster(configs=configs, app=app) as cluster,
        WebTransportClient(config=config) as client,
    ):
        for server, name in zip(await cluster.get_servers(), ("a", "b"), strict=True):
            async with client.connect(url(server)) as session:
                assert session.application_protocol == name


async def test_workers_are_no_part_of_a_cluster(server_config: ServerFactory) -> None:
    with pytest.raises(ConfigurationError, match=r"run_workers"):
        await ServerCluster(configs=[server_config(workers=2)]).start_all()
    bad = server_config()
    bad.bind_port = -1
    with pytest.raises(ConfigurationError, match="bind_port"):
        ServerCluster(configs=[bad])


async def test_cancelled_start_leaves_nothing(server_config: ServerFactory) -> None:
    app = echo_app(server_config())
    arrived = asyncio.Event()

    @app.on_startup
    async def forever() -> None:
        arrived.set()
        await asyncio.Event().wait()

    cluster = ServerCluster(configs=[server_config()], app=app)
    starting = asyncio.create_task(cluster.start_all())
    await arrived.wait()
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not cluster.is_running
    assert await cluster.get_servers() == []
