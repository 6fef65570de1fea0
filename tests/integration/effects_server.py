"""Effects of the fields of servers; see ``effects.py``."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import socket
from typing import Any

import pytest
import websockets
from wsproto.events import BytesMessage, Ping

from pywebtransport import (
    ConfigurationError,
    ConnectionError,
    WebTransportError,
    WebTransportSession,
)
from pywebtransport.exceptions import SessionRejectedError
from pywebtransport.server import WebTransportServer
from pywebtransport.server._collector import collector
from tests.integration.effects import Bed, Tap, effect, elapsed, engine_stats, refused
from tests.support.asgi_http import answer, asgi_served, echo, echo_messages
from tests.support.balancer import Balancer
from tests.support.endpoints import Served, pair
from tests.support.ports import free_port
from tests.support.processes import ServerProcess
from tests.support.qmux_server import QMuxServed
from tests.support.steps import until
from tests.support.websocket import WebSocketClient


@effect("access_log", only="server")
async def requests_are_logged(bed: Bed) -> None:
    bed.logs.set_level(logging.INFO, logger="pywebtransport")
    for switch in (False, True):
        async with pair(bed.certs, server={"access_log": switch}):
            pass
        names = [record.name for record in bed.logs.records]
        assert ("pywebtransport.access" in names) == switch


@effect("allowed_origins", only="server")
async def other_origins_are_refused(bed: Bed) -> None:
    async with bed.serving(allowed_origins=["https://a.test"]) as served, bed.client() as client:
        await client.connect(served.url(), headers={"origin": "https://a.test"})
        error = await refused(
            client.connect(served.url(), headers={"origin": "https://b.test"}),
            SessionRejectedError,
        )
        assert error.status_code == 403


@effect("bind_host", "bind_port", only="server")
async def the_server_listens_there(bed: Bed) -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as free:
        free.bind(("::1", 0))
        port = free.getsockname()[1]
    async with bed.serving(bind_host="::1", bind_port=port) as served:
        assert served.server.local_addresses == [("::1", port)]


@effect("ca_certs", "verify_mode", only="server")
async def certificates_of_clients_are_checked(bed: Bed) -> None:
    async def connect(files: dict[str, str], **fields: Any) -> None:
        async with (
            bed.serving(ca_certs=bed.certs.authority.certfile, **fields) as served,
            bed.client(**files) as client,
        ):
            session = await client.connect(served.url())
            await session.datagrams.send(b"x")
            await until(lambda: session.is_closed or served.server.sessions)
            assert not session.is_closed

    await connect({}, verify_mode="CERT_NONE")
    await connect({}, verify_mode="CERT_OPTIONAL")
    await connect(bed.certs.client.files, verify_mode="CERT_REQUIRED")
    await refused(connect({}, verify_mode="CERT_REQUIRED"), WebTransportError)
    await refused(connect(bed.certs.stranger.files, verify_mode="CERT_REQUIRED"), WebTransportError)


@effect("quic_lb_server_id", "quic_lb_config_id", only="server")
async def balancers_can_read_connection_ids(bed: Bed) -> None:
    fields = {"quic_lb_server_id": b"\xaa\xbb", "quic_lb_config_id": 5}
    async with bed.serving(**fields) as served, bed.client() as client:
        for config, routes in ((5, True), (4, False)):
            balancer = Balancer({b"\xaa\xbb": served.server.port}, config)
            try:
                await client.connect(f"https://127.0.0.1:{balancer.port}/")
                assert bool(balancer.routed[b"\xaa\xbb"]) is routes
            finally:
                balancer.close()


@effect("certfile", "keyfile", only="server")
async def the_server_shows_its_certificate(bed: Bed) -> None:
    for files in (bed.certs.server, bed.certs.replacement):
        async with pair(bed.certs, server=files.files) as (near, _):
            assert near.connection is not None
            assert near.connection.peer_certificate == files.der


@effect("sni_certificates", only="server")
async def names_have_certificates(bed: Bed) -> None:
    names = {"localhost": (bed.certs.replacement.certfile, bed.certs.replacement.keyfile)}
    async with bed.serving(sni_certificates=names) as served, bed.client() as client:
        for host, files in (("127.0.0.1", bed.certs.server), ("localhost", bed.certs.replacement)):
            session = await client.connect(served.url(host=host))
            assert session.connection is not None
            assert session.connection.peer_certificate == files.der


@effect("drain_timeout", only="server")
async def closing_leaves_time_to_sessions(bed: Bed) -> None:
    for seconds in (0.0, 0.5):
        async with bed.serving(drain_timeout=seconds) as served, bed.client() as client:
            await client.connect(served.url())
            assert await elapsed(served.server.close()) >= seconds


@effect("gc_policy", only="server")
async def the_collector_leaves_sessions_alone(bed: Bed) -> None:
    try:
        for policy in ("off", "auto", "server"):
            async with bed.serving(gc_policy=policy):
                assert collector.is_active == (policy == "server")
            assert not collector.is_active
    finally:
        gc.collect()
        gc.freeze()  # as the tests have it


async def over_tcp(bed: Bed, served: Served, name: str) -> str | None:
    """Ask for a session over WebSocket; the subprotocol that was chosen."""
    async with QMuxServed(served, bed.certs).websocket("/", [name]) as socket:
        chosen: str | None = socket.subprotocol
        return chosen


@effect("websocket", only="server")
async def sessions_come_over_tcp(bed: Bed) -> None:
    async with bed.serving(websocket=True) as served:
        assert await over_tcp(bed, served, "qmux-02") == "qmux-02"
    async with bed.serving(websocket=False) as served:
        with pytest.raises(ConnectionRefusedError):
            await over_tcp(bed, served, "qmux-02")


@effect("websocket_legacy", only="server")
async def the_older_framing_is_accepted(bed: Bed) -> None:
    async with bed.serving(websocket=True, websocket_legacy=True) as served:
        assert await over_tcp(bed, served, "webtransport") == "webtransport"
    async with bed.serving(websocket=True, websocket_legacy=False) as served:
        with pytest.raises(websockets.InvalidStatus):
            await over_tcp(bed, served, "webtransport")


@effect("shutdown_timeout", only="server")
async def the_process_does_not_wait_for_ever(bed: Bed) -> None:
    fields = {"bind_host": "127.0.0.1", "bind_port": 0, **bed.certs.server.files}
    times = {"drain_timeout": 0, "close_timeout": 0.1}
    for seconds, status in ((0.0, 70), (60.0, 0)):
        config = json.dumps(fields | times | {"shutdown_timeout": seconds})
        process = ServerProcess("-m", "tests.support.stuck_process", "patient", "asyncio", config)
        try:
            await asyncio.to_thread(process.stop)
        finally:
            process.kill()
        assert process.returncode == status


@effect("drain_spread", only="server")
async def clients_are_told_one_after_the_other(bed: Bed) -> None:
    for seconds in (0.0, 1.0):
        fields = {"drain_spread": seconds, "drain_timeout": 0.1}
        async with bed.serving(**fields) as served, bed.client() as client:
            for _ in range(2):
                await client.connect(served.url())
            # The second hears of it after half of the time, and has its own after that.
            assert await elapsed(served.server.close()) >= seconds / 2 + 0.1


@effect("max_connections", only="server")
async def connections_of_a_server_end(bed: Bed) -> None:
    async with bed.serving(max_connections=1) as served, bed.client() as client:
        await client.connect(served.url())
        await refused(client.connect(served.url()), ConnectionError)


async def half_open(bed: Bed, stack: contextlib.AsyncExitStack, **fields: Any) -> dict[str, int]:
    """Figures of a server that three clients asked and never heard of."""
    served = await stack.enter_async_context(bed.serving(**fields))
    tap = await stack.enter_async_context(Tap((served.host, served.port)))
    tap.deaf = True
    client = await stack.enter_async_context(bed.client())
    tries = [
        asyncio.ensure_future(client.connect(f"https://127.0.0.1:{tap.port}/")) for _ in range(3)
    ]
    try:
        await until(lambda: len(tap.up) >= 6)
        stats: dict[str, int] = (await served.server.get_server_stats())["engine"]
        return stats
    finally:
        for attempt in tries:
            attempt.cancel()
        await asyncio.wait(tries)


@effect("max_half_open_connections", only="server")
async def unfinished_handshakes_end(bed: Bed) -> None:
    async with contextlib.AsyncExitStack() as stack:
        assert (await half_open(bed, stack))["half_open"] == 3
        assert (await half_open(bed, stack, max_half_open_connections=1))["half_open"] == 1


@effect("max_handshakes_per_address", only="server")
async def an_address_connects_so_often_per_second(bed: Bed) -> None:
    async with bed.serving(max_handshakes_per_address=1) as served:
        for _ in range(3):
            async with bed.client() as client:
                await client.connect(served.url())
        assert (await served.server.get_server_stats())["engine"]["rate_limited"] > 0


@effect("max_sessions", only="server")
async def sessions_of_a_server_end(bed: Bed) -> None:
    async with bed.serving(max_sessions=1) as served, bed.client() as client:
        await client.connect(served.url())
        error = await refused(client.connect(served.url()), SessionRejectedError)
        assert error.status_code == 429


async def only_two_at_first(bed: Bed, field: str, error: type[Exception]) -> Any:
    """Two of one address, and of another; all of them when there is no limit."""
    async with bed.serving(host="localhost", **{field: 2}) as served, bed.client() as client:
        for _ in range(2):
            await client.connect(served.url(host="127.0.0.1"))
        found = await refused(client.connect(served.url(host="127.0.0.1")), error)
        await client.connect(served.url(host="[::1]"))
    async with bed.serving(**{field: None}) as served, bed.client() as client:
        for _ in range(3):
            await client.connect(served.url())
    return found


@effect("max_connections_per_address", only="server")
async def connections_of_an_address_end(bed: Bed) -> None:
    await only_two_at_first(bed, "max_connections_per_address", ConnectionError)


@effect("max_sessions_per_address", only="server")
async def sessions_of_an_address_end(bed: Bed) -> None:
    error = await only_two_at_first(bed, "max_sessions_per_address", SessionRejectedError)
    assert error.status_code == 429
    assert int(error.headers["retry-after"]) > 0


@effect("max_streams_per_connection", only="server")
async def streams_of_a_connection_end(bed: Bed) -> None:
    async with pair(bed.certs, server={"max_streams_per_connection": 1}) as (_, far):
        await far.create_unidirectional_stream()
        await refused(far.create_bidirectional_stream(timeout=0.05), WebTransportError)


@effect("middleware", only="server")
async def requests_pass_the_middleware(bed: Bed) -> None:
    async def allow_some(*, session: WebTransportSession) -> bool:
        return session.path == "/yes"

    async with bed.serving(middleware=[allow_some]) as served, bed.client() as client:
        await client.connect(served.url("/yes"))
        await refused(client.connect(served.url("/no")), SessionRejectedError)


@effect("retry", only="server")
async def clients_prove_their_address(bed: Bed) -> None:
    for policy, sent in (("off", 0), ("auto", 0), ("always", 1)):
        async with pair(bed.certs, server={"retry": policy}) as (_, far):
            assert engine_stats(far)["retries_sent"] == sent


@effect("shared_secret", only="server")
async def another_server_takes_its_tickets(bed: Bed) -> None:
    """``test_restarts.py`` does it with processes."""
    secret, port = bytes(range(32)), free_port()
    async with bed.client() as client:
        for expected in (False, True):
            async with bed.serving(shared_secret=secret, bind_port=port) as served:
                session = await client.connect(served.url())
                assert session.connection is not None
                assert session.connection._quic is not None
                assert session.connection._quic.resumed == expected
                connection = session.connection
                await until(lambda connection=connection: connection.session_ticket)


@effect("workers", only="server")
async def several_processes_are_wanted(bed: Bed) -> None:
    """``test_workers.py`` runs them; here is none that could share the port."""
    server = WebTransportServer(config=bed.server_config(workers=2))
    await refused(server.listen(), ConfigurationError, "workers")
    await server.close()


@effect("max_request_body", only="server")
async def bodies_end(bed: Bed) -> None:
    async with asgi_served(bed.certs, echo, max_request_body=4) as asgi:
        assert (await asgi.client.post("/", b"four")).status == 200
        assert (await asgi.client.post("/", b"five!", [("content-length", "5")])).status == 413


@effect("max_requests", only="server")
async def requests_of_a_server_end(bed: Bed) -> None:
    async with asgi_served(bed.certs, echo, max_requests=1) as asgi:
        exchange = asgi.client.open("POST", "/", fin=False)
        assert (await asgi.client.get("/")).status == 503
        exchange.send(b"x", True)
        assert (await exchange.finish()).status == 200


@effect("max_websocket_message", only="server")
async def long_messages_end_a_websocket(bed: Bed) -> None:
    async with asgi_served(bed.certs, echo_messages, max_websocket_message=4) as asgi:
        socket = WebSocketClient(asgi.client)
        await socket.answer()
        socket.send_bytes(b"four")
        assert await socket.message() == b"four"
        socket.send_bytes(b"five!")
        assert (await socket.closed())[0] == 1009


@effect("websocket_ping_interval", only="server")
async def websockets_are_pinged(bed: Bed) -> None:
    for interval, pings in ((0.01, True), (None, False)):
        async with asgi_served(bed.certs, echo_messages, websocket_ping_interval=interval) as asgi:
            socket = WebSocketClient(asgi.client)
            await socket.answer()
            if pings:
                assert isinstance(await socket.next(), Ping)
                assert (await socket.closed())[0] == 1011
            else:
                await asyncio.sleep(0.05)
                socket.send_bytes(b"here")
                assert isinstance(await socket.next(), BytesMessage)


@effect("request_timeout", only="server")
async def requests_that_stall_end(bed: Bed) -> None:
    async def read(scope: Any, receive: Any, send: Any) -> None:
        if (await receive())["type"] == "http.request":
            await answer(send)

    for seconds, status in ((0.05, 408), (None, 200)):
        async with asgi_served(bed.certs, read, request_timeout=seconds) as asgi:
            exchange = asgi.client.open("POST", "/", fin=False)
            if status == 200:
                await asyncio.sleep(0.1)
                exchange.send(b"", True)
            assert (await exchange.finish()).status == status
