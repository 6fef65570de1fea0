"""Requests over TCP that ask for no session: who answers them, and within which limits."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any

import pytest

from pywebtransport.session import WebTransportSession
from tests.support.asgi_http import answer
from tests.support.certificates import Certificates
from tests.support.descriptors import free_descriptors
from tests.support.qmux_server import qmux_served
from tests.support.steps import until

Log = pytest.LogCaptureFixture

DRIVERS = pytest.mark.parametrize("http2", [False, True], ids=["uvicorn", "hypercorn"])
UPGRADE = (
    b"GET / HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: keep-alive, Upgrade\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
CLOSE = b"connection: close\r\n"
VERSION = b"sec-websocket-version: 13\r\n"


async def echo(session: WebTransportSession) -> None:
    """Takes a session, and answers streams."""
    async for each in session.incoming_bidirectional_streams():
        await each.write_all(await each.read_all())


async def nobody(session: WebTransportSession) -> None:
    raise AssertionError("no session was asked for")


async def page(scope: Any, receive: Any, send: Any) -> None:
    """An application: a page that tells its path, and a WebSocket that tells its subprotocols."""
    if scope["type"] == "http":
        body = scope["path"].encode()
        await answer(send, body, 200, (b"content-length", b"%d" % len(body)))
        return
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": ",".join(scope["subprotocols"])})
    await receive()


REQUESTS = {
    "a page": (b"GET /page HTTP/1.1\r\nhost: a\r\n\r\n", 404),
    "HTTP/1.0": (b"GET / HTTP/1.0\r\n\r\n", 404),
    "a body": (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx", 405),
    "a line without a name": (b"GET / HTTP/1.1\r\nhost\r\n\r\n", 400),
    "a request without a version": (b"GET /\r\n\r\n", 400),
    "another protocol": (b"\x16\x03\x01\x02\x00\r\n\r\n", 400),
    "another upgrade": (b"GET / HTTP/1.1\r\nhost: a\r\nupgrade: h2c\r\n\r\n", 404),
    "nothing offered": (UPGRADE + VERSION + b"\r\n", 400),
    "something else offered": (UPGRADE + VERSION + b"sec-websocket-protocol: chat\r\n\r\n", 400),
    "the older framing": (UPGRADE + VERSION + b"sec-websocket-protocol: webtransport\r\n\r\n", 400),
    "an old version": (
        UPGRADE + b"sec-websocket-version: 8\r\nsec-websocket-protocol: qmux-02\r\n\r\n", 426
    ),
    "no version": (UPGRADE + b"sec-websocket-protocol: qmux-02\r\n\r\n", 426),
    "a large head": (b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 17000 + b"\r\n\r\n", 431),
    "a head without an end": (b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 17000, 431),
}  # fmt: skip


@pytest.mark.parametrize("kind", REQUESTS)
async def test_requests_for_no_session_get_a_short_answer(certs: Certificates, kind: str) -> None:
    request, status = REQUESTS[kind]
    async with qmux_served(certs, nobody) as served:
        found = await served.ask(request)
        assert (found.status, found.body) == (status, b"")
        assert found.headers["connection"] == "close"
        assert found.headers["content-length"] == "0"
        assert found.headers["alt-svc"] == f'h3=":{served.server.port}"; ma=86400'
        assert found.headers.get("allow") == ("GET" if status == 405 else None)
        assert found.headers.get("sec-websocket-version") == ("13" if status == 426 else None)
        stats = served.server.refresh_stats()
        assert (stats.tcp_requests_refused, stats.sessions_rejected) == (1, 0)
        await until(lambda: served.server.measure()["active_tcp_connections"] == 0)


async def test_a_head_may_come_in_pieces(certs: Certificates) -> None:
    async with qmux_served(certs, nobody) as served, await served.raw() as raw:
        for byte in b"\r\nGET / HTTP/1.1\r\nhost: a\r\n\r":
            await raw.send(bytes([byte]))
        await raw.send(b"\n")
        assert (await raw.rest()).startswith(b"HTTP/1.1 404 ")


async def test_slow_clients_are_cut(certs: Certificates) -> None:
    """Whatever they wait with: the TLS handshake, the request, or its end."""
    async with qmux_served(certs, nobody, handshake_timeout=0.3) as served:
        reader, writer = await asyncio.open_connection(served.served.host, served.served.port)
        silent, slow = await served.raw(), await served.raw()
        await slow.send(b"GET / HTTP/1.1\r\nho")
        assert (await slow.rest()).startswith(b"HTTP/1.1 408 ")
        assert await silent.rest() == b""
        assert await reader.read() == b""
        writer.close()
        for raw in (silent, slow):
            raw.close()
        await until(lambda: served.server.measure()["active_tcp_connections"] == 0)


async def test_silent_connections_of_one_address_leave_room_for_others(
    certs: Certificates,
) -> None:
    """They count before they have said anything."""
    async with qmux_served(
        certs, nobody, max_connections=3, max_connections_per_address=2
    ) as served:
        where = (served.served.host, served.served.port)
        silent = [await asyncio.open_connection(*where) for _ in range(2)]
        await until(lambda: served.server.measure()["active_tcp_connections"] == 2)
        with pytest.raises(ConnectionError):
            await served.raw()
        reader, writer = await asyncio.open_connection(
            *where, ssl=served.tls, local_addr=("127.0.0.2", 0)
        )
        writer.write(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 404 ")
        for each in (writer, *(pair[1] for pair in silent)):
            each.transport.abort()
        await until(lambda: served.server.measure()["active_tcp_connections"] == 0)
        assert served.server.refresh_stats().tcp_connections_rejected == 1


async def test_a_client_that_trickles_is_cut(certs: Certificates) -> None:
    """The time is that of the whole head."""
    async with qmux_served(certs, nobody, handshake_timeout=0.3) as served:
        raw = await served.raw()
        await raw.send(b"GET / HTTP/1.1\r\n")
        ended = asyncio.ensure_future(raw.rest())
        while not ended.done():
            raw.writer.write(b"x: y\r\n")
            await asyncio.wait([ended], timeout=0.02)
        assert (await ended).startswith(b"HTTP/1.1 408 ")
        raw.close()


async def test_floods_of_requests_are_hardly_logged(certs: Certificates, caplog: Log) -> None:
    caplog.set_level(logging.INFO)
    async with qmux_served(certs, nobody) as served:
        for _ in range(40):
            assert (await served.ask(b"GET / HTTP/1.1\r\n\r\n")).status == 404
    lines = [record for record in caplog.records if "asks for no session" in record.getMessage()]
    assert 1 <= len(lines) < 40


# ------------------------------------------------------------------ beside an application


@DRIVERS
@pytest.mark.parametrize(
    "request_of",
    [
        b"GET /a HTTP/1.1\r\nhost: a\r\n",
        b"POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n",
        b"GET /a HTTP/1.1\r\nhost: a\r\nupgrade: other\r\n",
        b"GET /a HTTP/1.1\r\nhost: a\r\nsec-websocket-protocol: qmux-02\r\n",
    ],
    ids=["a page", "a form", "another upgrade", "no upgrade"],
)
async def test_the_application_gets_the_other_requests(
    certs: Certificates, http2: bool, request_of: bytes
) -> None:
    async with qmux_served(certs, nobody, mount=page, mount_options={"http2": http2}) as served:
        found = await served.ask(request_of + CLOSE + b"\r\n")
        assert (found.status, found.body) == (200, b"/a")
        assert served.server.refresh_stats().tcp_requests_refused == 0


@DRIVERS
async def test_the_application_has_its_websockets(certs: Certificates, http2: bool) -> None:
    async with (
        qmux_served(certs, nobody, mount=page, mount_options={"http2": http2}) as served,
        served.websocket("/", ["chat", "webtransport"]) as socket,
    ):
        assert await socket.recv() == "chat,webtransport"


@DRIVERS
async def test_requests_that_come_in_pieces(certs: Certificates, http2: bool) -> None:
    async with (
        qmux_served(certs, nobody, mount=page, mount_options={"http2": http2}) as served,
        await served.raw() as raw,
    ):
        for (
            byte
        ) in b"POST /a HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 0\r\n\r\n":
            await raw.send(bytes([byte]))
        assert (await raw.rest()).endswith(b"/a")


async def test_http2_goes_to_the_application(certs: Certificates) -> None:
    import httpx

    async with qmux_served(certs, nobody, mount=page, mount_options={"http2": True}) as served:
        async with httpx.AsyncClient(verify=served.tls, http2=True, trust_env=False) as client:
            found = await client.get(served.served.url("/a"))
        assert (found.http_version, found.content) == ("HTTP/2", b"/a")


async def test_a_request_of_the_application_may_have_a_large_head(certs: Certificates) -> None:
    """Its limit is that of the application's server."""
    async with qmux_served(certs, nobody, mount=page) as served:
        line = b"x: " + b"y" * 30_000
        found = await served.ask(
            b"GET /a HTTP/1.1\r\nhost: a\r\nconnection: close\r\n%b\r\n\r\n" % line
        )
        assert found.status == 200


@DRIVERS
async def test_a_version_that_is_not_spoken_is_no_matter_of_the_application(
    certs: Certificates, http2: bool
) -> None:
    async with qmux_served(certs, nobody, mount=page, mount_options={"http2": http2}) as served:
        found = await served.ask(UPGRADE + b"sec-websocket-protocol: qmux-02\r\n\r\n")
        assert found.status == 426


async def test_a_session_on_a_connection_of_the_application(certs: Certificates) -> None:
    """Proxies use their connections again."""
    async with (
        qmux_served(certs, {"/wt": echo}, mount=page) as served,
        await served.raw() as raw,
    ):
        await raw.send(b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n")
        assert b" 200 " in await raw.head()
        assert await raw.reader.readexactly(2) == b"/a"
        upgrade = UPGRADE.replace(b"GET / ", b"GET /wt ")
        await raw.send(upgrade + VERSION + b"sec-websocket-protocol: qmux-02\r\n\r\n")
        head = await raw.head()
        assert b" 101 " in head
        assert b"qmux-02" in head
        await until(lambda: len(served.server.sessions) == 1)
        assert served.server.measure()["active_tcp_connections"] == 1
        raw.close()
        await until(lambda: served.server.measure()["active_tcp_connections"] == 0)


async def test_without_descriptors_connections_wait(certs: Certificates, caplog: Log) -> None:
    """They are accepted when there are some again."""
    async with qmux_served(certs, nobody) as served:
        with socket.socket() as client, free_descriptors(0):
            client.connect((served.served.host, served.served.port))
            await until(lambda: "TCP connections wait" in caplog.text)
        assert (await served.ask(b"GET / HTTP/1.1\r\n\r\n")).status == 404
        stats = served.server.refresh_stats()
        assert (stats.tcp_connections_accepted, stats.tcp_connections_rejected) == (1, 0)
