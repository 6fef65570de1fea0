"""The end of a server with sessions over WebSocket, and new certificates under load."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from pathlib import Path
from typing import Any

import pytest
import websockets

from pywebtransport import WebTransportClient
from pywebtransport.session import WebTransportSession
from pywebtransport.types import EventType
from tests.support.certificates import Certificates
from tests.support.endpoints import make_client_config
from tests.support.qmux_server import QMuxServed, qmux_served, stream
from tests.support.steps import until
from tests.support.tcp_relay import tcp_relay

from .test_server import echo, rejected


async def stay(session: WebTransportSession) -> None:
    """Until the session ends."""
    await session.wait_closed()


def ended_well(code: int | None, frames: list[Any]) -> None:
    """The last frame closes the session with code 0, and then the WebSocket is closed."""
    last = frames[-1]
    assert (last.type, last.numbers, last.data) == (0x1D, (0,), b"server shutdown")
    assert code == 1000


async def test_sessions_are_closed_in_order(certs: Certificates) -> None:
    async with qmux_served(certs, stay) as served, served.session() as client:
        await until(lambda: len(served.server.sessions) == 1)
        closing = asyncio.ensure_future(served.server.close(drain_timeout=0))
        ended_well(*await client.end())
        await closing
        assert served.server.measure()["active_tcp_connections"] == 0


async def test_sessions_have_the_time_of_the_drain(certs: Certificates) -> None:
    """Streams go on, new clients are refused, and the server ends with the last session."""
    async with qmux_served(certs, echo) as served, served.session() as client:
        assert await client.echo(0, b"before") == b"before"
        closing = asyncio.ensure_future(served.server.close(drain_timeout=600))
        await until(lambda: not served.server.is_serving)
        with pytest.raises(ConnectionRefusedError):
            await served.raw()
        assert await client.echo(4, b"meanwhile") == b"meanwhile"
        assert not closing.done()
        await client.send(bytes.fromhex("1d0000"))
        assert (await client.end())[0] == 1000
        await closing


async def test_our_clients_are_told_of_the_drain(certs: Certificates) -> None:
    """Whether they are connected over QUIC or TCP."""
    config = make_client_config(certs, network=None, fallback="websocket", fallback_delay=0)
    async with (
        qmux_served(certs, stay) as served,
        tcp_relay(served.server.port) as relay,
        WebTransportClient(config=config) as client,
    ):
        sessions = [
            await client.connect(served.served.url()),
            await client.connect(f"https://127.0.0.1:{relay.port}/"),
        ]
        assert [session.transport for session in sessions] == ["quic", "websocket"]
        told = [
            asyncio.ensure_future(session.wait_for(EventType.SESSION_DRAINING))
            for session in sessions
        ]
        await until(lambda: len(served.server.sessions) == 2)
        closing = asyncio.ensure_future(served.server.close(drain_timeout=600))
        await asyncio.gather(*told)
        for session in sessions:
            await session.close()
        await closing


async def test_sessions_above_the_time_of_the_drain(certs: Certificates) -> None:
    async with qmux_served(certs, stay) as served, served.session() as client:
        await until(lambda: len(served.server.sessions) == 1)
        closing = asyncio.ensure_future(served.server.close(drain_timeout=0.2))
        ended_well(*await client.end())
        await closing


@pytest.mark.parametrize("is_writing", [False, True])
async def test_clients_that_do_not_read_do_not_hold_the_server(
    certs: Certificates, is_writing: bool
) -> None:
    """Neither a client that does not answer the end, nor one that takes nothing at all."""

    async def flood(session: WebTransportSession) -> None:
        outgoing = await session.create_unidirectional_stream()
        while True:
            await outgoing.write(bytes(65536))

    async with qmux_served(certs, flood if is_writing else stay, close_timeout=0.5) as served:
        clients = [await opened(served) for _ in range(3)]
        await until(lambda: len(served.server.sessions) == 3)
        for client in clients:
            client.transport.pause_reading()
        async with asyncio.timeout(20):
            await served.server.close(drain_timeout=0.1)
        assert served.server.measure()["active_tcp_connections"] == 0
        for client in clients:
            client.transport.abort()


async def opened(served: QMuxServed) -> Any:
    """A WebSocket that the test has to end, with a lot of credit."""
    socket = await served.websocket("/", ["qmux-02"])
    most = bytes.fromhex("c0000000ffffffff")
    parameters = b"".join(bytes([key, 8]) + most for key in (4, 5, 6, 7))
    parameters += bytes.fromhex("080240640902" + "4064")
    await socket.send(bytes.fromhex("ff5153300d0a0d0a") + bytes([len(parameters)]) + parameters)
    return socket


async def test_a_request_that_waits_at_the_end_is_refused(certs: Certificates) -> None:
    asked = asyncio.Event()

    async def gate(session: WebTransportSession) -> bool:
        asked.set()
        await session.wait_closed()
        return True

    async with qmux_served(certs, echo) as served:
        served.app.add_middleware(gate)
        refusal = asyncio.ensure_future(rejected(served))
        await asked.wait()
        await served.server.close(drain_timeout=0)
        assert (await refusal).status_code == 503


async def test_a_client_that_came_just_before_the_end_is_served(certs: Certificates) -> None:
    """Its connection is there, and its request comes while the server drains."""
    async with qmux_served(certs, echo) as served:
        raw = await served.raw()
        await until(lambda: served.server.tcp.arriving == 1)
        closing = asyncio.ensure_future(served.server.close(drain_timeout=600))
        await until(lambda: not served.server.is_serving)
        await raw.send(
            b"GET / HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
            b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n"
            b"sec-websocket-protocol: qmux-02\r\n\r\n"
        )
        assert (await raw.head()).startswith(b"HTTP/1.1 101 ")
        raw.close()
        await closing


async def test_a_cancelled_close_cuts_everything(certs: Certificates) -> None:
    async with qmux_served(certs, stay) as served:
        client = await opened(served)
        client.transport.pause_reading()
        await until(lambda: len(served.server.sessions) == 1)
        closing = asyncio.ensure_future(served.server.close(drain_timeout=600))
        await until(lambda: not served.server.is_serving)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        await until(lambda: served.server.tcp.open_count == 0)
        client.transport.abort()


async def test_new_certificates_under_load(certs: Certificates, tmp_path: Path) -> None:
    """Sessions go on, new ones see the new certificate, and none fails."""
    certfile, keyfile = tmp_path / "a.crt", tmp_path / "a.key"

    def install(pair: Any) -> None:
        shutil.copy(pair.certfile, certfile)
        shutil.copy(pair.keyfile, keyfile)

    def seen(socket: Any) -> bytes:
        found: ssl.SSLObject = socket.transport.get_extra_info("ssl_object")
        return found.getpeercert(True) or b""

    install(certs.server)
    files: dict[str, Any] = {"certfile": str(certfile), "keyfile": str(keyfile)}
    async with qmux_served(certs, echo, **files) as served, served.session() as old:
        leaves: list[bytes] = []

        async def load(stopped: asyncio.Event) -> None:
            while not stopped.is_set():
                async with served.session() as client:
                    assert await client.echo(0, b"x") == b"x"
                    leaves.append(seen(client.socket))

        stopped = asyncio.Event()
        tasks = [asyncio.ensure_future(load(stopped)) for _ in range(3)]
        await until(lambda: len(leaves) >= 3)
        install(certs.replacement)
        served.server.reload_certificates()
        count = len(leaves)
        await until(lambda: len(leaves) >= count + 9)
        stopped.set()
        await asyncio.gather(*tasks)
        assert leaves[0] == seen(old.socket) == certs.server.der
        assert leaves[-1] == certs.replacement.der
        assert await old.echo(0, b"old") == b"old"


async def test_the_server_ends_while_clients_come(certs: Certificates) -> None:
    """Each gets a session, a refusal, or no connection; nothing stays open."""
    async with qmux_served(certs, echo) as served:
        ended = asyncio.Event()
        results: list[str] = []

        async def come() -> None:
            while not ended.is_set():
                try:
                    async with served.session() as client:
                        await client.send(stream(0, b"x", fin=True))
                        await client.read(0)
                        results.append("served")
                except (OSError, websockets.WebSocketException) as error:
                    results.append(type(error).__name__)

        tasks = [asyncio.ensure_future(come()) for _ in range(5)]
        await until(lambda: results.count("served") >= 5)
        await served.server.close(drain_timeout=0.2)
        ended.set()
        await asyncio.gather(*tasks)
        assert served.server.measure()["active_tcp_connections"] == 0
        assert not served.server.connections
