"""Servers: middleware, routes, events instead of routes, monitors, ready-made ones, clusters."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from pywebtransport import (
    ClientConfig,
    ClientError,
    Event,
    EventType,
    Headers,
    ServerApp,
    ServerConfig,
    ServerError,
    WebTransportClient,
    WebTransportSession,
    create_development_server,
)
from pywebtransport.server import (
    MiddlewareManager,
    RequestRouter,
    ServerCluster,
    ServerMonitor,
    ServerStats,
    WebTransportServer,
    create_auth_middleware,
    create_cors_middleware,
    create_echo_server_app,
    create_logging_middleware,
    create_rate_limit_middleware,
    create_simple_app,
    echo_handler,
    health_check_handler,
)
from pywebtransport.server.middleware import RateLimiter
from pywebtransport.types import AuthHandlerProtocol, MiddlewareProtocol
from tests.support.certificates import Certificates
from tests.support.endpoints import ClientFactory, ServerFactory, Serving
from tests.support.steps import until


class CheckToken:
    async def __call__(self, *, headers: Headers) -> bool:
        return headers.get("authorization") == "Bearer t"


async def ask(session: WebTransportSession, text: bytes) -> bytes:
    stream = await session.create_bidirectional_stream()
    await stream.write_all(data=text)
    return await stream.read_all()


async def status(client: WebTransportClient, url: str, headers: Headers) -> int:
    try:
        session = await client.connect(url=url, headers=headers)
    except ClientError as error:
        return int(error.details["status_code"])
    await session.close()
    return 200


async def test_middleware_decides(
    serving: Serving, server_config: ServerFactory, client_config: ClientFactory
) -> None:
    seen: list[str] = []
    check = CheckToken()
    assert isinstance(check, AuthHandlerProtocol)
    limiter = create_rate_limit_middleware(max_requests=6, window_seconds=600, cleanup_interval=60)
    assert isinstance(limiter, RateLimiter)
    authenticate = create_auth_middleware(auth_handler=check)
    assert isinstance(authenticate, MiddlewareProtocol)
    app = ServerApp(config=server_config(middleware=[create_logging_middleware()]))
    app.add_middleware(middleware=authenticate)
    app.add_middleware(middleware=create_cors_middleware(allowed_origins=["https://good.example"]))
    app.add_middleware(middleware=limiter)

    @app.middleware
    async def note(session: WebTransportSession) -> bool:
        seen.append(session.path)
        return session.path != "/forbidden"

    @app.route(path="/echo")
    async def echo(session: WebTransportSession) -> None:
        await echo_handler(session)

    @app.route(path="/forbidden")
    async def never(session: WebTransportSession) -> None:
        raise AssertionError

    good = {"authorization": "Bearer t", "origin": "https://good.example"}
    async with (
        limiter,
        serving(app) as served,
        WebTransportClient(config=client_config()) as client,
    ):
        echo_url = served.url("/echo")
        assert await status(client, echo_url, good) == 200
        assert await status(client, echo_url, good | {"authorization": "Bearer x"}) in (401, 403)
        assert await status(client, echo_url, good | {"origin": "https://bad.example"}) == 403
        assert await status(client, served.url("/forbidden"), good) == 403
        assert seen == ["/echo", "/forbidden"]
        for _ in range(4):
            assert await status(client, echo_url, good) == 200
        assert await status(client, echo_url, good) == 429


async def test_managers_and_routers_alone(serving: Serving, client_config: ClientFactory) -> None:
    manager, router = MiddlewareManager(), RequestRouter()
    asked: list[str] = []

    async def fallback(session: WebTransportSession) -> None:
        asked.append("fallback")

    async def no(*, session: WebTransportSession) -> bool:
        return False

    async def decide(session: WebTransportSession) -> None:
        assert await manager.process_request(session=session)
        manager.add_middleware(middleware=no)
        assert manager.get_middleware_count() == 1
        assert not await manager.process_request(session=session)
        manager.remove_middleware(middleware=no)
        handler = router.route_request(session=session)
        asked.append("none" if handler is None else handler.__name__)

    router.add_route(path="/echo", handler=echo_handler)
    router.add_pattern_route(pattern=r"/users/(\d+)", handler=health_check_handler)
    router.set_default_handler(handler=fallback)
    assert router.get_route_handler(path="/echo") is echo_handler
    assert set(router.get_all_routes()) == {"/echo", r"/users/(\d+)"}
    stats = router.get_route_stats()
    assert stats["has_default_handler"]
    async with serving(decide) as served, WebTransportClient(config=client_config()) as client:
        for path in ("/echo", "/users/7", "/other"):
            await client.connect(url=served.url(path))
        await until(lambda: len(asked) == 3)
    assert asked == ["echo_handler", "health_check_handler", "fallback"]
    router.remove_route(path="/echo")
    assert router.get_route_handler(path="/echo") is None


async def test_a_server_with_events_instead_of_routes(
    server_config: ServerFactory, client_config: ClientFactory
) -> None:
    server = WebTransportServer(config=server_config())
    tasks: set[asyncio.Task[None]] = set()

    async def requested(event: Event) -> None:
        assert event.data is not None
        session = event.data["session"]
        if session.path == "/no":
            session.reject(status_code=404)
            return
        session.accept()
        task = asyncio.create_task(echo_handler(session))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server.on(event_type=EventType.SESSION_REQUEST, handler=requested)
    async with server:
        await server.listen(host="127.0.0.1", port=0)
        serving_task = asyncio.create_task(server.serve_forever())
        assert server.is_serving
        assert server.local_address is not None
        assert server.config.bind_port == 0
        host, port = server.local_address
        async with (
            WebTransportClient(config=client_config()) as client,
            ServerMonitor.create(server=server, monitoring_interval=0.01) as monitor,
        ):
            url = f"https://{host}:{port}"
            session = await client.connect(url=f"{url}/echo")
            assert await ask(session, b"hello") == b"hello"
            assert await status(client, f"{url}/no", {}) == 404
            assert server.session_manager.get_session_count() == 1
            assert len(await server.session_manager.get_all_sessions()) == 1
            assert monitor.is_monitoring
            await until(lambda: len(monitor.get_metrics_history(limit=2)) == 2)
            assert monitor.get_current_metrics() is not None
            assert monitor.get_health_status()["status"]
            assert monitor.get_alerts(limit=5) == []
            monitor.clear_history()
            stats = await server.get_server_stats()
            assert stats["connections_accepted"] == 2
            state = await server.debug_state()
            assert state["server_info"]["serving"] is True
            assert isinstance(await server.diagnose_issues(), list)
        await server.close()
        await serving_task
    await until(lambda: not tasks)
    assert not server.is_serving
    assert ServerStats(connections_accepted=3).to_dict()["connections_accepted"] == 3


async def test_ready_made_applications(
    serving: Serving, server_config: ServerFactory, client_config: ClientFactory
) -> None:
    async with (
        serving(create_echo_server_app(config=server_config())) as served,
        WebTransportClient(config=client_config()) as client,
        await client.connect(url=served.url("/anything")) as session,
    ):
        assert await ask(session, b"stream") == b"stream"
        await session.datagrams.send(data=b"datagram")
        assert await session.datagrams.receive(timeout=20.0) == b"datagram"


async def test_the_simple_application(certs: Certificates, client_config: ClientFactory) -> None:
    app = create_simple_app()
    async with app:
        task = asyncio.create_task(
            app.serve(host="127.0.0.1", port=0, retry="off", **certs.server.files)
        )
        await until(lambda: app.server.local_address)
        assert app.server.local_address is not None
        url = "https://{}:{}".format(*app.server.local_address)
        async with WebTransportClient(config=client_config()) as client:
            session = await client.connect(url=f"{url}/health")
            report = await anext(aiter(session.incoming_streams()))
            assert json.loads(await report.read_all())["status"] == "healthy"
            async with await client.connect(url=f"{url}/echo") as echoing:
                assert await ask(echoing, b"x") == b"x"
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_the_development_server() -> None:
    app = create_development_server(host="localhost", port=0, generate_certs=True)

    @app.route(path="/echo")
    async def echo(session: WebTransportSession) -> None:
        await echo_handler(session)

    config = ClientConfig.create_for_development(verify_ssl=False)
    async with app:
        task = asyncio.create_task(app.serve(host="127.0.0.1", port=0))
        await until(lambda: app.server.local_address)
        assert app.server.local_address is not None
        _, port = app.server.local_address
        async with (
            WebTransportClient(config=config) as client,
            await client.connect(url=f"https://127.0.0.1:{port}/echo") as session,
        ):
            assert await ask(session, b"hello") == b"hello"
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_an_address_that_is_taken(serving: Serving, server_config: ServerFactory) -> None:
    async with serving() as served:
        async with WebTransportServer(config=server_config()) as server:
            with pytest.raises(ServerError) as caught:
                await server.listen(host=served.host, port=served.port)
        assert caught.value.bind_address == (served.host, served.port)


async def test_a_cluster(server_config: ServerFactory, client_config: ClientFactory) -> None:
    configs: list[ServerConfig] = [server_config(), server_config()]
    reached: list[Any] = []

    async def requested(event: Event) -> None:
        assert event.data is not None
        event.data["session"].accept()
        reached.append(event.source)

    async with ServerCluster(configs=configs) as cluster:
        assert cluster.is_running
        assert await cluster.get_server_count() == 2
        added = await cluster.add_server(config=server_config())
        assert added is not None
        servers = await cluster.get_servers()
        assert added in servers
        async with WebTransportClient(config=client_config()) as client:
            for server in servers:
                server.on(event_type=EventType.SESSION_REQUEST, handler=requested)
                assert server.local_address is not None
                host, port = server.local_address
                session = await client.connect(url=f"https://{host}:{port}/")
                await session.close()
        assert reached == servers
        stats = await cluster.get_cluster_stats()
        assert stats["server_count"] == 3
        assert stats["total_connections_accepted"] == 3
        assert added.local_address is not None
        host, port = added.local_address
        assert await cluster.remove_server(host=host, port=port)
        assert not await cluster.remove_server(host=host, port=port)
        await cluster.stop_all()
        assert not cluster.is_running
        await cluster.start_all()
        assert await cluster.get_server_count() == 2
    assert await cluster.get_servers() == []
